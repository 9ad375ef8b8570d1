//! Where a record of the log stands: in which chain, behind which mail.

use walengine_net::model::{EventBytes, EventKind, Mail, PartitionId, Verdict, event_kind};
use walengine_net::unit;

/// The chain that the records at hand are of, and whose mail was opened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Around {
    /// The partition of the log, one of so many.
    pub here: u16,
    pub partitions: u16,
    /// Index behind the chain's last record, and the partition that it is handed on to, if it is in doubt.
    pub chain: Option<(usize, Option<u16>)>,
    pub mail: u16,
}

impl Around {
    /// The record at `index` is next.
    pub fn enter(&mut self, events: &[EventBytes], index: usize, verdict: u8) {
        self.chain = self.chain.filter(|(end, _)| index < *end);
        let kind = event_kind(&events[index]).unwrap();
        let is_prepared = verdict == Verdict::InDoubt.number();
        let is_linked = unit::is_linked(&events[index]);
        if self.chain.is_none() && is_linked && (arrives(kind) || is_prepared) {
            let (length, closed) = unit::length(&events[index..]);
            assert!(closed, "a chain is in one entry");
            let next = is_prepared.then(|| self.next(&events[index..], arrives(kind)));
            self.chain = Some((index + length, next));
        }
        if kind == EventKind::Mail {
            self.mail = Mail::from_bytes(&events[index]).home.0;
        }
    }

    /// The partition that the chain at the start of these is handed on to.
    fn next(&self, events: &[EventBytes], arrives: bool) -> u16 {
        let (_, path) = unit::spanning_chain(events, self.partitions).expect("it spans");
        let (here, from) = (PartitionId(self.here), arrives.then_some(PartitionId(self.mail)));
        assert_eq!(path.before(here), from, "where it comes from");
        path.after(here).expect("the last stop is not in doubt").0
    }
}

pub(super) fn arrives(kind: EventKind) -> bool {
    let of_all = matches!(kind, EventKind::AccountArrival | EventKind::CloseArrival);
    of_all || matches!(kind, EventKind::Arrival | EventKind::GuardArrival | EventKind::WordArrival)
}
