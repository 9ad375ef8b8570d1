//! Settings of the server: flags, then environment, then a TOML file, then defaults.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

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

    /// Core of the first shard; the others follow. For several nodes on one machine [default: 0]
    #[arg(long, value_name = "N", env = "WALENGINE_FIRST_CORE")]
    pub first_core: Option<usize>,

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

    /// Address and port for the other nodes of a cluster, TCP and UDP; without it this node serves
    /// alone [default: none]
    #[arg(long, value_name = "ADDR:PORT", env = "WALENGINE_PEER_LISTEN")]
    pub peer_listen: Option<SocketAddr>,

    /// IP address that other nodes and clients reach this one by, if it listens on all of its own
    /// [default: the addresses that it listens on]
    #[arg(long, value_name = "ADDR", env = "WALENGINE_ADVERTISE")]
    pub advertise: Option<IpAddr>,

    /// Peer addresses of nodes of the cluster to join or form, separated by commas [default: none]
    #[arg(long, value_name = "ADDR:PORT,..", env = "WALENGINE_JOIN", value_delimiter = ',')]
    pub join: Option<Vec<SocketAddr>>,

    /// Form a new cluster, once, from this many new nodes that name each other in --join; without
    /// it a new node joins an existing one [default: join]
    #[arg(long, value_name = "N", env = "WALENGINE_EXPECT")]
    pub expect: Option<usize>,

    /// Voters that each partition is kept on, 1, 3 or 5; further nodes learn and stand by
    /// [default: 3]
    #[arg(long, value_name = "N", env = "WALENGINE_REPLICAS")]
    pub replicas: Option<usize>,

    /// Another node takes a voter's place when it has been dead for this long, in seconds
    /// [default: 600]
    #[arg(long, value_name = "SECONDS", env = "WALENGINE_DEAD_AFTER")]
    pub dead_after: Option<u64>,

    /// Election timeout in milliseconds: a follower that has heard nothing of a leader for so long
    /// stands for election, or up to a quarter earlier [default: 1000]
    #[arg(long, value_name = "MILLIS", env = "WALENGINE_ELECTION_MILLIS")]
    pub election_millis: Option<u64>,

    /// File of 32 random bytes, the same on every node, that authenticates gossip [default: none]
    #[arg(long, value_name = "FILE", env = "WALENGINE_KEY_FILE")]
    pub key_file: Option<PathBuf>,
}

/// Settings in force.
#[derive(Clone, Debug)]
pub struct Config {
    /// Shards to start.
    pub cores: usize,
    /// Core of the first.
    pub first_core: usize,
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
    /// How it is part of a cluster; `None`: it serves alone.
    pub cluster: Option<ClusterConfig>,
}

/// Settings of a node that is not alone.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Where peers and gossip connect.
    pub peer_listen: SocketAddr,
    /// How others reach this node, if not by the addresses that it listens on.
    pub advertise: Option<IpAddr>,
    /// Peer addresses of other nodes.
    pub join: Vec<SocketAddr>,
    /// Nodes to form a new cluster from; `None`: join one.
    pub expect: Option<usize>,
    /// Voters of each partition.
    pub replicas: usize,
    /// How long a voter is dead before another takes its place.
    pub dead_after: Duration,
    /// Time without a leader after which a follower stands for election, or a quarter earlier.
    pub election: Duration,
    /// Authenticates gossip.
    pub key: Option<[u8; 32]>,
}

