//! Tokens of units that span partitions.

use std::collections::BTreeSet;

use crate::message::{IdNamespace, LINEARIZABLE, Status, StatusReply, open};
use crate::model::{EventBytes, Offset, PartitionId, Token};
use crate::unit;

use super::super::batch::Submitted;
use super::super::directory::Route;
use super::super::{ClientError, ClusterInfo};
use super::{Plan, call};

/// Partitions that have a part in what was accepted before, and of which `result` has no token: whoever answers a repeat
/// may not know where their parts are.
pub fn lacking(info: &ClusterInfo, events: &[EventBytes], result: &Submitted) -> Vec<PartitionId> {
    if !result.outcomes.have_repeats() {
        return Vec::new();
    }
    let mut partitions = BTreeSet::new();
    let mut outcomes = result.outcomes();
    for unit in unit::units(events) {
        let mut is_repeat = false;
        for outcome in outcomes.by_ref().take(unit.len()) {
            is_repeat |= !outcome.fresh && outcome.verdict.is_ok();
        }
        if is_repeat && unit::may_span(unit, info.partitions) {
            unit::add_partitions(unit, info.partitions, &mut partitions);
        }
    }
    for token in &result.tokens {
        partitions.remove(&token.partition);
    }
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
