//! Which request ids a connection has used: each may be used once.

use std::collections::VecDeque;

use walengine_net::frame::RequestId;

use crate::limits::ID_RUNS_MAX;

/// See the module. A client that counts takes one run, however long; of one that does not, the ids of
/// the newest runs are known.
#[derive(Clone, Debug, Default)]
pub struct RequestIds {
    /// First and last id of each run of ids that were used. Invariant: ascending, with ids between them
    /// that were not used or are forgotten.
    runs: VecDeque<(u64, u64)>,
}

impl RequestIds {
    /// The id is none, or was used before.
    pub fn is_used(&self, id: RequestId) -> bool {
        let id = id.0;
        match self.runs.back() {
            Some((_, last)) if id > *last => false,
            None => id == 0,
            Some(_) => {
                let behind = self.runs.partition_point(|(first, _)| *first <= id);
                let before = behind.checked_sub(1).map(|place| self.runs[place]);
                id == 0 || before.is_some_and(|(_, last)| id <= last)
            }
        }
    }

    /// Takes an id; false if it is none, or was used before.
    pub fn take(&mut self, id: RequestId) -> bool {
        if self.is_used(id) {
            return false;
        }
        let id = id.0;
        match self.runs.back_mut() {
            Some((_, last)) if id == last.wrapping_add(1) => *last = id,
            Some((_, last)) if id < *last => self.take_between(id),
            _ => self.runs.push_back((id, id)),
        }
        if self.runs.len() > ID_RUNS_MAX {
            self.runs.pop_front(); // the lowest ids: clients mostly go up
        }
        true
    }

    /// An id that was taken may be used again.
    pub fn free(&mut self, id: RequestId) {
        let id = id.0;
        let behind = self.runs.partition_point(|(first, _)| *first <= id);
        let Some(place) = behind.checked_sub(1) else { return };
        let (first, last) = self.runs[place];
        if id > last {
            return;
        }
        self.runs.remove(place);
        if id < last {
            self.runs.insert(place, (id + 1, last));
        }
        if first < id {
            self.runs.insert(place, (first, id - 1));
        }
    }

    /// Takes an id below the greatest one.
    fn take_between(&mut self, id: u64) {
        let behind = self.runs.partition_point(|(first, _)| *first < id);
        let joins_next = self.runs[behind].0 == id + 1;
        let joins_last = behind > 0 && self.runs[behind - 1].1 + 1 == id;
        match (joins_last, joins_next) {
            (true, true) => {
                self.runs[behind - 1].1 = self.runs[behind].1;
                self.runs.remove(behind);
            }
            (true, false) => self.runs[behind - 1].1 = id,
            (false, true) => self.runs[behind].0 = id,
            (false, false) => self.runs.insert(behind, (id, id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(ids: &mut RequestIds, id: u64) -> bool {
        ids.take(RequestId(id))
    }

    #[test]
    fn no_id_is_taken_twice_and_zero_is_none() {
        let mut ids = RequestIds::default();
        assert!(!take(&mut ids, 0));
        for id in [1, 2, 3, 9, 8, 10, 5, 4, u64::MAX, 7, 6] {
            assert!(take(&mut ids, id), "{id} is new");
            assert!(!take(&mut ids, id), "{id} was used");
        }
        assert!((1..=10).all(|id| !take(&mut ids, id)));
        assert!(!take(&mut ids, 0) && take(&mut ids, 11));
        assert_eq!(ids.runs.len(), 2, "{ids:?}");
    }

    #[test]
    fn an_id_that_was_freed_may_be_used_again() {
        let mut ids = RequestIds::default();
        assert!((1..=5).all(|id| take(&mut ids, id)));
        for id in [3, 1, 5] {
            ids.free(RequestId(id));
            ids.free(RequestId(id));
            assert!(!ids.is_used(RequestId(id)));
        }
        assert!(ids.is_used(RequestId(2)) && ids.is_used(RequestId(4)));
        assert!([5, 1, 3].iter().all(|id| take(&mut ids, *id)) && !take(&mut ids, 3));
        assert_eq!(ids.runs, [(1, 5)]);
    }

    #[test]
    fn against_a_set_and_bounded() {
        let mut ids = RequestIds::default();
        let mut seen = std::collections::BTreeSet::new();
        let mut next = 1_u64;
        for _ in 0..20_000 {
            next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let id = next >> 55;
            assert_eq!(take(&mut ids, id), id != 0 && seen.insert(id), "{id}");
        }
        for step in 0..10_000 {
            assert!(take(&mut ids, 1000 + 2 * step));
            assert!(ids.runs.len() <= ID_RUNS_MAX);
        }
        assert!(!take(&mut ids, 1000 + 2 * 9_999));
    }
}
