//! Does the package for Python keep the client's promises, from its wheel on, and are its types true?
//!
//! The tests are in Python, in `python/tests/`. This builds the package, installs it and runs them.

use std::path::Path;
use std::process::Command;

use walengine_tests::credentials::Credentials;
use walengine_tests::server::{Launch, TestDir, text};

#[test]
fn the_package_passes_its_tests_and_type_checks() {
    let dir = TestDir::new("python");
    let server = Launch::new(dir.path()).set("--cores", "2").serve();
    let credentials = Credentials::make(&dir.path().join("credentials"));
    let secured_dir = dir.path().join("secured");
    std::fs::create_dir(&secured_dir).unwrap();
    let node = credentials.of("node-1");
    let secured = Launch::new(&secured_dir).set("--tls", node.to_str().unwrap()).serve();

    let mut tests = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../python/test.sh"));
    tests.args([server.address(), secured.address()].map(|address| address.to_string()));
    let output = tests.arg(credentials.of("client-payments")).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}
