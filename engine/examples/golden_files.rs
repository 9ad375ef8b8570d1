//! Writes the golden files of the disk format: `cargo run --example golden_files -- DIR`. Only for a
//! new version of the format; the test that checks them never does.

#[path = "../tests/golden/values.rs"]
mod values;

fn main() -> std::io::Result<()> {
    let Some(dir) = std::env::args().nth(1) else {
        eprintln!("usage: golden_files DIR");
        std::process::exit(2);
    };
    for (name, bytes) in values::encode() {
        std::fs::write(std::path::Path::new(&dir).join(name), bytes)?;
    }
    Ok(())
}
