//! A frame on its way to the replica of its partition on the same node, and what becomes of it there.

use std::sync::Arc;

use walengine_net::model::PartitionId;
use walengine_replication::peer::{Carried, Words};
use walengine_replication::types::NodeId;

use crate::limits::LETTERS_MAX;
use crate::partition::Partition;
use crate::partition::commit::Commit;

/// A frame, and where its words go.
#[derive(Debug)]
pub struct Letter {
    /// What is carried.
    pub carried: Carried,
    /// Words on all of it.
    pub answer: flume::Sender<Result<Words, Undelivered>>,
}

/// Why there are no words. It is unknown whether the frame was taken: it is sent again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Undelivered(pub String);

/// The ways to all partitions' replicas on this node, by number. Clones share them.
#[derive(Clone, Debug)]
pub struct Letters(Arc<[(flume::Sender<Letter>, flume::Receiver<Letter>)]>);

impl Letters {
    /// For so many partitions.
    pub fn new(partitions: u16) -> Self {
        Self((0..partitions).map(|_| flume::bounded(LETTERS_MAX)).collect())
    }

    /// The way to a partition.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn to(&self, partition: PartitionId) -> flume::Sender<Letter> {
        self.0[usize::from(partition.0)].0.clone()
    }

    /// What comes for a partition.
    ///
    /// # Panics
    /// If there is no such partition.
    pub fn of(&self, partition: PartitionId) -> flume::Receiver<Letter> {
        self.0[usize::from(partition.0)].1.clone()
    }
}

/// How a partition's replica reaches those on other nodes.
pub trait Forward: Clone + 'static {
    /// The nodes that have one.
    fn others(&self) -> Vec<NodeId>;

    /// Has another node decide a frame, if it is for this partition and that node leads it; or else hand it on.
    fn forward(
        &self,
        node: NodeId,
        carried: Carried,
    ) -> impl Future<Output = Result<Words, Undelivered>>;
}

/// There are no other nodes.
#[derive(Clone, Copy, Debug)]
pub struct NoForward;

impl Forward for NoForward {
    fn others(&self) -> Vec<NodeId> {
        Vec::new()
    }

    async fn forward(&self, _: NodeId, _: Carried) -> Result<Words, Undelivered> {
        Err(Undelivered("there is no other node".to_owned()))
    }
}

/// Takes what comes for a partition until the node ends.
pub async fn take_letters<C: Commit>(
    partition: Partition<C>,
    letters: flume::Receiver<Letter>,
    forward: impl Forward,
) {
    while let Ok(Letter { carried, answer }) = letters.recv_async().await {
        let forward = forward.clone();
        partition.spawn(|partition| async move {
            let here = partition.id().node;
            let words = match partition.leader().filter(|leader| *leader != here) {
                Some(leader) => forward.forward(leader, carried).await,
                None => take(&partition, &carried).await,
            };
            let _ = answer.try_send(words); // the courier may have given up
        });
    }
}

/// Has a frame decided on this node or, by the replica of its partition, where that is led.
///
/// # Errors
/// There are no words in time.
pub async fn send(letters: &flume::Sender<Letter>, carried: Carried) -> Result<Words, Undelivered> {
    let (answer, answered) = flume::bounded(1);
    let failed = |why: &str| Undelivered(why.to_owned());
    let letter = Letter { carried, answer };
    letters.send_async(letter).await.map_err(|_| failed("the other partition has ended"))?;
    answered.recv_async().await.map_err(|_| failed("it was not taken"))?
}

/// Has a frame decided here.
///
/// # Errors
/// This node does not lead, or the frame is not taken.
pub async fn take<C: Commit>(
    partition: &Partition<C>,
    carried: &Carried,
) -> Result<Words, Undelivered> {
    partition.take_frame(carried).await.map_err(|why| Undelivered(why.to_string()))
}