impl ClusterConfig {
    /// An address of this node as others reach it.
    pub fn advertised(&self, address: SocketAddr) -> SocketAddr {
        SocketAddr::new(self.advertise.unwrap_or(address.ip()), address.port())
    }
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
            first_core: self.first_core.or(file.first_core),
            data: self.data.or(file.data),
            listen: self.listen.or(file.listen),
            partitions: self.partitions.or(file.partitions),
            segment_mib: self.segment_mib.or(file.segment_mib),
            reserve_mib: self.reserve_mib.or(file.reserve_mib),
            snapshot_mib: self.snapshot_mib.or(file.snapshot_mib),
            flushes: self.flushes.or(file.flushes),
            spin_micros: self.spin_micros.or(file.spin_micros),
            connections: self.connections.or(file.connections),
            peer_listen: self.peer_listen.or(file.peer_listen),
            advertise: self.advertise.or(file.advertise),
            join: self.join.or(file.join),
            expect: self.expect.or(file.expect),
            replicas: self.replicas.or(file.replicas),
            dead_after: self.dead_after.or(file.dead_after),
            election_millis: self.election_millis.or(file.election_millis),
            key_file: self.key_file.or(file.key_file),
        })
    }

    /// Settings in force, after checking that they make sense together.
    pub fn resolve(self) -> Result<Config, Fatal> {
        let machine = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let first_core = self.first_core.unwrap_or(0);
        within("first-core", first_core as u64, 0, machine as u64 - 1)?;
        let cores = self.cores.unwrap_or(machine - first_core);
        within("cores", cores as u64, 1, (machine - first_core) as u64)?;
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
        let listen = self.listen.unwrap_or_else(|| {
            ADDRESS_DEFAULT.parse().expect("the default address is well-formed")
        });
        let cluster = self.cluster(listen)?;
        Ok(Config {
            cores,
            first_core,
            data: self.data.unwrap_or_else(|| PathBuf::from("walengine-data")),
            listen,
            partitions: self.partitions,
            segment_bytes: segment_mib * MIB,
            reserve_bytes: reserve_mib * MIB,
            snapshot_bytes: snapshot_mib * MIB,
            flush_inflight_max: flushes,
            spin_micros,
            connections_max: connections,
            cluster,
        })
    }

    fn cluster(&self, listen: SocketAddr) -> Result<Option<ClusterConfig>, Fatal> {
        let usage = |message: &str| Err(Fatal::new(Reason::Usage, message));
        let Some(peer_listen) = self.peer_listen else {
            if self.join.is_some() || self.expect.is_some() {
                return usage("--join and --expect need --peer-listen, where other nodes connect");
            }
            return Ok(None);
        };
        let unspecified = |address: SocketAddr| address.ip().is_unspecified();
        if self.advertise.is_none() && (unspecified(peer_listen) || unspecified(listen)) {
            return usage("a node that listens on all addresses must be told which to --advertise");
        }
        let replicas = self.replicas.unwrap_or(3);
        if ![1, 3, 5].contains(&replicas) {
            let message = format!("--replicas is {replicas}; it must be 1, 3 or 5");
            return Err(Fatal::new(Reason::Usage, message));
        }
        if let Some(expect) = self.expect {
            within("expect", expect as u64, 1, 7)?;
        }
        let election_millis = self.election_millis.unwrap_or(1000);
        within("election-millis", election_millis, 100, 60_000)?;
        let dead_after = self.dead_after.unwrap_or(600);
        within("dead-after", dead_after, 1, 1 << 24)?;
        let key = self.key_file.as_deref().map(read_key).transpose()?;
        Ok(Some(ClusterConfig {
            peer_listen,
            advertise: self.advertise,
            join: self.join.clone().unwrap_or_default(),
            expect: self.expect,
            replicas,
            dead_after: Duration::from_secs(dead_after),
            election: Duration::from_millis(election_millis),
            key,
        }))
    }
}

fn read_key(path: &Path) -> Result<[u8; 32], Fatal> {
    let at = path.display();
    let bytes = std::fs::read(path).map_err(|error| {
        Fatal::new(Reason::File, format!("cannot read --key-file {at}: {error}"))
    })?;
    <[u8; 32]>::try_from(&bytes[..]).map_err(|_| {
        let found = bytes.len();
        let make = "head -c 32 /dev/urandom > FILE makes one";
        Fatal::new(Reason::File, format!("--key-file {at} has {found} bytes, not 32; {make}"))
    })
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
