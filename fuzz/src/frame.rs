//! Frames from a client, through the codec and a server's session, and a server's frames through
//! the client.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use walengine::budget::Budget;
use walengine::caller::Caller;
use walengine::connection::outbox::Outbox;
use walengine::connection::request_ids::RequestIds;
use walengine::feed::connection::Connection;
use walengine::feed::published::Published;
use walengine::feed::source::Source;
use walengine::limits::READ_WAIT_MAX;
use walengine::partition::Partition;
use walengine::partition::replica_id::ReplicaId;
use walengine::policy::Permit;
use walengine::runtime::Runtime;
use walengine::session::node_facts::NodeFacts;
use walengine::session::{Handled, Scratch, Session};
use walengine::storage::archive::Archive;
use walengine::storage::partition_dir;
use walengine_net::frame::{self, Frame, FrameError, HEADER_BYTES};
use walengine_net::message::{
    ActFor, ActForReply, AdminReply, AdmitNode, ClusterStatus, ClusterStatusReply, ImportLog,
    ImportLogReply, Leave, LeaveAnyway, RemoveNode, StateDigest, StateDigestReply,
    TransferLeadership,
};
use walengine_net::message::{
    Append, Credit, ErrorReply, Hello, HelloReply, ListAccounts, ListAccountsReply, LogPage,
    LookupAccounts, LookupAccountsReply, LookupTransfers, LookupTransfersReply, Message,
    ReadEntries, ReadLog, ServerStatus, ServerStatusReply, Status, StatusReply, Submit,
    SubmitReply, SubmitSpanning, SubmitSpanningReply, Subscribe, Unsubscribe, UnsubscribeReply,
    open,
};
use walengine_net::message::{
    FindNames, FindNamesReply, ListLedgers, ListLedgersReply, ListReservations,
    ListReservationsReply, LookupNames, LookupNamesReply,
};
use walengine_tests::lone_partition::{DATA, LoneCommit, SEGMENT_BYTES, start};
use walengine_tests::memory_disk::MemoryDisk;
use walengine_tests::sim::{Order, SimExecutor, SimRuntime};

use crate::Fuzz;

/// Inputs after which the server is replaced, so that its memory stays small.
const INPUTS_PER_SERVER: u32 = 1000;
/// In which what needs no waiting is answered.
const SETTLES_WITHIN: Duration = Duration::from_millis(3);

/// A server with one partition on a disk in memory.
pub struct Server {
    executor: SimExecutor,
    disk: MemoryDisk,
    partition: Partition<LoneCommit<MemoryDisk>>,
    node: Rc<NodeFacts<LoneCommit<MemoryDisk>>>,
    scratch: Rc<RefCell<Scratch>>,
    inputs: u32,
}

impl Server {
    /// An empty one.
    pub fn new() -> Self {
        let executor = SimExecutor::new(1, Order::Fifo);
        let disk = MemoryDisk::new([]);
        let (partition, node) = start(&executor, &disk);
        Self { executor, disk, partition, node, scratch: Rc::default(), inputs: 0 }
    }

    /// The connection's part on the feed.
    fn feed(&self, outbox: &Rc<Outbox>) -> Connection<MemoryDisk, SimRuntime> {
        let published = Arc::new(Published::default());
        published.tell(self.partition.visible(), self.partition.log().last_segment());
        let ReplicaId { cluster, partition, .. } = self.partition.id();
        let dir = partition_dir(Path::new(DATA), partition);
        let archive = Archive::new(self.disk.clone(), dir, cluster, partition, SEGMENT_BYTES);
        let source =
            Rc::new(Source::new(published, archive, &Budget::new(1 << 20), Budget::default()));
        let ids = RequestIds::default();
        let permit = Permit::new(&self.node.state.policies, Caller::default());
        let runtime = self.executor.runtime();
        Connection::new(partition, source, outbox.clone(), ids, permit, runtime)
    }

