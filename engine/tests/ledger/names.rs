//! What accounts and ledgers are called: the rules again, and what can be found by name.

use std::collections::BTreeMap;

use walengine::ledger::{Draft, Ledger, Outcomes};
use walengine_net::limits::LEDGERS_MAX;
use walengine_net::model::{
    Account, AccountId, Code, Describe, DescribeFlags, EventBytes, EventId, LedgerId, Name,
    NameFlags, NameText, PartitionId, Timestamp, Verdict,
};

use crate::model::{Model, State, all_zero, is_reserved};

/// Verdicts on a malformed name, but for those of all events.
pub fn malformed_name(
    model: &Model,
    bytes: &EventBytes,
    name: &Name,
    chained: bool,
    found: &mut Vec<(bool, Verdict)>,
) {
    found.extend([
        (name.flags.0 > 1, Verdict::FlagsUnknown),
        (!all_zero(&bytes[112..118]) || !all_zero(&bytes[120..]), Verdict::ReservedNotZero),
        (name.account_id.0 == 0, Verdict::AccountIdZero),
        (!chained && model.elsewhere(name.account_id), Verdict::WrongPartition),
        (is_reserved(name.account_id), Verdict::AccountReserved),
        (!is_text(&bytes[32..112]), Verdict::NameMalformed),
    ]);
}

/// The same of a description.
pub fn malformed_description(
    model: &Model,
    bytes: &EventBytes,
    describe: &Describe,
    chained: bool,
    found: &mut Vec<(bool, Verdict)>,
) {
    let unused =
        !all_zero(&bytes[17..32]) || !all_zero(&bytes[116..118]) || !all_zero(&bytes[120..]);
    found.extend([
        (describe.flags.0 > 3, Verdict::FlagsUnknown),
        (unused, Verdict::ReservedNotZero),
        (describe.ledger.0 == 0, Verdict::LedgerZero),
        (!chained && model.partition.0 != 0, Verdict::WrongPartition),
        (!is_text(&bytes[32..112]), Verdict::NameMalformed),
        (describe.scale > 38, Verdict::ScaleTooLarge),
    ]);
}

/// Only letters of the generator's, and what `again` makes of them, come here.
fn is_text(bytes: &[u8]) -> bool {
    let text = bytes.split(|&byte| byte == 0).next().unwrap();
    let is_closed = all_zero(&bytes[text.len()..]);
    let Ok(text) = std::str::from_utf8(text) else { return false };
    is_closed && !text.starts_with(' ') && !text.ends_with(' ') && !text.contains(char::is_control)
}

impl State {
    pub fn name(&mut self, name: &Name) -> Result<(), Verdict> {
        if !self.accounts.contains_key(&name.account_id.0) {
            return Err(Verdict::NameAccountNotFound);
        }
        self.names.insert(name.account_id.0, name.name.text().unwrap().to_owned());
        Ok(())
    }

    /// Everything that a ledger says of names.
    pub fn check_names(&self, ledger: &Ledger) {
        for id in self.accounts.keys() {
            let name = ledger.name(AccountId(*id)).map(|name| name.to_string());
            let expected = self.names.get(id).filter(|name| !name.is_empty());
            assert_eq!(name.as_ref(), expected);
        }
        let named: Vec<_> = self.names.iter().filter(|(_, name)| !name.is_empty()).collect();
        for prefix in ["", "a", "an", "Anna", "an account whose name", "zz"] {
            let found = ledger.names_from(prefix, 0).filter_map(|(_, named)| named);
            let mut found: Vec<_> =
                found.map(|named| (named.account.0, named.text.to_string())).collect();
            found.sort();
            let begins = |name: &String| name.to_lowercase().starts_with(&prefix.to_lowercase());
            let expected = named.iter().filter(|(_, name)| begins(name));
            let expected: Vec<_> = expected.map(|(id, name)| (**id, (*name).clone())).collect();
            assert_eq!(found, expected, "{prefix:?}");
        }
    }
}

fn account(number: u128) -> EventBytes {
    let id = AccountId(number);
    Account { id, ledger: LedgerId(1), code: Code(1), ..Account::default() }.to_bytes()
}

fn name(id: u128, account: u128, text: &str) -> EventBytes {
    let (id, account_id) = (EventId(id), AccountId(account));
    let name = NameText::new(text).unwrap();
    Name { id, account_id, name, flags: NameFlags::default() }.to_bytes()
}

fn describe(id: u128, ledger: u32, text: &str, scale: u8, flags: DescribeFlags) -> EventBytes {
    let (id, ledger) = (EventId(id), LedgerId(ledger));
    let name = NameText::new(text).unwrap();
    Describe { id, ledger, name, scale, flags }.to_bytes()
}

/// Submits, and returns the verdicts.
fn submit(ledger: &mut Ledger, events: &[EventBytes]) -> (Vec<Verdict>, Draft) {
    let (mut draft, mut outcomes) = (Draft::new(), Outcomes::new());
    ledger.submit(events, &mut draft, Timestamp(1), &mut outcomes);
    (outcomes.iter().map(|outcome| outcome.verdict).collect(), draft)
}

fn restored(ledger: &mut Ledger) -> Ledger {
    let mut cut = ledger.snapshot();
    let chunks: Vec<_> = std::iter::from_fn(|| cut.next_chunk(ledger, 4096)).collect();
    Ledger::restore(PartitionId(0), 1, &chunks).unwrap()
}

