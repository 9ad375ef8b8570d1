//! Writes: batches of events, batches of opaque records, and their outcomes.

use rkyv::with::InlineAsBox;

use super::outcome::{OutcomeRun, Outcomes};
use super::{ArchivedOutcomeRun, Message, MessageError, at_most, offset_of};
use crate::frame::Kind;
use crate::limits::{
    EVENTS_MAX, RECORD_BYTES_MAX, RECORDS_BLOB_BYTES_MAX, RECORDS_MAX, TOKENS_MAX,
};
use crate::model::{EventBytes, Offset, Verdict};

/// A batch of events for one partition. They are decided in order; each gets one outcome.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct Submit<'a> {
    /// The events, each in its 128-byte form.
    #[rkyv(with = InlineAsBox)]
    pub events: &'a [EventBytes],
}

/// A batch of events for one partition, as a [`Submit`] is, some of which may span partitions.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct SubmitSpanning<'a> {
    /// The events, each in its 128-byte form.
    #[rkyv(with = InlineAsBox)]
    pub events: &'a [EventBytes],
}

/// Id and length of an opaque record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub struct AppendHead {
    /// Its id, which has one verdict for ever.
    pub id: u128,
    /// Length in bytes.
    pub bytes: u32,
}

/// A batch of opaque records for one partition.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct Append<'a> {
    /// Offset that the first record must get, or [`crate::entry::ANY_OFFSET`]. Record `i` must get
    /// this plus `i`.
    pub expected_offset: u64,
    /// One for each record.
    #[rkyv(with = InlineAsBox)]
    pub heads: &'a [AppendHead],
    /// The records' bytes, concatenated.
    #[rkyv(with = InlineAsBox)]
    pub blob: &'a [u8],
}

/// Outcomes of a batch. Sent when every record that they depend on is durable on a majority.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct SubmitReply<'a> {
    /// A state that includes this offset includes everything answered here.
    /// [`super::NO_OFFSET`] if nothing was logged.
    pub token_offset: u64,
    /// Outcomes in the order of the request, run-length encoded.
    #[rkyv(with = InlineAsBox)]
    pub runs: &'a [OutcomeRun],
}

/// A place in a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub struct Reached {
    /// The partition.
    pub partition: u16,
    /// An offset of it.
    pub offset: u64,
}

/// Outcomes of a batch. Sent when every record that they depend on is durable on a majority.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize)]
pub struct SubmitSpanningReply<'a> {
    /// States that include these offsets include everything answered here, of each partition that is
    /// known to have a part in it, once each.
    #[rkyv(with = InlineAsBox)]
    pub tokens: &'a [Reached],
    /// Outcomes in the order of the request, run-length encoded.
    #[rkyv(with = InlineAsBox)]
    pub runs: &'a [OutcomeRun],
}

impl Message for Submit<'_> {
    const KIND: Kind = Kind::Submit;
    type View = ArchivedSubmit<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the batch", view.events.len(), EVENTS_MAX)
    }
}

impl Message for SubmitSpanning<'_> {
    const KIND: Kind = Kind::SubmitSpanning;
    type View = ArchivedSubmitSpanning<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the batch", view.events.len(), EVENTS_MAX)
    }
}

impl Message for Append<'_> {
    const KIND: Kind = Kind::Append;
    type View = ArchivedAppend<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the batch", view.heads.len(), RECORDS_MAX)?;
        at_most("the records' bytes", view.blob.len(), RECORDS_BLOB_BYTES_MAX)?;
        let blob_bytes: u64 = view.heads.iter().map(|head| u64::from(head.bytes.to_native())).sum();
        if blob_bytes != view.blob.len() as u64 {
            return Err(MessageError::Contradiction("the records' lengths do not add up"));
        }
        Ok(())
    }
}

const _: () = assert!(RECORD_BYTES_MAX <= RECORDS_BLOB_BYTES_MAX, "one record fits the blob");

impl ArchivedAppend<'_> {
    /// Each record with its head, in order. The lengths have been checked by [`super::open`].
    pub fn records(&self) -> impl Iterator<Item = (&ArchivedAppendHead, &[u8])> {
        let mut rest: &[u8] = &self.blob;
        self.heads.iter().map_while(move |head| {
            let (record, others) = rest.split_at_checked(head.bytes.to_native() as usize)?;
            rest = others;
            Some((head, record))
        })
    }
}

impl Message for SubmitReply<'_> {
    const KIND: Kind = Kind::SubmitReply;
    type View = ArchivedSubmitReply<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        check_runs(&view.runs)
    }
}

impl Message for SubmitSpanningReply<'_> {
    const KIND: Kind = Kind::SubmitSpanningReply;
    type View = ArchivedSubmitSpanningReply<'static>;

    fn check(view: &Self::View) -> Result<(), MessageError> {
        at_most("the tokens", view.tokens.len(), TOKENS_MAX)?;
        check_runs(&view.runs)
    }
}

fn check_runs(runs: &[ArchivedOutcomeRun]) -> Result<(), MessageError> {
    at_most("the reply", runs.len(), EVENTS_MAX)?;
    at_most("the reply", events_in(runs), EVENTS_MAX)?;
    if runs.iter().all(run_is_whole) {
        Ok(())
    } else {
        Err(MessageError::Contradiction("an outcome is not known to this version"))
    }
}

/// Number of outcomes in these runs.
pub fn events_in(runs: &[ArchivedOutcomeRun]) -> usize {
    let events: u64 = runs.iter().map(|run| u64::from(run.count.to_native())).sum();
    usize::try_from(events).unwrap_or(usize::MAX)
}

fn run_is_whole(run: &ArchivedOutcomeRun) -> bool {
    let last = u64::from(run.count.to_native()).saturating_sub(1);
    Verdict::from_number(run.verdict).is_some()
        && run.marks & !OutcomeRun::MARKS == 0
        && run.first_offset.to_native().checked_add(last).is_some()
        && run.first_timestamp.to_native().checked_add(last).is_some()
}

impl ArchivedSubmitReply<'_> {
    /// See [`SubmitReply::token_offset`].
    pub fn token_offset(&self) -> Option<Offset> {
        offset_of(self.token_offset.to_native())
    }

    /// Number of outcomes: as many as the request had events.
    pub fn events(&self) -> usize {
        events_in(&self.runs)
    }

    /// The outcomes, in the order of the request.
    pub fn outcomes(&self) -> Outcomes<impl Iterator<Item = OutcomeRun>> {
        Outcomes::new(self.runs.iter().map(ArchivedOutcomeRun::to_native))
    }
}
