//! Settings of the server: flags, then environment, then a TOML file, then defaults.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::fatal::{Fatal, Reason};

/// Address that the server listens on, and that commands look for, unless told otherwise.
pub const ADDRESS_DEFAULT: &str = "127.0.0.1:7450";

const MIB: u64 = 1 << 20;

/// Settings as a person gives them; the same names in all three places.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeOptions {
    /// Cores to run on, one shard each [default: all of them]
    #[arg(long, value_name = "N", env = "WALENGINE_CORES")]
    pub cores: Option<usize>,

    /// Data directory; formatted on first use [default: ./walengine-data]
    #[arg(long, value_name = "DIR", env = "WALENGINE_DATA")]
    pub data: Option<PathBuf>,

    /// Address and port for clients [default: 127.0.0.1:7450]
    #[arg(long, value_name = "ADDR:PORT", env = "WALENGINE_LISTEN")]
    pub listen: Option<SocketAddr>,

    /// Partitions of a new data directory; fixed from then on [default: one a core]
    #[arg(long, value_name = "N", env = "WALENGINE_PARTITIONS")]
    pub partitions: Option<u16>,

    /// Segment size of a new data directory, in MiB [default: 128]
    #[arg(long, value_name = "MIB", env = "WALENGINE_SEGMENT_MIB")]
    pub segment_mib: Option<u64>,

    /// Refuse writes when less disk than this is free, in MiB [default: 512]
    #[arg(long, value_name = "MIB", env = "WALENGINE_RESERVE_MIB")]
    pub reserve_mib: Option<u64>,

    /// Log written since the last snapshot that starts a new one, in MiB; a larger state waits for
    /// as much log as the state is large [default: 256]
    #[arg(long, value_name = "MIB", env = "WALENGINE_SNAPSHOT_MIB")]
    pub snapshot_mib: Option<u64>,

    /// Most flushes in flight, per partition [default: 4]
    #[arg(long, value_name = "N", env = "WALENGINE_FLUSHES")]
    pub flushes: Option<usize>,

    /// How long an idle core spins before it sleeps, in microseconds; long spinning starves the
    /// kernel threads that complete writes [default: 20]
    #[arg(long, value_name = "MICROS", env = "WALENGINE_SPIN_MICROS")]
    pub spin_micros: Option<u64>,

    /// Most client connections, per core [default: 4096]
    #[arg(long, value_name = "N", env = "WALENGINE_CONNECTIONS")]
    pub connections: Option<usize>,
}

/// Settings in force.
#[derive(Clone, Debug)]
pub struct Config {
    /// Shards to start.
    pub cores: usize,
    /// Data directory.
    pub data: PathBuf,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Partitions of a new data directory; `None`: one a core. An old one knows its own.
    pub partitions: Option<u16>,
    /// Segment size of a new data directory.
    pub segment_bytes: u64,
    /// Free space below which writes are refused.
    pub reserve_bytes: u64,
    /// Log since the last snapshot that starts a new one.
    pub snapshot_bytes: u64,
    /// Most flushes in flight, per partition.
    pub flush_inflight_max: usize,
    /// How long an idle core spins.
    pub spin_micros: u64,
    /// Most client connections, per core.
    pub connections_max: usize,
}

impl ServeOptions {
    /// Fills what is not set from a TOML file.
    pub fn or_file(self, path: &Path) -> Result<Self, Fatal> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Fatal::new(Reason::File, format!("cannot read settings {}: {error}", path.display()))
        })?;
        let file: Self = toml::from_str(&text).map_err(|error| {
            let reason = error.message();
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            let at = path.display();
            Fatal::new(Reason::Usage, format!("settings {at}, line {line}: {reason}"))
        })?;
        Ok(Self {
            cores: self.cores.or(file.cores),
            data: self.data.or(file.data),
            listen: self.listen.or(file.listen),
            partitions: self.partitions.or(file.partitions),
            segment_mib: self.segment_mib.or(file.segment_mib),
            reserve_mib: self.reserve_mib.or(file.reserve_mib),
            snapshot_mib: self.snapshot_mib.or(file.snapshot_mib),
            flushes: self.flushes.or(file.flushes),
            spin_micros: self.spin_micros.or(file.spin_micros),
            connections: self.connections.or(file.connections),
        })
    }

    /// Settings in force, after checking that they make sense together.
    pub fn resolve(self) -> Result<Config, Fatal> {
        let machine = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let cores = self.cores.unwrap_or(machine);
        within("cores", cores as u64, 1, machine as u64)?;
        let segment_mib = self.segment_mib.unwrap_or(128);
        within("segment-mib", segment_mib, 8, 4096)?;
        let flushes = self.flushes.unwrap_or(4);
        within("flushes", flushes as u64, 1, 64)?;
        let connections = self.connections.unwrap_or(4096);
        within("connections", connections as u64, 1, 65_536)?;
        let spin_micros = self.spin_micros.unwrap_or(20);
        within("spin-micros", spin_micros, 0, 100)?;
        let snapshot_mib = self.snapshot_mib.unwrap_or(256);
        within("snapshot-mib", snapshot_mib, 1, 1 << 20)?;
        let reserve_mib = self.reserve_mib.unwrap_or(512);
        within("reserve-mib", reserve_mib, 0, 1 << 24)?;
        if let Some(partitions) = self.partitions {
            within("partitions", u64::from(partitions), 1, 1024)?;
        }
        Ok(Config {
            cores,
            data: self.data.unwrap_or_else(|| PathBuf::from("walengine-data")),
            listen: self.listen.unwrap_or_else(|| {
                ADDRESS_DEFAULT.parse().expect("the default address is well-formed")
            }),
            partitions: self.partitions,
            segment_bytes: segment_mib * MIB,
            reserve_bytes: reserve_mib * MIB,
            snapshot_bytes: snapshot_mib * MIB,
            flush_inflight_max: flushes,
            spin_micros,
            connections_max: connections,
        })
    }
}

fn within(name: &str, value: u64, min: u64, max: u64) -> Result<(), Fatal> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let message = format!("--{name} is {value}; it must be from {min} to {max}");
    Err(Fatal::new(Reason::Usage, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let dir = std::env::temp_dir().join(format!("walengine-config-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("settings.toml");
        std::fs::write(&path, "cores = 1\nflushes = 7\n").unwrap();
        let flags = ServeOptions { flushes: Some(2), ..Default::default() };
        let config = flags.or_file(&path).unwrap().resolve().unwrap();
        assert_eq!((config.cores, config.flush_inflight_max), (1, 2));
        assert_eq!(config.segment_bytes, 128 << 20);

        std::fs::write(&path, "cores = 1\nflusses = 7\n").unwrap();
        let error = ServeOptions::default().or_file(&path).unwrap_err();
        assert!(error.message.contains("line 2") && error.message.contains("flusses"), "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn senseless_settings_are_refused_by_name() {
        let options = ServeOptions { cores: Some(0), ..Default::default() };
        let error = options.resolve().unwrap_err();
        assert_eq!(error.reason, Reason::Usage);
        assert!(error.message.contains("--cores is 0"), "{error}");
    }
}
