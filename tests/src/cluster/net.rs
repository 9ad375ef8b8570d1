//! The network of a simulated cluster. Requests and answers are delayed, lost and doubled; streams
//! keep their order, as TCP does, and break anywhere; a direction between two nodes can be cut.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::async_runtime::{Mpsc, MpscReceiver, MpscSender, Oneshot, OneshotSender};
use walengine::local::Notify;
use walengine::runtime::Runtime;
use walengine_replication::runtime::{LocalRuntime, within};
use walengine_replication::transport::{
    AppendStream, Request, Response, Transport, TransportError,
};
use walengine_replication::types::{Member, NodeId};

use super::node::SimPartition;
use crate::sim::{Rng, SimRuntime};

/// Messages of a stream that are on their way at once.
const STREAM_MESSAGES: usize = 16;
/// How often a cut stream checks whether it may go on.
const CUT_LOOK: Duration = Duration::from_millis(5);
/// A stream that stays cut for longer breaks.
const CUT_LOOKS_MAX: u32 = 400;

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
pub struct NetFaults {
    /// Shortest and longest way of a message, in microseconds.
    pub delay_micros: (u64, u64),
    /// Requests and answers that are lost, of 1,000.
    pub lost_per_mille: u64,
    /// Requests that arrive twice, of 1,000.
    pub doubled_per_mille: u64,
    /// Messages of a stream behind which it breaks, of 1,000.
    pub broken_per_mille: u64,
}

impl NetFaults {
    /// Nothing is lost.
    pub const NONE: Self = Self {
        delay_micros: (50, 200),
        lost_per_mille: 0,
        doubled_per_mille: 0,
        broken_per_mille: 0,
    };
}

/// See the module. Clones are the same network.
#[derive(Clone)]
pub struct SimNet {
    inner: Rc<Inner>,
}

struct Inner {
    runtime: SimRuntime,
    rng: RefCell<Rng>,
    faults: Cell<NetFaults>,
    nodes: RefCell<BTreeMap<NodeId, (SimRuntime, SimPartition)>>,
    /// Directions in which nothing passes.
    cut: RefCell<BTreeSet<(NodeId, NodeId)>>,
}

impl SimNet {
    /// A network without nodes. `runtime` must not be a node's own: the network outlives them.
    pub fn new(runtime: &SimRuntime, seed: u64) -> Self {
        let inner = Inner {
            runtime: runtime.clone(),
            rng: RefCell::new(Rng::new(seed)),
            faults: Cell::new(NetFaults::NONE),
            nodes: RefCell::default(),
            cut: RefCell::default(),
        };
        Self { inner: Rc::new(inner) }
    }

    /// How bad it is from now on.
    pub fn set_faults(&self, faults: NetFaults) {
        self.inner.faults.set(faults);
    }

    /// A node answers from now on.
    pub fn attach(&self, id: NodeId, runtime: SimRuntime, partition: SimPartition) {
        self.inner.nodes.borrow_mut().insert(id, (runtime, partition));
    }

    /// A node is gone.
    pub fn detach(&self, id: NodeId) {
        let gone = self.inner.nodes.borrow_mut().remove(&id);
        drop(gone); // after the borrow
    }

    /// Nothing passes from one node to another, or everything again.
    pub fn cut(&self, from: NodeId, to: NodeId, cut: bool) {
        let mut cuts = self.inner.cut.borrow_mut();
        let _ = if cut { cuts.insert((from, to)) } else { cuts.remove(&(from, to)) };
    }

    /// Everything passes again.
    pub fn heal(&self) {
        self.inner.cut.borrow_mut().clear();
    }

    /// A node's way to the others.
    pub fn transport(&self, from: NodeId) -> SimTransport {
        SimTransport { net: self.clone(), from }
    }

    fn chance(&self, per_mille: u64) -> bool {
        self.inner.rng.borrow_mut().below(1000) < per_mille
    }

