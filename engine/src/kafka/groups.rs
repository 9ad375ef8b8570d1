//! The groups of a node that serves alone: who is in them, in memory, and how far they have read, on the disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Mutex as AsyncMutex, watch};

use super::codes::{
    COORDINATOR_NOT_AVAILABLE, GROUP_MAX_SIZE_REACHED, ILLEGAL_GENERATION, INVALID_GROUP_ID,
    INVALID_SESSION, NONE, UNKNOWN_MEMBER_ID,
};
use super::group::{Group, Joined, Joining};
use super::offsets::{All, Committed, NotKept, OffsetsFile, make_room};
use crate::fatal::Fatal;
use crate::limits::{
    KAFKA_GROUPS_MAX, KAFKA_LOOK_EVERY, KAFKA_NAME_BYTES_MAX, KAFKA_REBALANCE_MAX,
    KAFKA_SESSION_LEAST, KAFKA_SESSION_MAX,
};
use crate::metrics::kafka::KafkaCounts;

/// See the module.
pub struct Groups {
    since: Instant,
    /// Those with members.
    with_members: Mutex<BTreeMap<String, Group>>,
    /// Something has changed in one of them.
    changed: watch::Sender<()>,
    counts: Arc<KafkaCounts>,
    /// Committed and durable.
    offsets: Mutex<All>,
    /// Held while it is written, so that commits follow each other. `None` once it is not known what is on the disk.
    file: AsyncMutex<Option<OffsetsFile>>,
}