    /// Runs one connection from start to end.
    fn serve(&self, input: &[u8], signature: &mut DefaultHasher) {
        let outbox = Rc::new(Outbox::default());
        let mut session = Session::new(
            self.partition.clone(),
            self.node.clone(),
            outbox.clone(),
            self.scratch.clone(),
            Caller::default(),
        );
        // The feed's side, once there is a subscription.
        let mut feed: Option<Connection<_, _>> = None;
        let mut rest = input;
        loop {
            let consumed = match frame::peek(rest) {
                Ok(Some(frame)) if feed.as_ref().is_some_and(|feed| feed.handle(&frame)) => {
                    frame.frame_bytes()
                }
                Ok(Some(frame)) => match session.handle(&frame) {
                    Handled::Here => frame.frame_bytes(),
                    Handled::Subscribes => {
                        assert!(feed.is_none(), "the feed takes subscriptions of this partition");
                        feed = Some(self.feed(&outbox));
                        continue;
                    }
                    Handled::Close => break,
                },
                Err(
                    FrameError::Kind { frame_bytes, .. } | FrameError::Flags { frame_bytes, .. },
                ) => frame_bytes,
                Ok(None) | Err(_) => break,
            };
            rest = &rest[consumed..];
        }
        let runtime = self.executor.runtime();
        let answered = outbox.clone();
        let waited = self.executor.block_on(async move {
            // Reads may wait for an offset that never comes.
            let until = runtime.elapsed() + READ_WAIT_MAX;
            runtime.sleep(SETTLES_WITHIN).await;
            while answered.unanswered() > 0 && runtime.elapsed() <= until {
                runtime.sleep(Duration::from_secs(1)).await;
            }
        });
        assert!(waited.is_ok(), "the executor goes on");
        assert_eq!(outbox.unanswered(), 0, "every request that was taken is answered");
        assert!(self.partition.stopped().is_none(), "no input stops a partition");
        let answers = outbox.take(Vec::new());
        outbox.end();
        let mut rest = answers.as_slice();
        while let Some(frame) = frame::peek(rest).expect("a server sends frames") {
            assert!(open_as_its_kind(&frame).is_ok(), "a server sends what its kind says");
            frame.kind.hash(signature);
            if let Ok(error) = open::<ErrorReply<'_>>(frame.body) {
                error.code.to_native().hash(signature);
            }
            if let Ok(reply) = open::<SubmitReply<'_>>(frame.body) {
                reply.outcomes().take(4).for_each(|outcome| outcome.verdict.hash(signature));
            }
            rest = &rest[frame.frame_bytes()..];
        }
        assert!(rest.is_empty(), "a server sends whole frames");
    }
}

impl Fuzz for Server {
    fn take(&mut self, input: &[u8]) -> u64 {
        self.inputs += 1;
        if self.inputs > INPUTS_PER_SERVER {
            *self = Self::new();
        }
        let mut signature = DefaultHasher::new();
        read(input, &mut signature);
        self.serve(input, &mut signature);
        signature.finish()
    }

