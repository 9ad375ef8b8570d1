//! What a log has promised. Kept outside the simulated machine, and compared after each crash.

use std::rc::Rc;

use rkyv::rancor;
use walengine::ledger::Ledger;
use walengine::storage::layout::HardState;
use walengine_net::entry::{
    ChainHash, EntryHeader, EntryKind, access_events, access_records, decode_entry,
};
use walengine_net::model::PartitionId;

/// One entry as it was appended.
#[derive(Clone)]
pub struct Written {
    /// Its header, durable index and chain hash included.
    pub header: EntryHeader,
    /// Its body.
    pub body: Rc<[u8]>,
}

/// Memory of one partition's promises.
#[derive(Default)]
pub struct Oracle {
    /// Every entry that was appended and not cut, in order; index 1 first.
    pub entries: Vec<Written>,
    /// The entries before a truncation that has not been seen to end.
    before_cut: Option<Vec<Written>>,
    /// Newest index that was acknowledged.
    pub acknowledged: u64,
    /// The newest hard state whose save has returned.
    saved: HardState,
    /// Saves that have not been seen to end.
    saving: Vec<HardState>,
    /// Applied index of the newest snapshot that was finished.
    pub snapshot: u64,
}

impl Oracle {
    /// An entry was taken.
    pub fn appended(&mut self, header: EntryHeader, body: &[u8]) {
        assert_eq!(header.meta.index, self.entries.len() as u64 + 1, "the log counts otherwise");
        self.entries.push(Written { header, body: body.into() });
    }

    /// The log said that the entry at `index` is durable with all before it.
    pub fn acknowledge(&mut self, index: u64, chain: ChainHash) {
        // An entry that was cut meanwhile may have left its index to another.
        let stands = self.entries.get(index as usize - 1);
        if stands.is_some_and(|written| written.header.chain == chain) {
            self.acknowledged = self.acknowledged.max(index);
        }
    }

    /// A truncation begins.
    pub fn cutting(&mut self, after: u64) {
        assert!(self.before_cut.is_none(), "one truncation at a time");
        self.before_cut = Some(self.entries.clone());
        self.entries.truncate(after as usize);
        self.acknowledged = self.acknowledged.min(after);
    }

    /// A truncation is under way.
    pub fn is_cutting(&self) -> bool {
        self.before_cut.is_some()
    }

    /// The truncation is durable.
    pub fn cut(&mut self) {
        self.before_cut = None;
    }

    /// A save of the hard state begins.
    pub fn saving(&mut self, state: HardState) {
        self.saving.push(state);
    }

    /// The newest save is durable.
    pub fn saved(&mut self) {
        if let Some(state) = self.saving.drain(..).next_back() {
            self.saved = state;
        }
    }

    /// Compares a reopened log, and takes its entries as the truth from now on: an open log has made
    /// all of them durable.
    ///
    /// # Panics
    /// If a promise is broken; the message says which.
    pub fn check_recovered(&mut self, found: &[(EntryHeader, Vec<u8>)]) {
        let history = self.before_cut.take().unwrap_or_else(|| self.entries.clone());
        for (written, (header, body)) in history.iter().zip(found) {
            let index = written.header.meta.index;
            assert!(
                header == &written.header && body[..] == written.body[..],
                "entry {index} is not what was appended: {header:?} for {:?}",
                written.header,
            );
        }
        let (found, appended) = (found.len() as u64, history.len() as u64);
        assert!(found <= appended, "{found} entries where {appended} were appended");
        assert!(
            found >= self.acknowledged,
            "acknowledged entries are lost: {} were, {found} are there",
            self.acknowledged,
        );
        self.entries = history;
        self.entries.truncate(found as usize);
        self.acknowledged = found;
    }

    /// Compares the vote and commit position that a reopened log tells.
    ///
    /// # Panics
    /// If it is neither what was saved last nor a save that was under way.
    pub fn check_hard_state(&mut self, found: HardState) {
        let same = |state: &HardState| {
            HardState { durable_index: 0, ..*state } == HardState { durable_index: 0, ..found }
        };
        let known = same(&self.saved) || self.saving.iter().any(same);
        assert!(known, "the hard state is {found:?}, saved was {:?}", self.saved);
        self.saved = found;
        self.saving.clear();
    }

    /// The ledger that all entries from offset 0 come to.
    ///
    /// # Panics
    /// If a verdict is derived otherwise.
    pub fn replay(&self) -> Ledger {
        let mut ledger = Ledger::new(PartitionId(0), 1);
        for written in &self.entries {
            apply(&mut ledger, &written.header, &written.body);
        }
        ledger
    }
}

/// Applies one entry.
///
/// # Panics
/// If the ledger disagrees with the entry.
pub fn apply(ledger: &mut Ledger, header: &EntryHeader, body: &[u8]) {
    let meta = &header.meta;
    let applied = match meta.kind {
        EntryKind::Blank | EntryKind::Membership => return,
        EntryKind::Events => {
            let body = access_events(body).expect("a checked body");
            ledger.apply_events(meta.base_offset, meta.timestamp, body)
        }
        EntryKind::Records => {
            let body = access_records(body).expect("a checked body");
            ledger.apply_records(meta.base_offset, meta.timestamp, body)
        }
    };
    applied.unwrap_or_else(|why| panic!("entry {}: {why}", meta.index));
}

/// Splits what `Log::read` returns into entries.
///
/// # Panics
/// If it is not whole entries.
pub fn split(mut bytes: &[u8]) -> Vec<(EntryHeader, Vec<u8>)> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let (header, body) = decode_entry(bytes).expect("read returns checked entries");
        entries.push((header, body.to_vec()));
        bytes = &bytes[header.entry_bytes()..];
    }
    entries
}

/// A body as it stands in an entry.
///
/// # Panics
/// Never: encoding to memory does not fail.
pub fn encode<T>(body: &T) -> Vec<u8>
where
    T: for<'a> rkyv::Serialize<
            rancor::Strategy<
                rkyv::ser::Serializer<
                    rkyv::util::AlignedVec,
                    rkyv::ser::allocator::ArenaHandle<'a>,
                    rkyv::ser::sharing::Share,
                >,
                rancor::Error,
            >,
        >,
{
    rkyv::to_bytes::<rancor::Error>(body).expect("encoding to memory").to_vec()
}
