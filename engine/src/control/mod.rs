//! The control thread of a node in a cluster: gossip with the other nodes, and what it tells the
//! shards of them. Starts before there is a cluster; ends with the process. Nothing of the data
//! path runs here.

pub mod joining;
pub mod key_file;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use walengine_net::model::{ClusterId, PartitionId};
use walengine_replication::executor::Runtime as _;
use walengine_replication::gossip::{
    Gossip, NodeMeta, NodeView, Output, Settings, Standing, Warning,
};

use self::key_file::KeyFile;
use crate::cluster_view::{ClusterView, Twin};
use crate::config::{ClusterConfig, Config};
use crate::data_dir::forming::FormingFile;
use crate::fatal::{Fatal, Reason};
use crate::limits::{
    CONTROL_WAIT_MAX, DATAGRAM_BYTES_MAX, DATAGRAMS_AT_ONCE_MAX, FAREWELL_WITHIN,
    GOSSIP_TELL_EVERY, MEET_WITHIN, TWIN_SHOWN,
};
use crate::node_state::NodeState;
use crate::orders::{ClusterEvent, ControlOrder, ShardOrder};
use crate::runtime_glommio::GlommioRuntime;
use crate::trouble::{self, Said};
use crate::version::SERVER_VERSION;

/// Handle to the control thread.
pub struct Control {
    orders: flume::Sender<ControlOrder>,
    /// What it tells.
    pub events: flume::Receiver<ClusterEvent>,
    thread: std::thread::JoinHandle<()>,
}

impl Control {
    /// Starts gossip on `socket`. `cluster` is what the data directory says, if it is formatted.
    pub fn start(
        config: &Config,
        settings: &ClusterConfig,
        forming: FormingFile,
        cluster: Option<(ClusterId, u16)>,
        socket: UdpSocket,
        client_address: String,
    ) -> Result<Self, Fatal> {
        let now = GlommioRuntime::new().now();
        let node = forming.node();
        let key_file = settings.key_file.clone().map(KeyFile::open).transpose()?;
        let meta = NodeMeta {
            client_address,
            cores: config.cores as u16,
            version: SERVER_VERSION.to_owned(),
            led: BTreeMap::new(),
            free_bytes: 0,
            leaving: false,
        };
        let settings = Settings {
            node,
            peer_address: settings.peer_address,
            seeds: settings.join.clone(),
            keys: key_file.as_ref().map(|file| file.keys().clone()),
            expect: settings.expect,
            partitions: config.partitions.unwrap_or(config.cores as u16),
            boot: now,
            meta: meta.clone(),
        };
        let standing = Standing { cluster, promise: forming.promise().cloned() };
        let started = Instant::now();
        let seed = uuid::Uuid::new_v4().as_u128() as u64;
        let gossip = Gossip::new(settings, standing, seed, Duration::ZERO)
            .map_err(|error| Fatal::new(Reason::Usage, format!("gossip: {error}")))?;
        let (orders, ordered) = flume::bounded(256);
        let (telling, events) = flume::bounded(64);
        let thread = ControlThread {
            gossip,
            forming,
            socket,
            started,
            orders: ordered,
            events: telling,
            meta,
            joined: None,
            serving: None,
            leads: BTreeMap::new(),
            told: Duration::ZERO,
            changed: true,
            unheard: None,
            twins: Vec::new(),
            is_id_claimed: false,
            said: Said::default(),
        };
        let handle = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || thread.run())
            .map_err(|error| {
                Fatal::new(Reason::Preflight, format!("cannot start a thread: {error}"))
            })?;
        if let Some(key_file) = key_file {
            key_file.watch(orders.clone());
        }
        Ok(Self { orders, events, thread: handle })
    }

    /// Ways to tell it something.
    pub fn orders(&self) -> flume::Sender<ControlOrder> {
        self.orders.clone()
    }

    /// Ends it; first it tells the cluster, if this node leaves.
    pub fn stop(self, leaves: bool) {
        // It may have ended by itself, which was told.
        let _ = self.orders.send(if leaves { ControlOrder::Leave } else { ControlOrder::Stop });
        let _ = self.thread.join();
    }
}

