//! Recovery's decisions as tables: what was found goes in, a named case comes out, and the case has a
//! verdict. Pure: no disk, no order of reading. Each case has a test below; FORMAT.md, section 7, has
//! the rules in words.

use super::ids::Ids;
use super::layout::{BlockError, HARD_STATE_SLOTS, HardStateSlot, SegmentHeader, Tail};

/// What opening a partition begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartitionCase {
    /// The hard state, which is written last, is there: the partition exists.
    There,
    /// It is not, and the partition is to be created. What a crash left of an earlier attempt goes.
    ToCreate,
    /// Nothing is there.
    Missing,
    /// Something is there, but not the hard state. Its votes would be forgotten.
    HardStateLost,
}

impl PartitionCase {
    /// `is_empty`: the directory is absent or holds nothing.
    pub fn of(has_hard_state: bool, may_create: bool, is_empty: bool) -> Self {
        match (has_hard_state, may_create, is_empty) {
            (true, _, _) => Self::There,
            (false, true, _) => Self::ToCreate,
            (false, false, true) => Self::Missing,
            (false, false, false) => Self::HardStateLost,
        }
    }
}

/// What the two slots of a hard-state file give.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SlotsCase {
    /// Both can be read; the newer one counts.
    Whole(HardStateSlot),
    /// One can be read. The other may have held the newer save: a torn save leaves a readable slot.
    OneLost(HardStateSlot),
    /// A readable slot is of another cluster or partition. Damage.
    Foreign,
    /// Another version of the program wrote a slot. The start stops.
    Version(BlockError),
    /// None can be read. Damage.
    BothLost(BlockError),
}

impl SlotsCase {
    pub fn of(
        slots: [Result<HardStateSlot, BlockError>; HARD_STATE_SLOTS as usize],
        ids: Ids,
    ) -> Self {
        for slot in &slots {
            match slot {
                Ok(slot) if !ids.saved(slot) => return Self::Foreign,
                Err(version @ BlockError::Version { .. }) => return Self::Version(*version),
                _ => {}
            }
        }
        match slots {
            [Ok(one), Ok(other)] if other.sequence > one.sequence => Self::Whole(other),
            [Ok(one), Ok(_)] => Self::Whole(one),
            [Ok(slot), Err(_)] | [Err(_), Ok(slot)] => Self::OneLost(slot),
            [Err(_), Err(error)] => Self::BothLost(error),
        }
    }
}

/// What the first block of a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderCase {
    /// The header of this segment.
    Own,
    /// Not readable. Whether that matters depends on where the log ends.
    Unreadable,
    /// Another version of the program wrote it. The start stops.
    Version,
    /// The header of a segment of another cluster or partition. Damage.
    Foreign,
    /// The header of another segment of this partition. Damage.
    Misplaced,
}

impl HeaderCase {
    pub fn of(
        header: &Result<SegmentHeader, BlockError>,
        ids: Ids,
        sequence: u64,
        segment_bytes: u64,
    ) -> Self {
        match header {
            Err(BlockError::Version { .. }) => Self::Version,
            Err(_) => Self::Unreadable,
            Ok(header) if !ids.began(header) => Self::Foreign,
            Ok(header) if header.sequence != sequence => Self::Misplaced,
            Ok(header) if header.segment_bytes != segment_bytes => Self::Misplaced,
            Ok(_) => Self::Own,
        }
    }
}

/// How a header stands to those before it, from the first segment to the one that reading begins
/// with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrderCase {
    /// It follows.
    Follows,
    /// The very first flush is not there, or torn.
    NothingWritten,
    /// It can't be read, and entries that are durable stand in its segment. Damage.
    Unreadable,
    /// It says that nothing comes before it, and names a tail. Damage.
    OddBeginning,
    /// It begins behind entries that nothing holds. Damage.
    EntriesMissing,
    /// It does not begin behind the segment before it. Damage.
    Disorder,
}

impl OrderCase {
    /// `header`: the tail that it names. `previous`: the one that the segment before names. `from`:
    /// where reading begins. `is_start`: it is the first segment, and nothing is known before it.
    pub fn of(header: Option<Tail>, previous: Option<Tail>, from: Tail, is_start: bool) -> Self {
        match header {
            None if is_start => Self::NothingWritten,
            None => Self::Unreadable,
            Some(tail) if tail.index == 0 && tail != Tail::default() => Self::OddBeginning,
            Some(tail) if tail.index > from.index => Self::EntriesMissing,
            Some(tail) if previous.is_some_and(|before| before.index >= tail.index) => {
                Self::Disorder
            }
            Some(_) => Self::Follows,
        }
    }

