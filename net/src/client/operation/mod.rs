//! The operations of the clients, without I/O: which requests to send, where to, and what their
//! answers mean.

mod admin;
mod import;
mod naming;
mod read;
mod reservations;
mod tokens;
mod write;

use crate::frame::{Kind, encode_unsealed};
use crate::message::Message;
use crate::model::PartitionId;

use super::directory::Route;
use super::{ClientError, ClusterInfo};

pub use admin::{
    AdminOutcome, ClusterReport, ClusterView, GroupReport, NodeReport, ReplicaReport, ServerReport,
    Trouble, Unasked, admit_node, home_node, leave, merge_views, named_routes, remove_node,
    server_status, transfer_leadership, troubles_of, unasked_leaders, unasked_nodes, view_of,
};
pub use import::{EntriesToImport, ImportedSome, StateSummary, import_log, state_digest};
pub use naming::{DescribedLedger, NamedAccount, NamesPage, find_names, ledgers, lookup_names};
pub use read::{
    AccountsAt, AccountsPage, EventDecision, IdVerdict, Page, Reading, accounts_of_partition,
    list_accounts, lookup_accounts, lookup_transfers, read_entries, read_log, status,
};
pub use reservations::{OpenReservation, ReservationsPage, list_reservations};
pub use tokens::{lacking, newest_token};
pub use write::{
    WriteIds, append_records, is_open, is_unknown_kind, merge, resolve, split_by_partition, submit,
    submit_here, write_share,
};

/// One request, as a frame without request id, deadline and checksum.
#[derive(Clone, Debug)]
pub struct Call {
    /// The partition that it is for.
    pub partition: PartitionId,
    /// The node that it is for.
    pub route: Route,
    /// Its kind.
    pub kind: Kind,
    /// From [`encode_unsealed`].
    pub frame: Vec<u8>,
}

/// Body of a request's answer. Its kind is the reply of the request's kind.
pub type Answer = Vec<u8>;

/// Makes one result of the answers to a plan's calls, given in the order of the calls.
pub type Finish<R> = Box<dyn FnOnce(Vec<Answer>) -> Result<R, ClientError> + Send>;

/// An operation: the requests to send, and how to read their answers.
pub struct Plan<R> {
    /// Sent at once, in this order.
    pub calls: Vec<Call>,
    /// Reads the answers.
    pub finish: Finish<R>,
}

impl<R> Plan<R> {
    fn new(
        calls: Vec<Call>,
        finish: impl FnOnce(Vec<Answer>) -> Result<R, ClientError> + Send + 'static,
    ) -> Self {
        Self { calls, finish: Box::new(finish) }
    }
}

fn call<M: Message>(
    partition: PartitionId,
    route: Route,
    message: &M,
) -> Result<Call, ClientError> {
    let mut frame = Vec::new();
    encode_unsealed(&mut frame, M::KIND, partition, message)?;
    Ok(Call { partition, route, kind: M::KIND, frame })
}

fn within(what: &'static str, found: usize, limit: usize) -> Result<(), ClientError> {
    if found <= limit { Ok(()) } else { Err(ClientError::TooMany { what, found, limit }) }
}

/// Checks that the partition exists, so that no connection is opened in vain.
fn known(info: &ClusterInfo, partition: PartitionId) -> Result<(), ClientError> {
    within("the partition's number plus one", usize::from(partition.0) + 1, info.partitions.into())
}

fn first(answers: &[Answer]) -> Result<&[u8], ClientError> {
    answers.first().map(Vec::as_slice).ok_or(ClientError::Closed)
}

fn as_many(found: usize, expected: usize) -> Result<(), ClientError> {
    if found == expected {
        Ok(())
    } else {
        Err(ClientError::Answer(format!("{found} answers to {expected} questions")))
    }
}

/// The ids that were not found, in order.
pub fn missing<I: Copy, R>(ids: &[I], found: &[Option<R>]) -> Vec<I> {
    let found = ids.iter().zip(found);
    found.filter(|(_, found)| found.is_none()).map(|(id, _)| *id).collect()
}

/// Puts what was found at the second asking, by [`missing`], to the rest.
pub fn fill<R>(found: &mut [Option<R>], missing: Vec<Option<R>>) {
    let places = found.iter_mut().filter(|found| found.is_none());
    for (place, found) in places.zip(missing) {
        *place = found;
    }
}
