//! Settings of the server: flags, then environment, then a TOML file, then defaults.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use walengine_net::cli::{LogFormat, LogLevel};

use crate::addresses::{HostPort, resolve};
use crate::fatal::{Fatal, Reason};
use crate::os;
use crate::policy::POLICY_FILE;

/// Name of the file with the keys of gossip in the directory of credentials.
pub const GOSSIP_KEY_FILE: &str = "gossip.key";

/// Address that the server listens on, and that commands look for, unless told otherwise.
pub const ADDRESS_DEFAULT: &str = "127.0.0.1:7450";
/// Port of HTTP, on the loopback interface, unless told otherwise.
pub const HTTP_PORT_DEFAULT: u16 = 7480;

const MIB: u64 = 1 << 20;

/// Settings as a person gives them; the same names in all three places.
#[derive(Clone, Debug, Default, clap::Args, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeOptions {
    /// Cores to run on, one shard each [default: all that this process may use]
    #[arg(long, value_name = "N", env = "WALENGINE_CORES")]
    pub cores: Option<usize>,

    /// Of the cores that this process may use, the one of the first shard, counted from 0; the others
    /// follow. For several nodes on one machine [default: 0]
    #[arg(long, value_name = "N", env = "WALENGINE_FIRST_CORE")]
    pub first_core: Option<usize>,

    /// Data directory; formatted on first use [default: ./walengine-data]
    #[arg(long, value_name = "DIR", env = "WALENGINE_DATA")]
    pub data: Option<PathBuf>,

    /// Address or host name, and port, for clients [default: 127.0.0.1:7450]
    #[arg(long, value_name = "HOST:PORT", env = "WALENGINE_LISTEN")]
    pub listen: Option<String>,

    /// Address and port for HTTP: health, metrics and the API in JSON; `off`: none [default:
    /// 127.0.0.1:7480, unless another program has that]
    #[arg(long, value_name = "HOST:PORT", env = "WALENGINE_HTTP")]
    pub http: Option<String>,

    /// Further host names by which HTTP may be asked for, separated by commas; requests for other names
    /// are turned away [default: none]
    #[arg(long, value_name = "NAME,..", env = "WALENGINE_HTTP_NAMES", value_delimiter = ',')]
    pub http_names: Option<Vec<String>>,

    /// Where the projector serves its metrics, for the console and /api/v1/projector [default: not asked]
    #[arg(long, value_name = "HOST:PORT", env = "WALENGINE_PROJECTOR_METRICS")]
    pub projector_metrics: Option<String>,

    /// Address and port where Kafka consumers read the log as the topic `walengine`; `off`: none [default: off]
    #[arg(long, value_name = "HOST:PORT", env = "WALENGINE_KAFKA")]
    pub kafka: Option<String>,

    /// Where Kafka consumers reach this node, if not at the address that they came in at
    #[arg(long, value_name = "HOST[:PORT]", env = "WALENGINE_KAFKA_ADVERTISE")]
    pub kafka_advertise: Option<String>,

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

    /// Speed at which the log is read again in the background to find rot, in MiB per second and
    /// partition; 0: not at all [default: 4]
    #[arg(long, value_name = "N", env = "WALENGINE_SCRUB_MIB")]
    pub scrub_mib: Option<u64>,

    /// Most client connections, per core [default: 4096]
    #[arg(long, value_name = "N", env = "WALENGINE_CONNECTIONS")]
    pub connections: Option<usize>,

    /// Address and port for the other nodes of a cluster, TCP and UDP; without it this node serves
    /// alone [default: none]
    #[arg(long, value_name = "HOST:PORT", env = "WALENGINE_PEER_LISTEN")]
    pub peer_listen: Option<String>,

    /// Host that other nodes and clients reach this one by, if it listens on all of its addresses or
    /// behind another one; with a port if clients reach it by another than it listens on
    /// [default: the addresses that it listens on]
    #[arg(long, value_name = "HOST[:PORT]", env = "WALENGINE_ADVERTISE")]
    pub advertise: Option<String>,

    /// Host and port that other nodes reach this one by, TCP and UDP, if not by --advertise and the port
    /// of --peer-listen [default: those]
    #[arg(long, value_name = "HOST[:PORT]", env = "WALENGINE_ADVERTISE_PEER")]
    pub advertise_peer: Option<String>,

    /// Peer addresses of nodes of the cluster to join or form, separated by commas [default: none]
    #[arg(long, value_name = "HOST:PORT,..", env = "WALENGINE_JOIN", value_delimiter = ',')]
    pub join: Option<Vec<String>>,

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

    /// Take this machine's clock as right, though it is more than a year ahead of the log
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", env = "WALENGINE_TRUST_CLOCK")]
    pub trust_clock: Option<bool>,

    /// Most memory that the server may take, in MiB: before it is used up, writes are refused, and reads go
    /// on; status shows what uses it [default: half of what the control group or the machine has]
    #[arg(long, value_name = "MIB", env = "WALENGINE_MEMORY_MIB")]
    pub memory_mib: Option<u64>,

    /// File with a key that seals gossip, 64 hexadecimal digits, the same on every node; a second one on
    /// its next line is opened, too, while keys are exchanged [default: gossip.key in the directory of
    /// --tls, if it is there]
    #[arg(long, value_name = "FILE", env = "WALENGINE_KEY_FILE")]
    pub key_file: Option<PathBuf>,

    /// Directory with this node's certificate, its key and whom it believes, as `walengine cert` makes it:
    /// every connection is then encrypted and both ends prove who they are [default: none]
    #[arg(long, value_name = "DIR", env = "WALENGINE_TLS")]
    pub tls: Option<PathBuf>,

    /// What each identity may do, with --tls [default: policy.toml in that directory]
    #[arg(long, value_name = "FILE", env = "WALENGINE_POLICY")]
    pub policy: Option<PathBuf>,

    /// Take connections without certificates on addresses that others can reach
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL", env = "WALENGINE_INSECURE")]
    pub insecure: Option<bool>,

    /// How log lines are written to standard error [default: text]
    #[arg(long, value_name = "FORMAT", value_enum, env = "WALENGINE_LOG_FORMAT")]
    #[serde(deserialize_with = "named", serialize_with = "name")]
    pub log_format: Option<LogFormat>,

    /// The least important log lines that are written [default: info]
    #[arg(long, value_name = "LEVEL", value_enum, env = "WALENGINE_LOG_LEVEL")]
    #[serde(deserialize_with = "named", serialize_with = "name")]
    pub log_level: Option<LogLevel>,
}

