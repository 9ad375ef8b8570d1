//! Does every command of the book do what the page says, and does every link lead somewhere?

use std::path::Path;
use std::process::Command;

use walengine_tests::projector::binary as projector;
use walengine_tests::server::{TestDir, binary, text};

#[test]
fn commands_of_the_book_do_what_their_pages_say() {
    let dir = TestDir::new("book");
    assert!(projector().exists(), "{} is missing", projector().display());
    let mut book = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("book.sh"));
    let output = book.arg(binary().parent().unwrap()).arg(dir.path()).output().unwrap();
    println!("{}", text(&output));
    assert!(output.status.success(), "the book differs from the programs: see above");
}
