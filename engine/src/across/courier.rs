//! Brings what a partition has prepared for another one there, as long as this node leads it, and the words back.

use std::time::Duration;

use walengine_net::model::{Amount, Arrival, PartitionId, Verdict, Word};
use walengine_replication::peer::{Carried, Words};

use super::letter::{Forward, Letter, Undelivered, send};
use crate::limits::{COURIER_AGAIN_AFTER, COURIER_WITHIN};
use crate::partition::Partition;
use crate::partition::commit::Commit;
use crate::planted::{self, Planted};
use crate::runtime::Runtime;

/// Carries from `partition` to another one, until that one or this ends: by the replica on this node or, while that
/// gives no words, by those on other nodes, to which `forward` leads.
pub async fn run<C: Commit>(
    partition: Partition<C>,
    to: PartitionId,
    letters: flume::Sender<Letter>,
    forward: impl Forward,
) {
    let mut way = 0;
    while !partition.is_ending() {
        let changed = partition.changed();
        let changed = changed.changed();
        partition.until_exchange().await;
        if partition.waits_after_refusal() {
            partition.runtime().sleep(COURIER_AGAIN_AFTER).await;
            continue;
        }
        if partition.is_importing() {
            // What is under way at the end of it is brought there then.
            changed.await;
            continue;
        }
        match partition.prepared_for(to).await {
            Ok(Some(carried)) => {
                if planted::has(Planted::PostedBeforeWord) {
                    believe(&partition, &carried, Verdict::Ok).await;
                }
                let others = forward.others();
                let carried = async {
                    match (way % (others.len() + 1)).checked_sub(1).map(|other| others[other]) {
                        Some(node) => forward.forward(node, carried).await,
                        None => send(&letters, carried).await,
                    }
                };
                if let Err(why) = settle(&partition, carried).await {
                    if planted::has(Planted::ReleasedInDoubt)
                        && let Ok(Some(carried)) = partition.prepared_for(to).await
                    {
                        believe(&partition, &carried, Verdict::CreditAccountClosed).await;
                    }
                    tracing::debug!("from {} to {to}: {why}", partition.id().partition);
                    way += 1;
                    partition.runtime().sleep(COURIER_AGAIN_AFTER).await;
                }
            }
            Ok(None) => changed.await,
            Err(error) => {
                tracing::error!(
                    "partition {}: what goes to partition {to} can't be read, which is tried again: {error}",
                    partition.id().partition
                );
                partition.runtime().sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Waits for words and has them decided.
async fn settle<C: Commit>(
    partition: &Partition<C>,
    words: impl Future<Output = Result<Words, Undelivered>>,
) -> Result<(), Undelivered> {
    let late = async {
        partition.runtime().sleep(COURIER_WITHIN).await;
        Err(Undelivered("no words in time".to_owned()))
    };
    let words = futures_lite::future::or(words, late).await?;
    let settled = partition.take_words(&words).await;
    match settled.map_err(|refused| Undelivered(format!("{refused:?}")))? {
        0 => Err(Undelivered("the words are on nothing that is in doubt".to_owned())),
        _ => Ok(()),
    }
}

/// Has words decided that nobody has given: what the two bugs do that are planted above.
async fn believe<C: Commit>(partition: &Partition<C>, carried: &Carried, verdict: Verdict) {
    let word = |arrival: &Arrival| {
        let Arrival { sent, place } = arrival;
        let transfer = sent.transfer().copied().unwrap_or_default();
        let amount = if verdict.is_ok() { transfer.amount } else { Amount(0) };
        let (id, pending_id) = (sent.id(), transfer.pending_id);
        let is_linked = arrival.is_linked();
        Word { id, place: *place, verdict, amount, pending_id, is_linked }
    };
    let words = carried.arrivals.iter().map(word).collect();
    let _ = partition.take_words(&Words { time: carried.time, words }).await;
}