/// A setting that is one of some words, as the flag takes them.
fn named<'de, T: clap::ValueEnum, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(from)?;
    T::from_str(&text, false).map(Some).map_err(|_| {
        let names = T::value_variants().iter().filter_map(clap::ValueEnum::to_possible_value);
        let names: Vec<String> = names.map(|name| name.get_name().to_owned()).collect();
        serde::de::Error::custom(format!("{text:?} is not one of {}", names.join(", ")))
    })
}

/// The word of such a setting.
#[expect(clippy::ref_option, reason = "serde calls it so")]
fn name<T: clap::ValueEnum, S: serde::Serializer>(
    setting: &Option<T>,
    into: S,
) -> Result<S::Ok, S::Error> {
    let word = setting.as_ref().and_then(clap::ValueEnum::to_possible_value);
    word.map(|word| word.get_name().to_owned()).serialize(into)
}

/// Settings in force.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of credentials; `None`: connections are not secured.
    pub tls: Option<PathBuf>,
    /// The policy file, and whether it may be missing; `None` without certificates, since nobody then has
    /// an identity.
    pub policy: Option<(PathBuf, bool)>,
    /// Others may reach this node though its connections are not secured.
    pub insecure: bool,
    /// The node's number, if its certificate says it.
    pub node: Option<u64>,
    /// Shards to start.
    pub cores: usize,
    /// The core of each, as the system numbers them.
    pub shard_cores: Vec<usize>,
    /// Data directory.
    pub data: PathBuf,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where HTTP is taken.
    pub http: HttpConfig,
    /// Where Kafka consumers are taken.
    pub kafka: KafkaConfig,
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
    /// Bytes of log that are read again to find rot, per second and partition; 0: none.
    pub scrub_bytes: u64,
    /// Most client connections, per core.
    pub connections_max: usize,
    /// The clock is right however far it is ahead of the log.
    pub trust_clock: bool,
    /// Most memory to take; `None`: half of what the system allows.
    pub memory_bytes: Option<u64>,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Which of them.
    pub log_level: LogLevel,
    /// How it is part of a cluster; `None`: it serves alone.
    pub cluster: Option<ClusterConfig>,
}

