//! Brings what a partition has prepared for another one there, as long as this node leads it, and the words back.

use std::time::Duration;

use walengine_net::model::{Amount, Arrival, Offset, PartitionId, Verdict, Word};
use walengine_replication::peer::{Carried, Words};

use super::letter::{Forward, Letter, Undelivered, send};
use crate::limits::{ASK_AGAIN_AFTER, COURIER_AGAIN_AFTER, COURIER_WITHIN};
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
    ask(&partition, to, &letters).await;
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
        let mut asks_again = false;
        if let Some((number, question)) = partition.question_for_stripes(to) {
            match within(&partition, carry(question, way, &letters, &forward)).await {
                Ok(said) => partition.note_given(to, number, &said),
                Err(why) => {
                    tracing::debug!("from {} to {to}: {why}", partition.id().partition);
                    (way, asks_again) = (way + 1, true);
                }
            }
        }
        match partition.prepared_for(to).await {
            Ok(Some(carried)) => {
                if planted::has(Planted::PostedBeforeWord) {
                    believe(&partition, &carried, Verdict::Ok).await;
                }
                let words = carry(carried, way, &letters, &forward);
                if let Err(why) = settle(&partition, to, words).await {
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
            Ok(None) if asks_again => {
                let again = partition.runtime().sleep(COURIER_AGAIN_AFTER);
                futures_lite::future::or(changed, again).await;
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

/// Carries a frame by the replica on this node or, of the ways there are, by one on another node.
async fn carry(
    carried: Carried,
    way: usize,
    letters: &flume::Sender<Letter>,
    forward: &impl Forward,
) -> Result<Words, Undelivered> {
    let others = forward.others();
    match (way % (others.len() + 1)).checked_sub(1).map(|other| others[other]) {
        Some(node) => forward.forward(node, carried).await,
        None => send(letters, carried).await,
    }
}

/// Asks another partition for the words that it has given before this node was started, if they must be known before
/// anything is shown here.
async fn ask<C: Commit>(
    partition: &Partition<C>,
    to: PartitionId,
    letters: &flume::Sender<Letter>,
) {
    let here = partition.id().partition;
    while let Some(question) = partition.question(to) {
        if partition.is_ending() {
            return;
        }
        let settled = match within(partition, send(letters, question)).await {
            Ok(words) if words.words.is_empty() => Ok(0),
            Ok(words) => take(partition, to, &words).await,
            Err(why) => Err(why),
        };
        match settled {
            Ok(0) => break,
            Ok(_) => {}
            Err(why) => {
                tracing::warn!(
                    "partition {here} can't be read, nor written to, before partition {to} has told what it decided \
                     and that is logged: {why}"
                );
                partition.runtime().sleep(ASK_AGAIN_AFTER).await;
            }
        }
    }
    partition.was_asked(to);
}

/// Waits for words and has them decided.
async fn settle<C: Commit>(
    partition: &Partition<C>,
    to: PartitionId,
    words: impl Future<Output = Result<Words, Undelivered>>,
) -> Result<(), Undelivered> {
    let words = within(partition, words).await?;
    match take(partition, to, &words).await? {
        0 => Err(Undelivered("the words are on nothing that is in doubt".to_owned())),
        _ => Ok(()),
    }
}

async fn take<C: Commit>(
    partition: &Partition<C>,
    from: PartitionId,
    words: &Words,
) -> Result<usize, Undelivered> {
    let settled = partition.take_words(from, words).await;
    settled.map_err(|refused| Undelivered(format!("{refused:?}")))
}

/// Waits for words, but not for long.
async fn within<C: Commit>(
    partition: &Partition<C>,
    words: impl Future<Output = Result<Words, Undelivered>>,
) -> Result<Words, Undelivered> {
    let late = async {
        partition.runtime().sleep(COURIER_WITHIN).await;
        Err(Undelivered("no words in time".to_owned()))
    };
    futures_lite::future::or(words, late).await
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
    let Carried { time, to, .. } = *carried;
    let said = Words { time, next_offset: Offset(0), words };
    let _ = partition.take_words(to, &said).await;
}