    /// Why it is damage, if it is.
    pub fn damage(self) -> Option<&'static str> {
        match self {
            Self::Follows | Self::NothingWritten => None,
            Self::Unreadable => Some("the header of the segment can't be read"),
            Self::OddBeginning => Some("the first segment does not begin with the first entry"),
            Self::EntriesMissing => Some("entries before the segment are missing"),
            Self::Disorder => Some("the header contradicts the segment before"),
        }
    }
}

/// What stands behind the last entry that continues the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// Zeros to the end of the last segment.
    Nothing,
    /// Bytes that do not continue the log.
    Bytes,
    /// Zeros to the end of the segment, then a segment whose header can't be read.
    BadHeader,
}

/// Who says that the entry behind the end was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Witness {
    /// Nobody.
    None,
    /// A valid entry that stands further behind.
    Entry,
    /// The hard state.
    HardState,
    /// A snapshot that holds it.
    Snapshot,
}

/// The greatest index that each witness knows to be durable.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Witnesses {
    pub entry: u64,
    pub hard_state: u64,
    pub snapshot: u64,
}

impl Witnesses {
    /// Who knows `index` to be durable.
    pub fn of(self, index: u64) -> Witness {
        if self.entry >= index {
            Witness::Entry
        } else if self.hard_state >= index {
            Witness::HardState
        } else if self.snapshot >= index {
            Witness::Snapshot
        } else {
            Witness::None
        }
    }

    /// The greatest index that any of them knows to be durable.
    pub fn greatest(self) -> u64 {
        self.entry.max(self.hard_state).max(self.snapshot)
    }
}

/// How a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndCase {
    /// Nothing is missing.
    Whole,
    /// The newest flushes did not reach the disk, or not whole. None was acknowledged.
    TornTail,
    /// A crash interrupted a truncation, which keeps just the entries up to here.
    TruncationUnderWay,
    /// An entry before the last one is bad: a later one calls it durable.
    BadEntry,
    /// One of the last entries is bad: the hard state calls it durable.
    BadLastEntry,
    /// The last entries are gone without a trace, and the hard state calls them durable.
    EntriesLost,
    /// The log ends before a snapshot that was made of it.
    ShorterThanSnapshot,
    /// The log should go on in the next segment, whose header is bad.
    BadHeader,
}

/// What is done about an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: the log goes on from here.
    Keep,
    /// What is behind the end is overwritten with zeros.
    Cut,
    /// Damage at the end of the log: nothing is changed.
    Damaged,
    /// Damage in the header of the next segment: nothing is changed.
    DamagedHeader,
}

impl EndCase {
    /// `is_cut_point`: the hard state says that a truncation is under way that keeps the entries up
    /// to the end.
    pub fn of(is_cut_point: bool, behind: Behind, witness: Witness) -> Self {
        match (is_cut_point, behind, witness) {
            (true, _, _) => Self::TruncationUnderWay,
            (_, Behind::Nothing, Witness::None) => Self::Whole,
            (_, Behind::Bytes | Behind::BadHeader, Witness::None) => Self::TornTail,
            (_, Behind::BadHeader, _) => Self::BadHeader,
            (_, Behind::Bytes | Behind::Nothing, Witness::Entry) => Self::BadEntry,
            (_, Behind::Bytes, Witness::HardState) => Self::BadLastEntry,
            (_, Behind::Nothing, Witness::HardState) => Self::EntriesLost,
            (_, Behind::Bytes | Behind::Nothing, Witness::Snapshot) => Self::ShorterThanSnapshot,
        }
    }

    pub fn verdict(self) -> Verdict {
        match self {
            Self::Whole => Verdict::Keep,
            Self::TornTail | Self::TruncationUnderWay => Verdict::Cut,
            Self::BadEntry | Self::BadLastEntry | Self::EntriesLost | Self::ShorterThanSnapshot => {
                Verdict::Damaged
            }
            Self::BadHeader => Verdict::DamagedHeader,
        }
    }
}

#[cfg(test)]
mod tests {
    use walengine_net::model::{ClusterId, PartitionId, Timestamp};

    use super::*;
    use crate::storage::layout::HardState;

    const IDS: Ids = Ids { cluster: ClusterId(1), partition: PartitionId(2) };
    const OTHER: Ids = Ids { cluster: ClusterId(1), partition: PartitionId(3) };
    const SEGMENT_BYTES: u64 = 65_536;

    #[test]
    fn partition_is_there_with_its_hard_state() {
        for (may_create, is_empty) in [(false, false), (true, false)] {
            assert_eq!(PartitionCase::of(true, may_create, is_empty), PartitionCase::There);
        }
    }