impl Config {
    /// A setting by which others than this machine can reach the node, and the address.
    pub fn reachable(&self) -> Option<(&'static str, SocketAddr)> {
        let peers = self.cluster.as_ref().map(|cluster| ("--peer-listen", cluster.peer_listen));
        let http = self.http.address.map(|address| ("--http", address));
        let kafka = self.kafka.address.map(|address| ("--kafka", address));
        let mut all = [Some(("--listen", self.listen)), peers, http, kafka].into_iter().flatten();
        all.find(|(_, address)| !address.ip().to_canonical().is_loopback())
    }
}

impl Config {
    /// Whoever gossips or greets proves that it belongs to the cluster, by its key or its certificate. Without
    /// that, a node that is not on the loopback is taken in by an operator only.
    pub fn proves_nodes(&self) -> bool {
        self.tls.is_some()
            || self.cluster.as_ref().is_some_and(|cluster| cluster.key_file.is_some())
    }
}

/// Where Kafka consumers are taken.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// `None`: nowhere.
    pub address: Option<SocketAddr>,
    /// What they are told to connect to; `None`: where they came in.
    pub advertise: Option<HostPort>,
}

/// Where HTTP is taken.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// `None`: nowhere.
    pub address: Option<SocketAddr>,
    /// A person has named the address: without it the node does not start.
    pub is_asked_for: bool,
    /// Host names by which it may be asked for, besides `localhost`.
    pub names: Vec<String>,
    /// Where the projector serves its metrics, if anybody has said so.
    pub projector: Option<String>,
}

/// Settings of a node that is not alone.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Where peers and gossip connect.
    pub peer_listen: SocketAddr,
    /// How clients reach this node, if not by the address that it listens on.
    pub advertise: Option<HostPort>,
    /// Where other nodes reach this one.
    pub peer_address: SocketAddr,
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
    /// Holds the keys of gossip; none: it is not sealed.
    pub key_file: Option<PathBuf>,
}

