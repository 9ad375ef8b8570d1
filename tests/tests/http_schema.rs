//! Does the API do what its own `OpenAPI` document says, to whoever reads only that?

use std::path::Path;
use std::process::Command;

use walengine_tests::server::{Launch, TestDir, text};

#[test]
fn the_api_is_as_its_document_says_and_a_generated_client_makes_a_transfer() {
    let dir = TestDir::new("http-schema");
    let server = Launch::new(dir.path()).set("--http", "127.0.0.1:0").serve();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("http_schema.sh");
    let output = Command::new(script).arg(server.http_url()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}
