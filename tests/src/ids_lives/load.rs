//! What is sent: events of every kind, repeats of all ages, ids that were used with other bodies, second ends
//! of reservations, and ids whose hashes are those of others.

use std::time::Duration;

use walengine::ids::key::{Key, Space};
use walengine::ledger::key_of;
use walengine::refused::Refused;
use walengine::runtime::Runtime as _;
use walengine_net::entry::{ANY_OFFSET, RecordHead};
use walengine_net::model::{
    EVENT_BYTES, EventBytes, EventId, EventKind, FLAG_LINKED, Transfer, TransferFlags, event_flags,
    event_kind,
};

use super::check::Memory;
use super::partition::{PATIENCE, SimPartition};
use super::twins::twin_of;
use crate::lone_partition::PARTITION;
use crate::mixed_events::Mixed;
use crate::sim::{Rng, SimRuntime};

/// Between two tries.
const AGAIN_AFTER: Duration = Duration::from_millis(5);

pub(super) struct Load {
    mixed: Mixed,
    has_accounts: bool,
}

impl Load {
    pub(super) fn new(seed: u64) -> Self {
        Self { mixed: Mixed::new(seed, PARTITION, 1), has_accounts: false }
    }

    /// Sends one batch and compares its answers with what is known. False if it was not taken in a long time.
    pub(super) async fn send(
        &mut self,
        rng: &mut Rng,
        partition: &SimPartition,
        runtime: &SimRuntime,
        memory: &mut Memory,
    ) -> bool {
        let is_sent = if rng.percent(10) {
            self.send_record(rng, partition, runtime, memory).await
        } else {
            self.send_events(rng, partition, runtime, memory).await
        };
        if is_sent && rng.percent(60) && partition.until_visible().await.is_ok() {
            memory.was_told();
        }
        is_sent
    }

    async fn send_events(
        &mut self,
        rng: &mut Rng,
        partition: &SimPartition,
        runtime: &SimRuntime,
        memory: &mut Memory,
    ) -> bool {
        let events = self.batch(rng, memory);
        let mut outcomes = Vec::new();
        if !taken(runtime, || partition.submit(&events, &mut outcomes).map(drop)).await {
            return false;
        }
        for (event, outcome) in events.iter().zip(&outcomes) {
            memory.answered(key_of(event), event, *outcome);
            memory.note_reservation(event);
        }
        true
    }

    async fn send_record(
        &mut self,
        rng: &mut Rng,
        partition: &SimPartition,
        runtime: &SimRuntime,
        memory: &mut Memory,
    ) -> bool {
        let mut blob = vec![0; rng.between(1, 300) as usize];
        rng.fill(&mut blob);
        let mut id = u128::from(rng.next_u64()) << 64 | 7;
        if let Some(known) = any_known(rng, memory, Space::Event).filter(|_| rng.percent(30)) {
            (id, blob) = (known.0, known.1.to_vec());
        }
        let head = RecordHead { id, expected_offset: ANY_OFFSET, bytes: blob.len() as u32 };
        let mut outcomes = Vec::new();
        let submit = || partition.append_records(&[head], &blob, &mut outcomes).map(drop);
        if !taken(runtime, submit).await {
            return false;
        }
        let key = Key::new(id, Space::Event);
        let was_event = memory
            .known
            .get(&(id, Space::Event))
            .is_some_and(|known| known.bytes == blob && blob.len() == EVENT_BYTES);
        if !was_event {
            memory.answered(key, &blob, outcomes[0]);
        }
        true
    }

    fn batch(&mut self, rng: &mut Rng, memory: &Memory) -> Vec<EventBytes> {
        if !self.has_accounts {
            self.has_accounts = true;
            return self.mixed.accounts();
        }
        let events = rng.between(5, 25) as usize;
        let mut batch = self.mixed.batch(events);
        for _ in 0..rng.below(8) {
            let space = if rng.percent(15) { Space::Account } else { Space::Event };
            if let Some((_, bytes)) = any_known(rng, memory, space)
                && let Ok(event) = EventBytes::try_from(bytes)
                && event_flags(&event) & FLAG_LINKED == 0
            {
                batch.push(event);
            }
        }
        for _ in 0..rng.below(4) {
            let transfer = any_transfer(rng, memory);
            batch.extend(
                transfer.map(|other| Transfer { user_data_64: rng.next_u64(), ..other }.to_bytes()),
            );
        }
        for _ in 0..rng.below(4) {
            let twin = any_transfer(rng, memory).map(|other| Transfer {
                id: EventId(twin_of(other.id.0, rng.next_u64())),
                ..other
            });
            batch.extend(twin.map(|twin| twin.to_bytes()));
        }
        for _ in 0..rng.below(4) {
            batch.extend(Self::second_end(rng, memory));
        }
        batch
    }

    fn second_end(rng: &mut Rng, memory: &Memory) -> Option<EventBytes> {
        if memory.reservations.is_empty() {
            return None;
        }
        let pending_id = EventId(memory.reservations[rng.index(memory.reservations.len())]);
        let ends = [TransferFlags::POST_PENDING, TransferFlags::VOID_PENDING];
        let (id, flags) = (EventId(u128::from(rng.next_u64()) << 64 | 9), ends[rng.index(2)]);
        Some(Transfer { id, pending_id, flags, ..Transfer::default() }.to_bytes())
    }
}

/// Tries until it is taken. False if that does not come about, or is no matter of time.
async fn taken(runtime: &SimRuntime, mut submit: impl FnMut() -> Result<(), Refused>) -> bool {
    let by = runtime.elapsed() + PATIENCE;
    loop {
        match submit() {
            Ok(()) => return true,
            Err(Refused::Busy { .. }) if runtime.elapsed() < by => runtime.sleep(AGAIN_AFTER).await,
            Err(_) => return false,
        }
    }
}

fn any_known<'a>(rng: &mut Rng, memory: &'a Memory, space: Space) -> Option<(u128, &'a [u8])> {
    let from = (u128::from(rng.next_u64()) << 64, space);
    let behind = memory.known.range(from..).chain(&memory.known);
    let mut behind = behind.filter(|((_, other), _)| *other == space);
    behind.next().map(|((id, _), known)| (*id, &known.bytes[..]))
}

fn any_transfer(rng: &mut Rng, memory: &Memory) -> Option<Transfer> {
    let (_, bytes) = any_known(rng, memory, Space::Event)?;
    let event = EventBytes::try_from(bytes).ok()?;
    let is_plain = event_kind(&event) == Ok(EventKind::Transfer) && event_flags(&event) == 0;
    is_plain.then(|| Transfer::from_bytes(&event))
}
