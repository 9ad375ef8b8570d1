//! Tokens of units that span partitions.

use std::collections::BTreeSet;

use crate::message::{IdNamespace, LINEARIZABLE, Status, StatusReply, open};
use crate::model::{EventBytes, Offset, PartitionId, Token};
use crate::unit;

use super::super::batch::Submitted;
use super::super::directory::Route;
use super::super::{ClientError, ClusterInfo};
use super::{Plan, call};

/// Partitions that have a part in what was accepted, and of which `result` has no token: who answers a repeat may not know
/// where its parts are, and of a chain home never knows tokens of those behind the second of its path.
pub fn lacking(info: &ClusterInfo, events: &[EventBytes], result: &Submitted) -> Vec<PartitionId> {
    let may_be_long = info.partitions > 2 && events.iter().any(unit::is_linked);
    if !may_be_long && !result.outcomes.have_repeats() {
        return Vec::new();
    }
    let (mut partitions, mut behind) = (BTreeSet::new(), BTreeSet::new());
    let mut outcomes = result.outcomes();
    for unit in unit::units(events) {
        let (mut is_repeat, mut is_accepted) = (false, true);
        for outcome in outcomes.by_ref().take(unit.len()) {
            is_accepted &= outcome.verdict.is_ok();
            is_repeat |= !outcome.fresh && outcome.verdict.is_ok();
        }
        if is_repeat && unit::may_span(unit, info.partitions) {
            unit::add_partitions(unit, info.partitions, &mut partitions);
        }
        if is_accepted
            && unit.len() > 1
            && let Ok(Some(path)) = unit::path(unit, info.partitions)
        {
            behind.extend(path.stops().skip(2));
        }
    }
    for token in &result.tokens {
        partitions.remove(&token.partition);
    }
    // A token of these may be of something else, which was there before.
    partitions.append(&mut behind);
    partitions.into_iter().collect()
}

/// A token of all that a partition has acknowledged, from its leader; `None` if that is nothing.
pub fn newest_token(
    info: &ClusterInfo,
    partition: PartitionId,
) -> Result<Plan<Option<Token>>, ClientError> {
    let namespace = IdNamespace::Event as u8;
    let question = Status { at_least: LINEARIZABLE, namespace, ids: &[] };
    let cluster = info.cluster;
    Ok(Plan::new(vec![call(partition, Route::Leader, &question)?], move |answers| {
        let reply = open::<StatusReply>(super::first(&answers)?)?;
        let offset = reply.next_offset.to_native().checked_sub(1).map(Offset);
        Ok(offset.map(|offset| Token { cluster, partition, offset }))
    }))
}