    async fn delay(&self) {
        let (low, high) = self.inner.faults.get().delay_micros;
        let micros = self.inner.rng.borrow_mut().between(low, high);
        self.inner.runtime.sleep(Duration::from_micros(micros)).await;
    }

    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.inner.cut.borrow().contains(&(from, to))
    }

    /// A single message passes, after a while, or never.
    async fn pass(&self, from: NodeId, to: NodeId) {
        self.delay().await;
        if self.is_cut(from, to) || self.chance(self.inner.faults.get().lost_per_mille) {
            pending::<()>().await;
        }
    }

    /// Asks a node's partition, once or twice, and brings the answer, or loses it.
    pub async fn ask<T: 'static, F: Future<Output = T> + 'static>(
        &self,
        from: NodeId,
        target: NodeId,
        ask: impl Fn(SimPartition) -> F,
    ) -> Result<T, TransportError> {
        self.pass(from, target).await;
        let (runtime, partition) = self.node(target)?;
        if self.chance(self.inner.faults.get().doubled_per_mille) {
            let (net, again) = (self.clone(), ask(partition.clone()));
            let late = async move {
                net.delay().await;
                drop(again.await);
            };
            runtime.spawn(within(runtime.clone(), late));
        }
        let (sender, answer) = OneshotOf::channel();
        let asked = ask(partition);
        let asked = async move {
            let _ = sender.send(asked.await);
        };
        runtime.spawn(within(runtime.clone(), asked));
        let answer = answer.await.map_err(|_| TransportError::Broken(target))?;
        self.pass(target, from).await;
        Ok(answer)
    }

    fn node(&self, id: NodeId) -> Result<(SimRuntime, SimPartition), TransportError> {
        self.inner.nodes.borrow().get(&id).cloned().ok_or(TransportError::Unreachable(id))
    }

    /// Carries the messages of one direction of a stream until it breaks or ends.
    async fn carry<T>(
        self,
        (from, to): (NodeId, NodeId),
        mut messages: impl MpscReceiver<T>,
        arrive: impl AsyncFn(T) -> bool,
        broken: Rc<Broken>,
    ) {
        loop {
            let breaks = broken.notify.changed();
            if broken.is.get() {
                return;
            }
            let next = async { Some(messages.recv().await) };
            let breaks = async {
                breaks.await;
                None
            };
            // It has ended or is broken already; the other direction goes on or has noticed.
            let Some(Some(message)) = futures_lite::future::or(next, breaks).await else { return };
            self.delay().await;
            let mut looks = 0;
            while self.is_cut(from, to) && looks < CUT_LOOKS_MAX {
                self.inner.runtime.sleep(CUT_LOOK).await;
                looks += 1;
            }
            let breaks = self.chance(self.inner.faults.get().broken_per_mille);
            if looks == CUT_LOOKS_MAX || breaks || !arrive(message).await {
                break;
            }
        }
        broken.is.set(true);
        broken.notify.notify_all();
    }
}

/// Both directions of a stream break together.
#[derive(Default)]
struct Broken {
    is: Cell<bool>,
    notify: Notify,
}

/// A node's way to the others.
#[derive(Clone)]
pub struct SimTransport {
    net: SimNet,
    from: NodeId,
}

type Channels = <LocalRuntime as AsyncRuntime>::Mpsc;
type OneshotOf = <LocalRuntime as AsyncRuntime>::Oneshot;

impl Transport for SimTransport {
    fn call(
        &self,
        target: NodeId,
        _member: Member,
        request: Request,
    ) -> impl Future<Output = Result<Response, TransportError>> + 'static {
        let (net, from) = (self.net.clone(), self.from);
        async move {
            let answer = net.ask(from, target, |partition| {
                let request = request.clone();
                async move { partition.commit().answer(from, request).await }
            });
            answer.await?.map_err(|why| why.from_node(target))
        }
    }

    fn open(
        &self,
        target: NodeId,
        _member: Member,
    ) -> impl Future<Output = Result<AppendStream, TransportError>> + 'static {
        let (net, from) = (self.net.clone(), self.from);
        async move {
            net.pass(from, target).await;
            net.pass(target, from).await;
            let (runtime, partition) = net.node(target)?;
            let (requests, sent) = Channels::channel(STREAM_MESSAGES);
            let (arrives, received) = Channels::channel(STREAM_MESSAGES);
            let (answers, answered) = Channels::channel(STREAM_MESSAGES);
            let (told, results) = Channels::channel(STREAM_MESSAGES);
            let broken = Rc::new(Broken::default());
            let there = net.clone().carry(
                (from, target),
                sent,
                async move |message| arrives.send(message).await.is_ok(),
                broken.clone(),
            );
            let back = net.clone().carry(
                (target, from),
                answered,
                async move |message| told.send(message).await.is_ok(),
                broken,
            );
            let root = &net.inner.runtime;
            root.spawn(within(root.clone(), there));
            root.spawn(within(root.clone(), back));
            let takes = async move {
                let _ = partition.commit().take_appends(from, received, answers).await;
            };
            runtime.spawn(within(runtime.clone(), takes));
            Ok(AppendStream { requests, results })
        }
    }
}
