//! Prints METRICS.md: `cargo run --example metrics_document -p walengine >engine/src/metrics/METRICS.md`. The test that
//! checks it never writes it.

fn main() -> std::io::Result<()> {
    use std::io::Write as _;
    std::io::stdout().write_all(walengine::metrics::document::document().as_bytes())
}
