//! The newest transfers that were prepared here, as they were sent, so that what brings them to their other
//! partition need not read them from the log. Bounded; a hint: what is not here is in the log.

use std::collections::VecDeque;

use walengine_net::model::{EventBytes, Offset};

use crate::limits::PREPARED_KEPT_MAX;

/// See the module.
#[derive(Default)]
pub struct Prepared(VecDeque<(Offset, EventBytes)>);

impl Prepared {
    /// Takes the next one. Those at or behind its offset were taken back.
    pub fn push(&mut self, offset: Offset, event: EventBytes) {
        while self.0.back().is_some_and(|(last, _)| *last >= offset) {
            self.0.pop_back();
        }
        if self.0.len() == PREPARED_KEPT_MAX {
            self.0.pop_front();
        }
        self.0.push_back((offset, event));
    }

    /// Memory in bytes.
    pub fn bytes(&self) -> u64 {
        (self.0.capacity() * size_of::<(Offset, EventBytes)>()) as u64
    }

    /// What was prepared at these offsets, which ascend, as far as it is here.
    pub fn at(&self, offsets: impl Iterator<Item = Offset>) -> Vec<Option<EventBytes>> {
        let mut next = 0;
        let find = |offset: Offset| {
            next += self.0.iter().skip(next).take_while(|(at, _)| *at < offset).count();
            self.0.get(next).filter(|(at, _)| *at == offset).map(|(_, event)| *event)
        };
        offsets.map(find).collect()
    }

    /// Forgets what stands below an offset.
    pub fn forget_below(&mut self, offset: Offset) {
        while self.0.pop_front_if(|(at, _)| *at < offset).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_back_is_replaced_and_the_oldest_goes_first() {
        let event = |number: u64| {
            let mut event = [0; 128];
            event[..8].copy_from_slice(&number.to_le_bytes());
            event
        };
        let mut prepared = Prepared::default();
        for offset in [3, 5, 9, 5] {
            prepared.push(Offset(offset), event(offset));
        }
        prepared.push(Offset(7), event(70));
        let found = prepared.at([1, 3, 5, 6, 7, 9].map(Offset).into_iter());
        assert_eq!(found, [None, Some(event(3)), Some(event(5)), None, Some(event(70)), None]);
        prepared.forget_below(Offset(5));
        assert_eq!(prepared.at([3, 5].map(Offset).into_iter()), [None, Some(event(5))]);
        for offset in 8..8 + PREPARED_KEPT_MAX as u64 {
            prepared.push(Offset(offset), event(offset));
        }
        assert_eq!(prepared.at([7, 8].map(Offset).into_iter()), [None, Some(event(8))]);
    }
}
