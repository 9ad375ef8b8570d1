//! Writes the golden datagrams of `replication/tests/golden_gossip`. Run by hand when the gossip
//! protocol gets a new version, never by a test:
//! `cargo run -p walengine-replication --example golden_gossip`.

#[path = "../tests/golden_gossip/datagrams.rs"]
mod datagrams;

fn main() -> std::io::Result<()> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden_gossip");
    for (name, bytes) in datagrams::datagrams() {
        std::fs::write(format!("{folder}/{name}.bin"), &bytes)?;
        println!("{name}.bin: {} bytes", bytes.len());
    }
    Ok(())
}