impl ClusterConfig {
    /// Where clients reach this node, which listens on `address`.
    pub fn client_address(&self, address: SocketAddr) -> String {
        match &self.advertise {
            Some(advertised) => advertised.shown(address.port()),
            None => address.to_string(),
        }
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
            http: self.http.or(file.http),
            http_names: self.http_names.or(file.http_names),
            projector_metrics: self.projector_metrics.or(file.projector_metrics),
            kafka: self.kafka.or(file.kafka),
            kafka_advertise: self.kafka_advertise.or(file.kafka_advertise),
            reserve_mib: self.reserve_mib.or(file.reserve_mib),
            snapshot_mib: self.snapshot_mib.or(file.snapshot_mib),
            flushes: self.flushes.or(file.flushes),
            spin_micros: self.spin_micros.or(file.spin_micros),
            scrub_mib: self.scrub_mib.or(file.scrub_mib),
            connections: self.connections.or(file.connections),
            peer_listen: self.peer_listen.or(file.peer_listen),
            advertise: self.advertise.or(file.advertise),
            advertise_peer: self.advertise_peer.or(file.advertise_peer),
            join: self.join.or(file.join),
            expect: self.expect.or(file.expect),
            replicas: self.replicas.or(file.replicas),
            dead_after: self.dead_after.or(file.dead_after),
            election_millis: self.election_millis.or(file.election_millis),
            trust_clock: self.trust_clock.or(file.trust_clock),
            memory_mib: self.memory_mib.or(file.memory_mib),
            key_file: self.key_file.or(file.key_file),
            tls: self.tls.or(file.tls),
            policy: self.policy.or(file.policy),
            insecure: self.insecure.or(file.insecure),
            log_format: self.log_format.or(file.log_format),
            log_level: self.log_level.or(file.log_level),
        })
    }

    /// Settings in force, after checking that they make sense together.
    pub fn resolve(self) -> Result<Config, Fatal> {
        let shard_cores = self.shard_cores(&os::allowed_cores())?;
        let segment_mib = self.segment_mib.unwrap_or(128);
        within("segment-mib", segment_mib, 8, 4096)?;
        let flushes = self.flushes.unwrap_or(4);
        within("flushes", flushes as u64, 1, 64)?;
        let connections = self.connections.unwrap_or(4096);
        within("connections", connections as u64, 1, 65_536)?;
        let spin_micros = self.spin_micros.unwrap_or(20);
        within("spin-micros", spin_micros, 0, 100)?;
        let scrub_mib = self.scrub_mib.unwrap_or(4);
        within("scrub-mib", scrub_mib, 0, 1024)?;
        let snapshot_mib = self.snapshot_mib.unwrap_or(256);
        within("snapshot-mib", snapshot_mib, 1, 1 << 20)?;
        let reserve_mib = self.reserve_mib.unwrap_or(512);
        within("reserve-mib", reserve_mib, 0, 1 << 24)?;
        if let Some(partitions) = self.partitions {
            within("partitions", u64::from(partitions), 1, 1024)?;
        }
        if let Some(memory_mib) = self.memory_mib {
            within("memory-mib", memory_mib, 64, 1 << 24)?;
        }
        let listen = resolve(self.listen.as_deref().unwrap_or(ADDRESS_DEFAULT), "--listen")?;
        let cluster = self.cluster(listen)?;
        let http = self.http()?;
        let kafka = self.kafka()?;
        Ok(Config {
            http,
            kafka,
            policy: policy_file(self.policy, self.tls.as_deref())?,
            tls: self.tls,
            insecure: self.insecure.unwrap_or(false),
            node: None,
            cores: shard_cores.len(),
            shard_cores,
            data: self.data.unwrap_or_else(|| PathBuf::from("walengine-data")),
            listen,
            partitions: self.partitions,
            segment_bytes: segment_mib * MIB,
            reserve_bytes: reserve_mib * MIB,
            snapshot_bytes: snapshot_mib * MIB,
            flush_inflight_max: flushes,
            spin_micros,
            scrub_bytes: scrub_mib * MIB,
            connections_max: connections,
            trust_clock: self.trust_clock.unwrap_or(false),
            memory_bytes: self.memory_mib.map(|mib| mib * MIB),
            log_format: self.log_format.unwrap_or_default(),
            log_level: self.log_level.unwrap_or_default(),
            cluster,
        })
    }

    /// The cores to run on, of those that this process may use.
    fn shard_cores(&self, allowed: &[usize]) -> Result<Vec<usize>, Fatal> {
        let first = self.first_core.unwrap_or(0);
        let left = allowed.get(first..).unwrap_or_default();
        let quota = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let cores = self.cores.unwrap_or(left.len().min(quota));
        if cores >= 1 && cores <= left.len() {
            return Ok(left[..cores].to_vec());
        }
        let asked = match (self.cores, self.first_core) {
            (Some(cores), None) => format!("--cores is {cores}"),
            (None, _) => format!("--first-core is {first}"),
            (Some(cores), Some(first)) => {
                format!("--cores is {cores} from --first-core {first} on")
            }
        };
        let (count, list) = (allowed.len(), in_ranges(allowed));
        let message = format!(
            "{asked}: this process may use {count} of the machine's cores, {list} (taskset, a cpuset \
             or a container confines it); --first-core counts them from 0, and at least one must be left"
        );
        Err(Fatal::new(Reason::Usage, message))
    }

    fn kafka(&self) -> Result<KafkaConfig, Fatal> {
        let address = match self.kafka.as_deref() {
            None | Some("off") => None,
            Some(address) => Some(resolve(address, "--kafka")?),
        };
        let advertise = advertised(self.kafka_advertise.as_deref(), "--kafka-advertise")?;
        Ok(KafkaConfig { address, advertise })
    }

    fn http(&self) -> Result<HttpConfig, Fatal> {
        let address = match self.http.as_deref() {
            Some("off") => None,
            Some(address) => Some(resolve(address, "--http")?),
            None => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, HTTP_PORT_DEFAULT))),
        };
        let host = |text: &Option<String>| {
            Some(HostPort::parse(text.as_deref()?)?.host).filter(|host| !host.is_empty())
        };
        let advertised = host(&self.advertise);
        let names = self.http_names.iter().flatten().cloned().chain(advertised);
        Ok(HttpConfig {
            address,
            is_asked_for: self.http.is_some(),
            names: names.collect(),
            projector: self.projector_metrics.clone(),
        })
    }

    fn cluster(&self, listen: SocketAddr) -> Result<Option<ClusterConfig>, Fatal> {
        let usage = |message: &str| Err(Fatal::new(Reason::Usage, message));
        let Some(peer_listen) = &self.peer_listen else {
            if self.join.is_some() || self.expect.is_some() {
                return usage("--join and --expect need --peer-listen, where other nodes connect");
            }
            return Ok(None);
        };
        let peer_listen = resolve(peer_listen, "--peer-listen")?;
        let unspecified = |address: SocketAddr| address.ip().is_unspecified();
        if self.advertise.is_none() && (unspecified(peer_listen) || unspecified(listen)) {
            return usage("a node that listens on all addresses must be told which to --advertise");
        }
        let advertise = advertised(self.advertise.as_deref(), "--advertise")?;
        let of_peer = advertised(self.advertise_peer.as_deref(), "--advertise-peer")?;
        let peer_address = match (&of_peer, &advertise) {
            (Some(of_peer), _) => of_peer.resolve(peer_listen.port(), "--advertise-peer")?,
            (None, Some(host)) => {
                let host = HostPort { port: None, ..host.clone() };
                host.resolve(peer_listen.port(), "--advertise")?
            }
            (None, None) => peer_listen,
        };
        let join = self.join.iter().flatten().map(|text| resolve(text, "--join"));
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
        let key_file = gossip_key_file(self.key_file.as_deref(), self.tls.as_deref());
        Ok(Some(ClusterConfig {
            peer_listen,
            advertise,
            peer_address,
            join: join.collect::<Result<_, _>>()?,
            expect: self.expect,
            replicas,
            dead_after: Duration::from_secs(dead_after),
            election: Duration::from_millis(election_millis),
            key_file,
        }))
    }
}

