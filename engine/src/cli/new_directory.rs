//! What commands that make a data directory share.

use std::path::Path;

use walengine_net::say;

use super::export::digest_text;
use super::log_time::shown;
use crate::rewrite::Rewritten;

/// Says what a partition that was written again comes to.
pub fn rewritten(one: &Rewritten) {
    say!(
        "partition {}: next offset {}, log time {}, state {}",
        one.partition,
        one.end.next_offset,
        shown(one.end.timestamp),
        digest_text(&one.digest)
    );
}

/// Says which partitions end amid an import.
pub fn amid_imports<'a>(partitions: impl Iterator<Item = &'a Rewritten>) {
    for one in partitions.filter(|one| one.is_amid_import) {
        say!(
            "partition {} ends amid an import, and takes nothing else until that is finished: run \
             `walengine import` with the same file again",
            one.partition
        );
    }
}

/// Says how a directory that was made is started.
pub fn how_to_start(dir: &Path, peer_address: Option<&str>) {
    let dir = dir.display();
    match peer_address {
        None => say!("start it: walengine --data {dir}"),
        Some(address) => say!(
            "start it: walengine --data {dir} --peer-listen {address}; others join it with --join \
             {address} and an empty --data"
        ),
    }
}

/// A peer address of a node that others join.
pub fn peer_address(text: &str) -> Result<String, String> {
    let address: std::net::SocketAddr =
        text.parse().map_err(|_| "write ADDR:PORT, such as 10.0.0.1:7550".to_owned())?;
    if address.ip().is_unspecified() || address.port() == 0 {
        return Err("other nodes must be able to reach it: name one address and port".to_owned());
    }
    Ok(address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_must_be_able_to_reach_a_peer_address() {
        assert_eq!(peer_address("10.0.0.1:7550").unwrap(), "10.0.0.1:7550");
        for wrong in ["0.0.0.0:7550", "host", "10.0.0.1:0"] {
            assert!(peer_address(wrong).is_err(), "{wrong}");
        }
    }
}