#[test]
fn a_ledger_keeps_its_scale_unless_it_is_told_to_change() {
    let mut ledger = Ledger::new(PartitionId(0), 1);
    let plain = DescribeFlags::default();
    let (verdicts, _) = submit(
        &mut ledger,
        &[
            describe(1, 840, "USD", 2, plain),
            describe(2, 840, "US dollar", 2, plain),
            describe(3, 840, "US dollar", 3, plain),
            describe(4, 392, "JPY", 0, plain),
            describe(5, 1, "too fine", 39, plain),
            describe(1, 840, "USD", 2, plain),
        ],
    );
    let ok = Verdict::Ok;
    let (differs, too_large) = (Verdict::LedgerScaleDiffers, Verdict::ScaleTooLarge);
    assert_eq!(verdicts, [ok, ok, differs, ok, too_large, ok]);
    let all = |ledger: &Ledger| {
        let all = ledger.described();
        all.map(|(ledger, it)| (ledger.0, it.text.to_string(), it.scale)).collect::<Vec<_>>()
    };
    let before = [(392, "JPY".to_owned(), 0), (840, "US dollar".to_owned(), 2)];
    assert_eq!(all(&ledger), before);
    let (digest, previous) = (ledger.digest(), ledger.last_timestamp());
    let (verdicts, draft) = submit(
        &mut ledger,
        &[
            describe(6, 840, "USD", 4, DescribeFlags::RESCALE),
            describe(7, 840, "dollar", 4, plain),
            describe(8, 978, "EUR", 2, plain),
        ],
    );
    assert_eq!(verdicts, [ok; 3]);
    let after = [(392, "JPY".into(), 0), (840, "dollar".to_owned(), 4), (978, "EUR".into(), 2)];
    assert_eq!(all(&ledger), after);
    let restored = restored(&mut ledger);
    assert_eq!((all(&restored), restored.digest()), (after.to_vec(), ledger.digest()));
    let Draft { base_offset, .. } = draft;
    ledger.undo_events(base_offset, previous, &draft.events, &draft.verdicts, &draft.resolved);
    assert_eq!((all(&ledger), ledger.digest()), (before.to_vec(), digest));
}

#[test]
fn no_more_ledgers_are_described_than_can_be_listed() {
    let mut ledger = Ledger::new(PartitionId(0), 1);
    let one = |number: u32| {
        let flags = DescribeFlags::default();
        describe(u128::from(number), number, "x", 2, flags)
    };
    let all: Vec<_> = (1..=LEDGERS_MAX as u32).map(one).collect();
    assert!(submit(&mut ledger, &all).0.iter().all(|verdict| verdict.is_ok()));
    let more = one(LEDGERS_MAX as u32 + 1);
    let again = describe(1 << 40, 7, "y", 2, DescribeFlags::default());
    assert_eq!(submit(&mut ledger, &[more, again]).0, [Verdict::LedgersTooMany, Verdict::Ok]);
    assert_eq!(restored(&mut ledger).digest(), ledger.digest());
}

#[test]
fn accounts_are_found_by_the_beginning_of_their_names_page_by_page() {
    let mut ledger = Ledger::new(PartitionId(0), 1);
    let texts: BTreeMap<u128, String> = (1..=300)
        .map(|number| {
            let text = match number % 3 {
                0 => format!("Customer number {number:03}"),
                1 => format!("customer {number}"),
                _ => "Änne Ørsted".to_owned(),
            };
            (number, text)
        })
        .collect();
    let accounts: Vec<_> = texts.keys().map(|number| account(*number)).collect();
    let names: Vec<_> =
        texts.iter().map(|(number, text)| name(1000 + number, *number, text)).collect();
    for events in [accounts, names] {
        assert!(submit(&mut ledger, &events).0.iter().all(|verdict| verdict.is_ok()));
    }
    for (prefix, expected) in [
        ("CUSTOMER NUMBER 0", 33),
        ("customer", 200),
        ("customer n", 100),
        ("änne", 100),
        ("Änne Ørsted", 100),
        ("Änne Ørsteds", 0),
        ("", 300),
        ("d", 0),
    ] {
        let (mut found, mut after) = (Vec::new(), 0);
        loop {
            let page: Vec<_> = ledger.names_from(prefix, after).take(7).collect();
            let Some((last, _)) = page.last() else { break };
            assert!(*last > after, "it goes on");
            after = *last;
            found.extend(page.iter().filter_map(|(_, named)| named.map(|it| it.account)));
        }
        assert_eq!(found.len(), expected, "{prefix:?}");
        found.sort();
        found.dedup();
        assert_eq!(found.len(), expected, "{prefix:?}: none twice");
    }
    let digest = ledger.digest();
    let nameless = [name(2001, 1, ""), name(2002, 7, "")];
    assert_eq!(submit(&mut ledger, &nameless).0, [Verdict::Ok; 2]);
    assert_eq!(ledger.name(AccountId(1)), None);
    assert_eq!(ledger.names_from("customer 1", 0).filter(|(_, it)| it.is_some()).count(), 38);
    assert_ne!(ledger.digest(), digest);
    assert_eq!(restored(&mut ledger).digest(), ledger.digest());
}