struct ControlThread {
    gossip: Gossip,
    forming: FormingFile,
    socket: UdpSocket,
    started: Instant,
    orders: flume::Receiver<ControlOrder>,
    events: flume::Sender<ClusterEvent>,
    meta: NodeMeta,
    /// The cluster that this node has just joined, and when: not told yet.
    joined: Option<(ClusterId, u16, Duration)>,
    serving: Option<(Arc<NodeState>, Vec<flume::Sender<ShardOrder>>)>,
    leads: BTreeMap<usize, Vec<(PartitionId, u64)>>,
    /// When this node's facts were told last.
    told: Duration,
    changed: bool,
    /// A view that not every shard has taken.
    unheard: Option<Arc<ClusterView>>,
    /// Nodes whose id was used twice, and when.
    twins: Vec<(Twin, Duration)>,
    /// It was said that another node has this one's id.
    is_id_claimed: bool,
    /// Troubles of nodes that were said.
    said: Said,
}

impl ControlThread {
    fn run(mut self) {
        let failed = match self.serve() {
            Ok(()) => return,
            Err(fatal) => fatal,
        };
        tracing::error!("{failed}");
        let _ = self.events.send(ClusterEvent::Failed(failed)); // the process may be ending
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn serve(&mut self) -> Result<(), Fatal> {
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            while let Ok(order) = self.orders.try_recv() {
                match order {
                    ControlOrder::Serve(state, shards) => {
                        self.serving = Some((state, shards));
                        self.changed = true;
                    }
                    ControlOrder::Leads(shard, leads) => drop(self.leads.insert(shard, leads)),
                    ControlOrder::Introduce(node, address) => {
                        let now = self.now();
                        self.gossip.introduce(node, address, now);
                    }
                    ControlOrder::TellNodes(to) => {
                        // Whoever asked may have gone.
                        let _ = to.try_send(self.gossip.nodes().collect());
                    }
                    ControlOrder::Keys(keys) => self.gossip.set_keys(&keys),
                    ControlOrder::Leave => return self.say_goodbye(),
                    ControlOrder::Stop => return Ok(()),
                }
            }
            self.tell();
            self.gossip.tick(self.now());
            self.put_out()?;
            self.tell_joined();
            self.show();
            let wait = self.gossip.next_wake().saturating_sub(self.now()).min(CONTROL_WAIT_MAX);
            self.receive(&mut datagram, wait)?;
        }
    }

    /// Takes what has come, waiting a while for the first.
    fn receive(&mut self, datagram: &mut [u8], wait: Duration) -> Result<(), Fatal> {
        let failed = |error: std::io::Error| {
            Fatal::new(Reason::Listen, format!("the socket for gossip failed: {error}"))
        };
        let wait = wait.max(Duration::from_micros(100)); // zero would be for ever
        self.socket.set_read_timeout(Some(wait)).map_err(failed)?;
        for _ in 0..DATAGRAMS_AT_ONCE_MAX {
            match self.socket.recv_from(datagram) {
                Ok((bytes, from)) => {
                    let now = self.now();
                    self.gossip.handle(from, &datagram[..bytes], now);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => break,
                    // What was sent earlier met nobody, or a signal came.
                    ErrorKind::ConnectionRefused
                    | ErrorKind::ConnectionReset
                    | ErrorKind::Interrupted => {}
                    _ => return Err(failed(error)),
                },
            }
            self.put_out()?;
        }
        Ok(())
    }