    fn repair(input: &mut Vec<u8>) {
        let mut at = 0;
        while let Some(header) = input.get(at..at + HEADER_BYTES) {
            let (magic, version) = (frame::MAGIC, frame::PROTOCOL_VERSION);
            let wanted = u32::from_le_bytes([header[24], header[25], header[26], header[27]]);
            let there = (input.len() - at - HEADER_BYTES) as u32;
            let body = wanted.min(there);
            input[at..at + 4].copy_from_slice(&magic.to_le_bytes());
            input[at + 8..at + 10].copy_from_slice(&version.to_le_bytes());
            input[at + 24..at + 28].copy_from_slice(&body.to_le_bytes());
            let end = at + HEADER_BYTES + body as usize;
            let crc = crc32c::crc32c(&input[at + 8..end]);
            input[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
            at = end;
        }
    }
}

/// Opens each frame's body as every message, whatever its kind.
fn read(input: &[u8], signature: &mut DefaultHasher) {
    let mut rest = input;
    loop {
        match frame::peek(rest) {
            Ok(Some(frame)) => {
                frame.kind.hash(signature);
                open_as_its_kind(&frame).is_ok().hash(signature);
                open_as_all(frame.body);
                rest = &rest[frame.frame_bytes()..];
            }
            Ok(None) => return,
            Err(error) => {
                std::mem::discriminant(&error).hash(signature);
                return;
            }
        }
    }
}

fn open_as_its_kind(frame: &Frame<'_>) -> Result<(), ()> {
    use walengine_net::frame::Kind;
    fn opens<M: Message>(body: &[u8]) -> Result<(), ()> {
        open::<M>(body).map(|_| ()).map_err(|_| ())
    }
    let body = frame.body;
    match frame.kind {
        Kind::Hello => opens::<Hello<'_>>(body),
        Kind::ActFor => opens::<ActFor<'_>>(body),
        Kind::ActForReply => opens::<ActForReply>(body),
        Kind::Submit => opens::<Submit<'_>>(body),
        Kind::SubmitSpanning => opens::<SubmitSpanning<'_>>(body),
        Kind::Append => opens::<Append<'_>>(body),
        Kind::LookupAccounts => opens::<LookupAccounts<'_>>(body),
        Kind::ListAccounts => opens::<ListAccounts>(body),
        Kind::LookupNames => opens::<LookupNames<'_>>(body),
        Kind::FindNames => opens::<FindNames<'_>>(body),
        Kind::ListLedgers => opens::<ListLedgers>(body),
        Kind::ListReservations => opens::<ListReservations>(body),
        Kind::LookupNamesReply => opens::<LookupNamesReply<'_>>(body),
        Kind::FindNamesReply => opens::<FindNamesReply<'_>>(body),
        Kind::ListLedgersReply => opens::<ListLedgersReply<'_>>(body),
        Kind::ListReservationsReply => opens::<ListReservationsReply<'_>>(body),
        Kind::LookupTransfers => opens::<LookupTransfers<'_>>(body),
        Kind::Status => opens::<Status<'_>>(body),
        Kind::ReadLog => opens::<ReadLog>(body),
        Kind::ReadEntries => opens::<ReadEntries>(body),
        Kind::Subscribe => opens::<Subscribe>(body),
        Kind::Credit => opens::<Credit>(body),
        Kind::Unsubscribe => opens::<Unsubscribe>(body),
        Kind::ServerStatus => opens::<ServerStatus>(body),
        Kind::ClusterStatus => opens::<ClusterStatus>(body),
        Kind::TransferLeadership => opens::<TransferLeadership>(body),
        Kind::RemoveNode => opens::<RemoveNode>(body),
        Kind::Leave => opens::<Leave>(body),
        Kind::LeaveAnyway => opens::<LeaveAnyway>(body),
        Kind::AdmitNode => opens::<AdmitNode>(body),
        Kind::StateDigest => opens::<StateDigest>(body),
        Kind::ImportLog => opens::<ImportLog<'_>>(body),
        Kind::StateDigestReply => opens::<StateDigestReply>(body),
        Kind::ImportLogReply => opens::<ImportLogReply<'_>>(body),
        Kind::HelloReply => opens::<HelloReply<'_>>(body),
        Kind::SubmitReply | Kind::AppendReply => opens::<SubmitReply<'_>>(body),
        Kind::SubmitSpanningReply => opens::<SubmitSpanningReply<'_>>(body),
        Kind::LookupAccountsReply => opens::<LookupAccountsReply<'_>>(body),
        Kind::ListAccountsReply => opens::<ListAccountsReply<'_>>(body),
        Kind::LookupTransfersReply => opens::<LookupTransfersReply<'_>>(body),
        Kind::StatusReply => opens::<StatusReply<'_>>(body),
        Kind::LogPage | Kind::Feed | Kind::EntriesPage => opens::<LogPage<'_>>(body),
        Kind::UnsubscribeReply => opens::<UnsubscribeReply>(body),
        Kind::ServerStatusReply => opens::<ServerStatusReply<'_>>(body),
        Kind::ClusterStatusReply => opens::<ClusterStatusReply<'_>>(body),
        Kind::TransferLeadershipReply
        | Kind::RemoveNodeReply
        | Kind::LeaveReply
        | Kind::LeaveAnywayReply
        | Kind::AdmitNodeReply => opens::<AdminReply<'_>>(body),
        Kind::Error => opens::<ErrorReply<'_>>(body),
    }
}

/// Opens a body as each message with lists or texts, and walks through it.
fn open_as_all(body: &[u8]) {
    if let Ok(append) = open::<Append<'_>>(body) {
        assert_eq!(append.records().count(), append.heads.len(), "each head has its record");
    }
    if let Ok(reply) = open::<SubmitReply<'_>>(body) {
        assert_eq!(reply.outcomes().count(), reply.events(), "each event has its outcome");
    }
    if let Ok(reply) = open::<LookupAccountsReply<'_>>(body) {
        assert_eq!(reply.accounts().count(), reply.accounts.len());
    }
    if let Ok(page) = open::<LogPage<'_>>(body) {
        let _ = page.entries().count();
    }
    if let Ok(reply) = open::<StatusReply<'_>>(body) {
        for state in reply.states.iter() {
            let _ = state.decided();
        }
    }
    let _ = open::<LookupTransfersReply<'_>>(body).is_ok();
    let _ = open::<ServerStatusReply<'_>>(body).is_ok();
    let _ = open::<ClusterStatusReply<'_>>(body).is_ok();
    let _ = open::<AdminReply<'_>>(body).is_ok();
    let _ = open::<Submit<'_>>(body).is_ok();
}