fn advertised(text: Option<&str>, flag: &str) -> Result<Option<HostPort>, Fatal> {
    let Some(text) = text else { return Ok(None) };
    let found = HostPort::parse(text).ok_or_else(|| {
        let message = format!("{flag} is '{text}': it must be HOST or HOST:PORT");
        Fatal::new(Reason::Usage, message)
    })?;
    Ok(Some(found))
}

/// Ascending numbers as people write them: `0-3,8`.
fn in_ranges(numbers: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let shown = ranges.iter().map(|(first, last)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    });
    shown.collect::<Vec<_>>().join(",")
}

/// The policy file, and whether it may be missing: the one that is named, which may not; otherwise the one
/// in the directory of credentials.
fn policy_file(
    named: Option<PathBuf>,
    credentials: Option<&Path>,
) -> Result<Option<(PathBuf, bool)>, Fatal> {
    match (named, credentials) {
        (Some(named), Some(_)) => Ok(Some((named, false))),
        (None, Some(dir)) => Ok(Some((dir.join(POLICY_FILE), true))),
        (None, None) => Ok(None),
        (Some(_), None) => {
            let message =
                "--policy says what those may do who prove who they are: give --tls DIR, too";
            Err(Fatal::new(Reason::Usage, message))
        }
    }
}