impl Groups {
    /// Of a data directory.
    ///
    /// # Errors
    /// What was committed can't be read.
    pub fn open(data: &Path, cluster: u128, counts: Arc<KafkaCounts>) -> Result<Self, Fatal> {
        let (file, offsets) = OffsetsFile::open(data, cluster)?;
        Ok(Self {
            since: Instant::now(),
            with_members: Mutex::default(),
            changed: watch::Sender::new(()),
            counts,
            offsets: Mutex::new(offsets),
            file: AsyncMutex::new(Some(file)),
        })
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Group>> {
        self.with_members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is due in all groups.
    pub fn tick(&self) {
        let now = self.since.elapsed();
        let mut groups = self.locked();
        let mut changed = false;
        groups.retain(|_, group| {
            changed |= group.tick(now);
            !group.is_empty()
        });
        self.counts.groups(groups.len());
        drop(groups);
        if changed {
            self.changed.send_replace(());
        }
    }

    /// Does what is due in a group, and then `act`.
    fn with<R>(&self, name: &str, act: impl FnOnce(&mut Group, Duration) -> R) -> Option<R> {
        let now = self.since.elapsed();
        let mut groups = self.locked();
        let group = groups.get_mut(name)?;
        group.tick(now);
        let result = act(group, now);
        group.tick(now);
        if group.is_empty() {
            groups.remove(name);
        }
        self.counts.groups(groups.len());
        drop(groups);
        self.changed.send_replace(());
        Some(result)
    }

    /// Takes a reader in and waits for the others. An empty `id` is a new reader, which gets one.
    ///
    /// # Errors
    /// The number of the error.
    pub async fn join(
        &self,
        name: &str,
        id: &str,
        joining: Joining,
    ) -> Result<(String, Joined), i16> {
        if name.is_empty() || name.len() > KAFKA_NAME_BYTES_MAX {
            return Err(INVALID_GROUP_ID);
        }
        if !(KAFKA_SESSION_LEAST..=KAFKA_SESSION_MAX).contains(&joining.session) {
            return Err(INVALID_SESSION);
        }
        let joining = Joining { rebalance: joining.rebalance.min(KAFKA_REBALANCE_MAX), ..joining };
        let is_new = id.is_empty();
        let id = if is_new { uuid::Uuid::new_v4().to_string() } else { id.to_owned() };
        self.tick(); // groups of whom nobody was heard for long make room
        {
            let now = self.since.elapsed();
            let mut groups = self.locked();
            if !groups.contains_key(name) && groups.len() >= KAFKA_GROUPS_MAX {
                return Err(GROUP_MAX_SIZE_REACHED);
            }
            if !is_new && !groups.contains_key(name) {
                return Err(UNKNOWN_MEMBER_ID);
            }
            let joined = groups
                .entry(name.to_owned())
                .or_insert_with(Group::new)
                .join(&id, is_new, joining, now);
            groups.retain(|_, group| !group.is_empty());
            self.counts.groups(groups.len());
            joined?;
        }
        self.changed.send_replace(());
        let joined = self.wait(name, |group, _| group.joined(&id)).await?;
        Ok((id, joined))
    }

    /// Tells who gets what, and waits until it is told.
    ///
    /// # Errors
    /// The number of the error.
    pub async fn sync(
        &self,
        name: &str,
        id: &str,
        generation: i32,
        assignments: &[(&str, &[u8])],
    ) -> Result<Vec<u8>, i16> {
        let told = self.with(name, |group, now| group.sync(id, generation, assignments, now));
        told.ok_or(UNKNOWN_MEMBER_ID)??;
        self.wait(name, |group, now| group.assigned(id, generation, now)).await
    }

    /// Waits until the group has what is asked for. Ends, since a group with a silent member does not stay as it is.
    async fn wait<R>(
        &self,
        name: &str,
        mut ask: impl FnMut(&mut Group, Duration) -> Result<Option<R>, i16>,
    ) -> Result<R, i16> {
        let mut changes = self.changed.subscribe();
        loop {
            let now = self.since.elapsed();
            let (ticked, answer) = {
                let mut groups = self.locked();
                let group = groups.get_mut(name).ok_or(UNKNOWN_MEMBER_ID)?;
                (group.tick(now), ask(group, now)?)
            };
            if ticked {
                self.changed.send_replace(());
            }
            if let Some(answer) = answer {
                return Ok(answer);
            }
            // Time passes as well.
            let _ = tokio::time::timeout(KAFKA_LOOK_EVERY, changes.changed()).await;
        }
    }

    /// A sign of life; the number of the error.
    pub fn heartbeat(&self, name: &str, id: &str, generation: i32) -> i16 {
        let beat = self.with(name, |group, now| group.heartbeat(id, generation, now));
        beat.unwrap_or(Err(UNKNOWN_MEMBER_ID)).err().unwrap_or(NONE)
    }

    /// A reader goes; the number of the error.
    pub fn leave(&self, name: &str, id: &str) -> i16 {
        let left = self.with(name, |group, now| group.leave(id, now));
        left.unwrap_or(Err(UNKNOWN_MEMBER_ID)).err().unwrap_or(NONE)
    }

    /// Keeps how far a group has read: partitions, their next offsets, and notes; durable when it returns without an error. The number of the error.
    pub async fn commit(
        &self,
        name: &str,
        id: &str,
        generation: i32,
        offsets: Vec<(u16, i64, String)>,
    ) -> i16 {
        if name.is_empty() || name.len() > KAFKA_NAME_BYTES_MAX {
            return INVALID_GROUP_ID;
        }
        let mut file = self.file.lock().await;
        // Asked when it is its turn: a reader that was taken out while it waited must not undo what another has committed.
        let nobody = if generation < 0 { NONE } else { ILLEGAL_GENERATION };
        let code = self.with(name, |group, now| group.may_commit(id, generation, now));
        match code.unwrap_or(nobody) {
            NONE => {}
            code => return code,
        }
        let Some(writes) = file.clone() else { return COORDINATOR_NOT_AVAILABLE };
        let mut all = self.offsets.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let at = seconds_now();
        let committed = all.entry(name.to_owned()).or_default();
        for (partition, offset, note) in offsets {
            committed.insert(partition, Committed { offset, note, at });
        }
        let is_needed = |other: &str| other == name || self.locked().contains_key(other);
        for forgotten in make_room(&mut all, at, is_needed) {
            tracing::warn!(
                "how far the Kafka group {forgotten:?} has read is forgotten, to make room: it was silent for long"
            );
        }
        let written = tokio::task::spawn_blocking(move || writes.write(&all).map(|()| all)).await;
        let code = match written {
            Ok(Ok(all)) => {
                *self.offsets.lock().unwrap_or_else(PoisonError::into_inner) = all;
                NONE
            }
            Ok(Err(error)) => {
                tracing::error!("offsets of a Kafka group are not kept: {error}");
                if matches!(error, NotKept::Unknown(_)) {
                    *file = None;
                }
                // Anything else would end a reader, and this may pass.
                COORDINATOR_NOT_AVAILABLE
            }
            Err(_) => COORDINATOR_NOT_AVAILABLE, // the node stops
        };
        drop(file);
        code
    }

    /// How far a group has read; empty if it never said.
    pub fn committed(&self, name: &str) -> BTreeMap<u16, Committed> {
        let offsets = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        offsets.get(name).cloned().unwrap_or_default()
    }
}

/// Since 1970.
fn seconds_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
