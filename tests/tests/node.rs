//! Does the package for Node keep the client's promises, and are its types those of the server's document?
//!
//! The tests are in JavaScript, in `node/test/`. This starts the servers and runs them.

use std::path::Path;
use std::process::Command;

use walengine_tests::credentials::Credentials;
use walengine_tests::server::{Launch, TestDir, text};

#[test]
fn the_package_passes_its_tests_and_its_types_are_those_of_the_document() {
    let dir = TestDir::new("node");
    let server = Launch::new(dir.path()).set("--http", "127.0.0.1:0").serve();
    let credentials = Credentials::make(&dir.path().join("credentials"));
    let secured_dir = dir.path().join("secured");
    std::fs::create_dir(&secured_dir).unwrap();
    let secured = Launch::new(&secured_dir)
        .set("--http", "127.0.0.1:0")
        .set("--tls", credentials.of("node-1").to_str().unwrap())
        .serve();

    let mut tests = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/test.sh"));
    tests.args([server.http_url(), secured.http_url()]).arg(credentials.of("client-payments"));
    let output = tests.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}
