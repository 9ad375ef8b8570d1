//! Writes the golden frames of `replication/tests/golden`. Run by hand when the peer protocol gets
//! a new version, never by a test: `cargo run -p walengine-replication --example golden_peer_frames`.

#[path = "../tests/golden/frames.rs"]
mod frames;

fn main() -> std::io::Result<()> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    for (name, bytes) in frames::frames() {
        std::fs::write(format!("{folder}/{name}.bin"), &bytes)?;
        println!("{name}.bin: {} bytes", bytes.len());
    }
    Ok(())
}
