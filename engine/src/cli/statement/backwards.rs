//! One partition's log from its end backwards, for what has moved one account's money. Holds one window of
//! records at a time.

use std::collections::HashMap;

use walengine_net::cli::{Fatal, Reason};
use walengine_net::client::Page;
use walengine_net::client::blocking::Client;
use walengine_net::model::{Account, Amount, Offset, Resolved, Timestamp, Token};
use walengine_net::records::{Content, LogRecord, records};

use crate::effect::{Moved, Record, Whose, effect};
use crate::limits::{STATEMENT_PAGE_BYTES, STATEMENT_WINDOW_RECORDS};

/// A row of a statement.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Where its record is.
    pub token: Token,
    /// Log time of that.
    pub time: Timestamp,
    /// What was moved.
    pub moved: Moved,
    /// Posted debits and credits afterwards.
    pub after: [Amount; 2],
}

/// See the module.
pub struct Backwards<'a> {
    client: &'a Client,
    whose: Whose,
    /// The state to begin with includes everything below it.
    tokens: [Token; 1],
    /// What is before it was not looked at yet.
    at: u64,
    /// Nothing before it is looked at.
    floor: u64,
    /// Posted debits and credits at [`Self::at`].
    sums: [Amount; 2],
}

impl<'a> Backwards<'a> {
    /// From a state of the account that includes everything below `end` and nothing else, down to `floor`.
    pub fn new(
        client: &'a Client,
        whose: Whose,
        account: &Account,
        end: Offset,
        floor: Offset,
    ) -> Self {
        let offset = Offset(end.0.saturating_sub(1));
        let token = Token { cluster: client.info().cluster, partition: whose.here, offset };
        let sums = [account.debits_posted, account.credits_posted];
        Self { client, whose, tokens: [token], at: end.0, floor: floor.0, sums }
    }

    /// First offset that was looked at.
    pub fn covered_from(&self) -> Offset {
        Offset(self.at)
    }

    /// Nothing was posted before what was looked at.
    pub fn is_at_nothing(&self) -> bool {
        self.sums == [Amount(0); 2]
    }

    /// The rows of the next window, newest first; `None` once nothing can be left.
    pub fn window(&mut self) -> Result<Option<Vec<Line>>, Fatal> {
        // Before it moved for the first time there is nothing. A stripe may have given away all that it had.
        let is_done = self.is_at_nothing() && !self.whose.account.is_striped();
        if is_done || self.at <= self.floor {
            return Ok(None);
        }
        let begin = self.at.saturating_sub(STATEMENT_WINDOW_RECORDS).max(self.floor);
        let records = self.read(begin, self.at)?;
        let mut earlier = HashMap::new();
        let mut lines = Vec::new();
        for (offset, time, record) in records.values().rev() {
            let client = (self.client, self.whose, &self.tokens[..]);
            let prepared = |place: u64| match records.get(place) {
                Some((_, _, record)) => Ok(Some(*record)),
                None => earlier_record(client, place, &mut earlier),
            };
            let Some(moved) = effect(&self.whose, record, prepared)? else { continue };
            let after = self.sums;
            self.sums = before(after, &moved)?;
            let token = Token { offset: Offset(*offset), ..self.tokens[0] };
            lines.push(Line { token, time: *time, moved, after });
        }
        self.at = begin;
        Ok(Some(lines))
    }

    /// The records of events from `begin` up to `end`.
    fn read(&self, begin: u64, end: u64) -> Result<Window, Fatal> {
        let mut window = Window { begin, records: Vec::new() };
        let mut next = Offset(begin);
        while next.0 < end {
            let (client, here) = (self.client, self.whose.here);
            let page = client.read_log(here, next, STATEMENT_PAGE_BYTES, &self.tokens)?;
            each_record(&page, |offset, time, record| {
                if (begin..end).contains(&offset) {
                    window.records.push((offset, time, record));
                }
            })?;
            if page.next_offset <= next {
                return Err(bad("the log ends before its end"));
            }
            next = page.next_offset;
        }
        Ok(window)
    }
}

/// Records in order of offset, without opaque ones.
struct Window {
    begin: u64,
    records: Vec<(u64, Timestamp, Record)>,
}

impl Window {
    fn values(&self) -> impl DoubleEndedIterator<Item = &(u64, Timestamp, Record)> {
        self.records.iter()
    }

    fn get(&self, offset: u64) -> Option<&(u64, Timestamp, Record)> {
        if offset < self.begin {
            return None;
        }
        let place = self.records.binary_search_by_key(&offset, |(offset, ..)| *offset).ok()?;
        self.records.get(place)
    }
}

/// The posted sums before something was moved.
fn before([debits, credits]: [Amount; 2], moved: &Moved) -> Result<[Amount; 2], Fatal> {
    let debits = debits.0.checked_sub(moved.debit.0);
    let credits =
        credits.0.checked_add(moved.given.0).and_then(|sum| sum.checked_sub(moved.credit.0));
    match (debits, credits) {
        (Some(debits), Some(credits)) => Ok([Amount(debits), Amount(credits)]),
        _ => Err(bad("the account's balance and the log do not agree")),
    }
}

/// A record before the window. Those of its entry are remembered for the window's other words.
fn earlier_record(
    (client, whose, tokens): (&Client, Whose, &[Token]),
    place: u64,
    known: &mut HashMap<u64, Record>,
) -> Result<Option<Record>, Fatal> {
    if !known.contains_key(&place) {
        known.clear();
        let page = client.read_log(whose.here, Offset(place), 1, tokens)?;
        each_record(&page, |offset, _, record| {
            known.insert(offset, record);
        })?;
    }
    Ok(known.get(&place).copied())
}

fn each_record(page: &Page, mut each: impl FnMut(u64, Timestamp, Record)) -> Result<(), Fatal> {
    for entry in page.entries() {
        let (header, body) = entry.map_err(|error| bad(&error.to_string()))?;
        for record in records(&header, body).map_err(|error| bad(&error.to_string()))? {
            let LogRecord { offset, timestamp, verdict, content } = record;
            let Content::Event { event, resolved } = content else { continue };
            let resolved = resolved.map(Resolved::from_bytes);
            each(offset.0, timestamp, Record { event: *event, verdict, resolved });
        }
    }
    Ok(())
}

/// The server is at fault.
pub fn bad(why: &str) -> Fatal {
    Fatal::new(Reason::Server, format!("the server's answer makes no sense: {why}"))
}

#[cfg(test)]
mod tests {
    use walengine_net::model::AccountId;

    use super::*;

    #[test]
    fn sums_are_what_they_were_before_or_it_is_told() {
        let moved = |debit, credit, given| Moved {
            kind: "transfer",
            id: 1,
            other: AccountId(2),
            debit: Amount(debit),
            credit: Amount(credit),
            given: Amount(given),
            booked: None,
        };
        let sums = |debits, credits| [Amount(debits), Amount(credits)];
        assert_eq!(before(sums(10, 20), &moved(3, 0, 0)).unwrap(), sums(7, 20));
        assert_eq!(before(sums(10, 20), &moved(0, 20, 0)).unwrap(), sums(10, 0));
        assert_eq!(before(sums(10, 20), &moved(0, 0, 5)).unwrap(), sums(10, 25));
        for wrong in [moved(11, 0, 0), moved(0, 21, 0), moved(0, 0, u128::MAX)] {
            assert_eq!(before(sums(10, 20), &wrong).unwrap_err().reason, Reason::Server);
        }
    }
}