    /// Does what gossip wants done.
    fn put_out(&mut self) -> Result<(), Fatal> {
        while let Some(output) = self.gossip.next_output() {
            match output {
                // It may be lost, as any datagram.
                Output::Send { to, bytes } => drop(self.socket.send_to(&bytes, to)),
                Output::Changed => self.changed = true,
                Output::SavePromise(promise) => {
                    self.forming.save(promise)?;
                    let now = self.now();
                    self.gossip.promise_saved(now);
                }
                Output::Formed(founding) => self.tell_event(ClusterEvent::Formed(founding)),
                Output::Joined { cluster, partitions } => {
                    self.joined = Some((cluster, partitions, self.now()));
                }
                Output::Warning(warning @ Warning::NodeIdInUse { .. }) => {
                    tracing::warn!(
                        "{warning}, as gossip has it: it is asked where the cluster has this node"
                    );
                    self.is_id_claimed = true;
                    self.changed = true;
                }
                Output::Warning(Warning::NodeIdUsedTwice { node, known, claimed_by }) => {
                    self.twins.retain(|(twin, _)| twin.node != node);
                    self.twins.push((Twin { node, known, claimed_by }, self.now()));
                    self.changed = true;
                }
                Output::Warning(warning @ Warning::FormsBesideCluster { .. })
                    if self.serving.is_none() =>
                {
                    tracing::error!("{warning}");
                }
                Output::Warning(warning) => tracing::warn!("{warning}"),
                _ => {}
            }
        }
        Ok(())
    }

    /// Tells that this node has joined, as soon as it knows others whose logs it can copy.
    fn tell_joined(&mut self) {
        let Some((cluster, partitions, since)) = self.joined else { return };
        let own = self.forming.node();
        let others = |view: &NodeView| view.node != own && view.cluster == Some(cluster);
        let nodes: Vec<_> = self.gossip.nodes().filter(others).collect();
        if !nodes.is_empty() || self.now().saturating_sub(since) > MEET_WITHIN {
            self.joined = None;
            self.tell_event(ClusterEvent::Joined(cluster, partitions, nodes));
        }
    }

    fn tell_event(&self, event: ClusterEvent) {
        // Nobody listens any more once the node serves.
        let _ = self.events.try_send(event);
    }

    /// Tells gossip of this node, now and then.
    fn tell(&mut self) {
        let now = self.now();
        let Some((state, _)) = &self.serving else { return };
        if now.saturating_sub(self.told) < GOSSIP_TELL_EVERY {
            return;
        }
        self.told = now;
        state.gossip_dropped.set(self.gossip.counters());
        let meta = NodeMeta {
            led: self.leads.values().flatten().copied().collect(),
            free_bytes: state.free_bytes.load(Ordering::Relaxed),
            leaving: state.is_leaving.load(Ordering::Relaxed),
            ..self.meta.clone()
        };
        if let Err(error) = self.gossip.set_meta(meta) {
            tracing::error!("this node's facts do not fit gossip: {error}");
        }
        self.gossip.tell_condition(state.condition(GlommioRuntime::new().now()), now);
        let before = self.twins.len();
        self.twins.retain(|(_, since)| now.saturating_sub(*since) < TWIN_SHOWN);
        self.changed |= self.twins.len() != before;
    }

    /// Tells the shards of the cluster, if it looks different. One whose queue is full is told
    /// next time.
    fn show(&mut self) {
        let Some((_, shards)) = &self.serving else { return };
        if self.changed {
            self.changed = false;
            let (nodes, at) = (self.gossip.nodes().collect(), self.now());
            let twins = self.twins.iter().map(|(twin, _)| *twin).collect();
            let is_id_claimed = self.is_id_claimed;
            let view = ClusterView { nodes, twins, is_id_claimed, at, taken: Instant::now() };
            let (begins, ends) = self.said.news(&trouble::of_nodes(&view, self.forming.node()));
            for text in begins {
                tracing::warn!("{text}");
            }
            for text in ends {
                tracing::info!("over: {text}");
            }
            self.unheard = Some(Arc::new(view));
        }
        let Some(view) = self.unheard.take() else { return };
        for shard in shards {
            if shard.try_send(ShardOrder::Cluster(view.clone())).is_err() {
                self.unheard = Some(view.clone());
            }
        }
    }

    fn say_goodbye(&mut self) -> Result<(), Fatal> {
        self.gossip.leave(self.now());
        let until = self.now() + FAREWELL_WITHIN;
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        while !self.gossip.has_left() && self.now() < until {
            self.gossip.tick(self.now());
            self.put_out()?;
            self.receive(&mut datagram, CONTROL_WAIT_MAX)?;
        }
        Ok(())
    }
}