    #[test]
    fn partition_is_created_when_asked() {
        for is_empty in [false, true] {
            assert_eq!(PartitionCase::of(false, true, is_empty), PartitionCase::ToCreate);
        }
    }

    #[test]
    fn partition_is_missing_when_nothing_is_there() {
        assert_eq!(PartitionCase::of(false, false, true), PartitionCase::Missing);
    }

    #[test]
    fn partition_without_hard_state_has_lost_it() {
        assert_eq!(PartitionCase::of(false, false, false), PartitionCase::HardStateLost);
    }

    fn slot(ids: Ids, sequence: u64) -> HardStateSlot {
        HardStateSlot {
            cluster: ids.cluster,
            partition: ids.partition,
            sequence,
            state: HardState { term: sequence, ..HardState::default() },
            cut_after: None,
        }
    }

    #[test]
    fn slots_whole_newer_one_counts() {
        for (one, other, newest) in [(4, 5, 5), (6, 5, 6), (0, 0, 0)] {
            let case = SlotsCase::of([Ok(slot(IDS, one)), Ok(slot(IDS, other))], IDS);
            assert_eq!(case, SlotsCase::Whole(slot(IDS, newest)));
        }
    }

    #[test]
    fn slots_one_lost_the_other_counts() {
        let good = slot(IDS, 4);
        for bad in [BlockError::Blank, BlockError::Crc { expected: 1, found: 2 }] {
            assert_eq!(SlotsCase::of([Ok(good), Err(bad)], IDS), SlotsCase::OneLost(good));
            assert_eq!(SlotsCase::of([Err(bad), Ok(good)], IDS), SlotsCase::OneLost(good));
        }
    }

    #[test]
    fn slots_foreign_even_if_the_other_is_own() {
        let (own, foreign) = (Ok(slot(IDS, 9)), Ok(slot(OTHER, 1)));
        assert_eq!(SlotsCase::of([own, foreign], IDS), SlotsCase::Foreign);
        assert_eq!(SlotsCase::of([foreign, Err(BlockError::Blank)], IDS), SlotsCase::Foreign);
    }

    #[test]
    fn slots_of_another_version_even_if_the_other_is_own() {
        let version = BlockError::Version { found: 2 };
        let case = SlotsCase::of([Ok(slot(IDS, 9)), Err(version)], IDS);
        assert_eq!(case, SlotsCase::Version(version));
    }

    #[test]
    fn slots_both_lost() {
        let bad = BlockError::Crc { expected: 1, found: 2 };
        let case = SlotsCase::of([Err(BlockError::Blank), Err(bad)], IDS);
        assert_eq!(case, SlotsCase::BothLost(bad));
    }

    fn header(ids: Ids, sequence: u64, segment_bytes: u64) -> SegmentHeader {
        let (cluster, partition) = (ids.cluster, ids.partition);
        let (created, before) = (Timestamp(1), Tail::default());
        SegmentHeader { cluster, partition, sequence, created, before, segment_bytes }
    }

    fn header_case(header: Result<SegmentHeader, BlockError>) -> HeaderCase {
        HeaderCase::of(&header, IDS, 7, SEGMENT_BYTES)
    }

    #[test]
    fn header_own() {
        assert_eq!(header_case(Ok(header(IDS, 7, SEGMENT_BYTES))), HeaderCase::Own);
    }

    #[test]
    fn header_unreadable() {
        for error in [BlockError::Blank, BlockError::Content("odd")] {
            assert_eq!(header_case(Err(error)), HeaderCase::Unreadable);
        }
    }

    #[test]
    fn header_version() {
        let version = Err(BlockError::Version { found: 2 });
        assert_eq!(header_case(version), HeaderCase::Version);
    }

    #[test]
    fn header_foreign() {
        assert_eq!(header_case(Ok(header(OTHER, 7, SEGMENT_BYTES))), HeaderCase::Foreign);
    }

    #[test]
    fn header_misplaced() {
        assert_eq!(header_case(Ok(header(IDS, 8, SEGMENT_BYTES))), HeaderCase::Misplaced);
        assert_eq!(header_case(Ok(header(IDS, 7, 2 * SEGMENT_BYTES))), HeaderCase::Misplaced);
    }

    fn tail(index: u64) -> Tail {
        Tail { index, ..Tail::default() }
    }

    #[test]
    fn order_follows() {
        for (before, previous) in [(0, None), (5, Some(0)), (10, Some(5)), (10, None)] {
            let case = OrderCase::of(Some(tail(before)), previous.map(tail), tail(10), false);
            assert_eq!((case, case.damage()), (OrderCase::Follows, None));
        }
    }