/// The file with the keys of gossip: the one that is named; otherwise the one in the directory of
/// credentials, if there is one.
fn gossip_key_file(named: Option<&Path>, credentials: Option<&Path>) -> Option<PathBuf> {
    let beside = || credentials.map(|dir| dir.join(GOSSIP_KEY_FILE)).filter(|path| path.exists());
    named.map(Path::to_owned).or_else(beside)
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
    fn shards_run_on_the_cores_that_the_process_may_use() {
        let options = |cores, first_core| ServeOptions { cores, first_core, ..Default::default() };
        for (cores, first, allowed, expected) in [
            (1, None, vec![1], vec![1]), // taskset -c 1
            (2, None, vec![3, 5, 6], vec![3, 5]),
            (2, Some(1), vec![3, 5, 6], vec![5, 6]),
        ] {
            assert_eq!(options(Some(cores), first).shard_cores(&allowed).unwrap(), expected);
        }
        for (cores, first, allowed) in [
            (Some(2), None, vec![1]),
            (Some(0), None, vec![1]),
            (None, Some(1), vec![1]),
            (Some(2), Some(2), vec![3, 5, 6]),
        ] {
            let error = options(cores, first).shard_cores(&allowed).unwrap_err();
            assert_eq!(error.reason, Reason::Usage);
            assert!(error.message.contains("may use"), "{error}");
        }
        assert_eq!(in_ranges(&[0, 1, 2, 8, 10, 11]), "0-2,8,10-11");
    }

    #[test]
    fn an_advertised_port_is_the_clients_and_hosts_may_have_names() {
        let options = |advertise: Option<&str>, advertise_peer: Option<&str>| ServeOptions {
            listen: Some("0.0.0.0:7450".to_owned()),
            peer_listen: Some("0.0.0.0:7451".to_owned()),
            advertise: advertise.map(str::to_owned),
            advertise_peer: advertise_peer.map(str::to_owned),
            join: Some(vec!["localhost:7461".to_owned()]),
            ..Default::default()
        };
        for (advertise, advertise_peer, client, peer) in [
            ("10.0.0.7", None, "10.0.0.7:7450", "10.0.0.7:7451"),
            ("localhost", None, "localhost:7450", "127.0.0.1:7451"),
            ("10.0.0.7:30450", None, "10.0.0.7:30450", "10.0.0.7:7451"),
            ("10.0.0.7:30450", Some("10.0.0.7:30451"), "10.0.0.7:30450", "10.0.0.7:30451"),
            ("localhost:1", Some("10.0.0.8"), "localhost:1", "10.0.0.8:7451"),
        ] {
            let config = options(Some(advertise), advertise_peer).resolve().unwrap();
            let (listen, cluster) = (config.listen, config.cluster.unwrap());
            assert_eq!(cluster.client_address(listen), client);
            assert_eq!(cluster.peer_address.to_string(), peer);
            assert_eq!(cluster.join[0].port(), 7461);
        }
        let error = options(None, None).resolve().unwrap_err();
        assert!(error.message.contains("--advertise"), "{error}");
        let error = options(Some("not a host"), None).resolve().unwrap_err();
        assert!(error.message.contains("HOST:PORT"), "{error}");
    }

    #[test]
    fn the_key_file_is_the_one_that_is_named_or_the_one_beside_the_certificates() {
        let dir = std::env::temp_dir().join(format!("walengine-tls-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let found = |named: Option<&str>| {
            let options = ServeOptions {
                peer_listen: Some("127.0.0.1:7461".to_owned()),
                tls: Some(dir.clone()),
                key_file: named.map(PathBuf::from),
                ..Default::default()
            };
            options.resolve().unwrap().cluster.unwrap().key_file
        };
        assert_eq!(found(None), None);
        std::fs::write(dir.join("gossip.key"), "").unwrap();
        assert_eq!(found(None), Some(dir.join("gossip.key")));
        assert_eq!(found(Some("other")), Some(PathBuf::from("other")));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_policy_is_the_one_that_is_named_or_the_one_beside_the_certificates() {
        let found = |named: Option<&str>, tls: Option<&str>| {
            policy_file(named.map(PathBuf::from), tls.map(Path::new))
        };
        let is = |path: &str, may_be_missing| Some((PathBuf::from(path), may_be_missing));
        assert_eq!(found(None, None).unwrap(), None);
        assert_eq!(found(None, Some("tls")).unwrap(), is("tls/policy.toml", true));
        assert_eq!(found(Some("p"), Some("tls")).unwrap(), is("p", false));
        let error = found(Some("p"), None).unwrap_err();
        assert!(error.message.contains("--tls"), "{error}");
    }

    #[test]
    fn senseless_settings_are_refused_by_name() {
        let options = ServeOptions { cores: Some(0), ..Default::default() };
        let error = options.resolve().unwrap_err();
        assert_eq!(error.reason, Reason::Usage);
        assert!(error.message.contains("--cores is 0"), "{error}");
    }
}
