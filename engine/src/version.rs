//! What this program calls itself.

/// Name and version, as clients and other nodes see them.
pub const SERVER_VERSION: &str = concat!("walengine ", env!("CARGO_PKG_VERSION"));