    #[test]
    fn order_nothing_written() {
        let case = OrderCase::of(None, None, tail(0), true);
        assert_eq!((case, case.damage()), (OrderCase::NothingWritten, None));
    }

    #[test]
    fn order_unreadable() {
        let case = OrderCase::of(None, Some(tail(0)), tail(10), false);
        assert_eq!(case, OrderCase::Unreadable);
        assert!(case.damage().is_some());
    }

    #[test]
    fn order_odd_beginning() {
        let odd = Tail { term: 3, ..tail(0) };
        let case = OrderCase::of(Some(odd), None, tail(10), true);
        assert_eq!(case, OrderCase::OddBeginning);
        assert!(case.damage().is_some());
    }

    #[test]
    fn order_entries_missing() {
        let case = OrderCase::of(Some(tail(11)), None, tail(10), true);
        assert_eq!(case, OrderCase::EntriesMissing);
        assert!(case.damage().is_some());
    }

    #[test]
    fn order_disorder() {
        for previous in [5, 6] {
            let case = OrderCase::of(Some(tail(5)), Some(tail(previous)), tail(10), false);
            assert_eq!(case, OrderCase::Disorder);
            assert!(case.damage().is_some());
        }
    }

    #[test]
    fn witnesses_count_from_the_index_that_they_name() {
        let all = Witnesses { entry: 5, hard_state: 6, snapshot: 7 };
        let told = [4, 5, 6, 7, 8].map(|index| all.of(index));
        let expected =
            [Witness::Entry, Witness::Entry, Witness::HardState, Witness::Snapshot, Witness::None];
        assert_eq!((told, all.greatest()), (expected, 7));
    }

    const WITNESSES: [Witness; 4] =
        [Witness::None, Witness::Entry, Witness::HardState, Witness::Snapshot];
    const BEHINDS: [Behind; 3] = [Behind::Nothing, Behind::Bytes, Behind::BadHeader];

    /// Asserts that just these findings give `case`, and what is done about it.
    fn end(case: EndCase, verdict: Verdict, findings: &[(Behind, Witness)]) {
        for behind in BEHINDS {
            for witness in WITNESSES {
                let found = EndCase::of(false, behind, witness);
                let expected = findings.contains(&(behind, witness));
                assert_eq!(found == case, expected, "{behind:?}, {witness:?}: {found:?}");
            }
        }
        assert_eq!(case.verdict(), verdict);
    }

    #[test]
    fn end_whole() {
        end(EndCase::Whole, Verdict::Keep, &[(Behind::Nothing, Witness::None)]);
    }

    #[test]
    fn end_torn_tail() {
        let findings = [(Behind::Bytes, Witness::None), (Behind::BadHeader, Witness::None)];
        end(EndCase::TornTail, Verdict::Cut, &findings);
    }

    #[test]
    fn end_truncation_under_way_whatever_is_found() {
        for behind in BEHINDS {
            for witness in WITNESSES {
                let case = EndCase::of(true, behind, witness);
                assert_eq!(case, EndCase::TruncationUnderWay);
                assert_eq!(case.verdict(), Verdict::Cut);
            }
        }
        end(EndCase::TruncationUnderWay, Verdict::Cut, &[]);
    }

    #[test]
    fn end_bad_entry() {
        let findings = [(Behind::Bytes, Witness::Entry), (Behind::Nothing, Witness::Entry)];
        end(EndCase::BadEntry, Verdict::Damaged, &findings);
    }

    #[test]
    fn end_bad_last_entry() {
        let findings = [(Behind::Bytes, Witness::HardState)];
        end(EndCase::BadLastEntry, Verdict::Damaged, &findings);
    }

    #[test]
    fn end_entries_lost() {
        let findings = [(Behind::Nothing, Witness::HardState)];
        end(EndCase::EntriesLost, Verdict::Damaged, &findings);
    }

    #[test]
    fn end_shorter_than_snapshot() {
        let findings = [(Behind::Nothing, Witness::Snapshot), (Behind::Bytes, Witness::Snapshot)];
        end(EndCase::ShorterThanSnapshot, Verdict::Damaged, &findings);
    }

    #[test]
    fn end_bad_header() {
        let witnesses = [Witness::Entry, Witness::HardState, Witness::Snapshot];
        let findings = witnesses.map(|witness| (Behind::BadHeader, witness));
        end(EndCase::BadHeader, Verdict::DamagedHeader, &findings);
    }
}
