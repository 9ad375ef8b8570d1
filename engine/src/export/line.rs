//! One record as a line of JSON, and back. A field that is zero is left out. Numbers of up to 32 bits
//! are numbers, all longer ones are text: most readers of JSON know 53 bits only.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, de};
use walengine_net::entry::{ANY_OFFSET, RecordHead};
use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Arrival, Close, CloseFlags, Code, Describe,
    DescribeFlags, Event, EventBytes, EventId, Expire, FLAG_LINKED, Guard, GuardFlags, LedgerId,
    Mail, Name, NameFlags, NameText, PartitionId, Resolved, Sent, Transfer, TransferFlags, Verdict,
    Word,
};

use super::{from_hex, hex};

/// How the first line of an export begins, and no other file.
pub const FIRST_KEY: &str = "{\"walengine_export\":";

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub partition: u16,
    pub offset: u64,
    pub time: u64,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// `Resolved::index` does not count: the line's place in its entry does.
    Event(EventBytes, Option<Resolved>),
    Opaque(RecordHead, Vec<u8>),
}

/// A number that stands as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Long<T>(pub T);

impl<'de, T: FromStr> Deserialize<'de> for Long<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(from)?;
        let number = text.bytes().all(|digit| digit.is_ascii_digit()).then(|| text.parse().ok());
        number.flatten().map(Self).ok_or_else(|| de::Error::custom("a number is out of range"))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordLine<'a> {
    partition: u16,
    offset: Long<u64>,
    time: Long<u64>,
    kind: &'a str,
    verdict: &'a str,
    id: Option<Long<u128>>,
    account: Option<Long<u128>>,
    debit_account: Option<Long<u128>>,
    credit_account: Option<Long<u128>>,
    amount: Option<Long<u128>>,
    #[serde(default)]
    ledger: u32,
    #[serde(default)]
    code: u16,
    #[serde(default)]
    flags: &'a str,
    pending_id: Option<Long<u128>>,
    user_data_128: Option<Long<u128>>,
    user_data_64: Option<Long<u64>>,
    #[serde(default)]
    user_data_32: u32,
    #[serde(default)]
    timeout_seconds: u32,
    available: Option<Long<u128>>,
    version: Option<Long<u64>>,
    expected_offset: Option<Long<u64>>,
    #[serde(default)]
    home: u16,
    previous: Option<Long<u64>>,
    settled_below: Option<Long<u64>>,
    place: Option<Long<u64>>,
    said: Option<&'a str>,
    said_of: Option<Long<u64>>,
    data: Option<&'a str>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(default)]
    scale: u8,
    event: Option<&'a str>,
    effective: Option<EffectiveLine>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EffectiveLine {
    debit_account: Long<u128>,
    credit_account: Long<u128>,
    amount: Long<u128>,
    #[serde(default)]
    ledger: u32,
    #[serde(default)]
    code: u16,
}

/// Appends a record's line to `out`, with the line break.
pub(super) fn put_event(
    out: &mut String,
    place: Place,
    verdict: Verdict,
    bytes: &EventBytes,
    effective: Option<&Resolved>,
) {
    match Event::from_bytes(bytes) {
        Ok(event) if carried(event).to_bytes() == *bytes && has_known_flags(&event) => {
            put_known(out, place, verdict, &event);
        }
        // Nothing that a ledger logs today; a line must not lose a bit of it all the same.
        _ => {
            put_head(out, place, "bytes", verdict, 0);
            text(out, "event", hex(bytes));
        }
    }
    if let Some(effective) = effective {
        out.push_str(",\"effective\":{");
        let start = out.len();
        text(out, "debit_account", effective.debit_account_id);
        text(out, "credit_account", effective.credit_account_id);
        text(out, "amount", effective.amount);
        number(out, "ledger", effective.ledger.0);
        number(out, "code", effective.code.0);
        out.remove(start); // the first comma
        out.push('}');
    }
    out.push_str("}\n");
}

fn put_known(out: &mut String, place: Place, verdict: Verdict, event: &Event) {
    match event {
        Event::Transfer(transfer) => {
            put_head(out, place, "transfer", verdict, transfer.id.0);
            put_transfer(out, transfer);
        }
        Event::Account(account) => {
            put_head(out, place, "account", verdict, account.id.0);
            put_account(out, account);
        }
        Event::Guard(guard) => {
            put_head(out, place, "guard", verdict, guard.id.0);
            put_guard(out, guard);
        }
        Event::Expire(expire) => {
            put_head(out, place, "expire", verdict, 0);
            text(out, "pending_id", expire.pending_id);
        }
        Event::Close(close) => {
            put_head(out, place, "close", verdict, close.id.0);
            put_close(out, close);
        }
        Event::Mail(mail) => {
            put_head(out, place, "mail", verdict, 0);
            number(out, "home", mail.home.0);
            text(out, "previous", mail.previous);
            text(out, "settled_below", mail.settled_below);
        }
        Event::Arrival(arrival) => {
            match &arrival.sent {
                Sent::Transfer(transfer) => {
                    put_head(out, place, "arrival", verdict, transfer.id.0);
                    put_transfer(out, transfer);
                }
                Sent::Guard(guard) => {
                    put_head(out, place, "guard_arrival", verdict, guard.id.0);
                    put_guard(out, guard);
                }
                Sent::Word(word) => {
                    put_head(out, place, "word_arrival", verdict, word.id.0);
                    text(out, "said_of", word.place);
                    put_word(out, word);
                }
                Sent::Account(account) => {
                    put_head(out, place, "account_arrival", verdict, account.id.0);
                    put_account(out, account);
                }
                Sent::Close(close) => {
                    put_head(out, place, "close_arrival", verdict, close.id.0);
                    put_close(out, close);
                }
            }
            text(out, "place", arrival.place);
        }
        Event::Name(name) => {
            put_head(out, place, "name", verdict, name.id.0);
            text(out, "account", name.account_id);
            put_name(out, &name.name);
            flags(out, &name.flags.names());
        }
        Event::Describe(describe) => {
            put_head(out, place, "describe", verdict, describe.id.0);
            number(out, "ledger", describe.ledger.0);
            put_name(out, &describe.name);
            number(out, "scale", describe.scale);
            flags(out, &describe.flags.names());
        }
        Event::Word(word) => {
            put_head(out, place, "word", verdict, word.id.0);
            text(out, "place", word.place);
            put_word(out, word);
        }
    }
}

fn put_account(out: &mut String, account: &Account) {
    number(out, "ledger", account.ledger.0);
    number(out, "code", account.code.0);
    flags(out, &account.flags.names());
    text_unless_zero(out, "user_data_128", account.user_data_128);
    text_unless_zero(out, "user_data_64", account.user_data_64.into());
}

fn put_close(out: &mut String, close: &Close) {
    text(out, "account", close.account_id);
    flags(out, &close.flags.names());
}

/// Only what is a name is logged.
fn put_name(out: &mut String, name: &NameText) {
    if let Some(known) = name.text().filter(|known| !known.is_empty()) {
        let _ = write!(out, ",\"name\":{}", serde_json::Value::from(known));
    }
}

fn put_word(out: &mut String, word: &Word) {
    text(out, "said", word.verdict.name());
    text_unless_zero(out, "amount", word.amount.0);
    text_unless_zero(out, "pending_id", word.pending_id.0);
    flags(out, if word.is_linked { &["linked"] } else { &[] });
}

fn put_guard(out: &mut String, guard: &Guard) {
    text(out, "account", guard.account_id);
    flags(out, &guard.flags.names());
    text_unless_zero(out, "available", guard.available.0);
    text_unless_zero(out, "version", guard.version.into());
}

fn put_transfer(out: &mut String, transfer: &Transfer) {
    text_unless_zero(out, "debit_account", transfer.debit_account_id.0);
    text_unless_zero(out, "credit_account", transfer.credit_account_id.0);
    text_unless_zero(out, "amount", transfer.amount.0);
    number(out, "ledger", transfer.ledger.0);
    number(out, "code", transfer.code.0);
    flags(out, &transfer.flags.names());
    text_unless_zero(out, "pending_id", transfer.pending_id.0);
    text_unless_zero(out, "user_data_128", transfer.user_data_128);
    text_unless_zero(out, "user_data_64", transfer.user_data_64.into());
    number(out, "user_data_32", transfer.user_data_32);
    number(out, "timeout_seconds", transfer.timeout_seconds);
}

/// As [`put_event`], for an opaque record.
pub(super) fn put_record(
    out: &mut String,
    place: Place,
    verdict: Verdict,
    head: &RecordHead,
    data: &[u8],
) {
    put_head(out, place, "record", verdict, head.id);
    if head.expected_offset != ANY_OFFSET {
        text(out, "expected_offset", head.expected_offset);
    }
    out.push_str(",\"data\":\"");
    BASE64.encode_string(data, out);
    out.push_str("\"}\n");
}

fn put_head(out: &mut String, place: Place, kind: &str, verdict: Verdict, id: u128) {
    let (Place { partition, offset, time }, verdict) = (place, verdict.name());
    // To a string it never fails.
    let _ = write!(
        out,
        "{{\"partition\":{partition},\"offset\":\"{offset}\",\"time\":\"{time}\",\
         \"kind\":\"{kind}\",\"verdict\":\"{verdict}\""
    );
    text_unless_zero(out, "id", id);
}

fn text(out: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = write!(out, ",\"{name}\":\"{value}\"");
}

fn text_unless_zero(out: &mut String, name: &str, value: u128) {
    if value != 0 {
        text(out, name, value);
    }
}

fn number(out: &mut String, name: &str, value: impl Into<u32>) {
    let value = value.into();
    if value != 0 {
        let _ = write!(out, ",\"{name}\":{value}");
    }
}

fn flags(out: &mut String, names: &[&str]) {
    if !names.is_empty() {
        text(out, "flags", names.join("|").to_lowercase());
    }
}

/// The event as its line carries it: without what walengine fills.
fn carried(event: Event) -> Event {
    match event {
        Event::Account(Account {
            id, user_data_128, user_data_64, ledger, code, flags, ..
        }) => {
            let zero = Account::default();
            let account = Account { id, user_data_128, user_data_64, ledger, code, flags, ..zero };
            Event::Account(account)
        }
        Event::Transfer(transfer) => {
            Event::Transfer(Transfer { timestamp: Transfer::default().timestamp, ..transfer })
        }
        other => other,
    }
}

fn has_known_flags(event: &Event) -> bool {
    match event {
        Event::Transfer(transfer) => TransferFlags::ALL.contains(transfer.flags),
        Event::Account(account) => AccountFlags::ALL.contains(account.flags),
        Event::Guard(guard) => GuardFlags::ALL.contains(guard.flags),
        Event::Close(close) => CloseFlags::ALL.contains(close.flags),
        Event::Name(name) => NameFlags::ALL.contains(name.flags) && name.name.text().is_some(),
        Event::Describe(describe) => {
            DescribeFlags::ALL.contains(describe.flags) && describe.name.text().is_some()
        }
        Event::Arrival(arrival) => match &arrival.sent {
            Sent::Transfer(transfer) => TransferFlags::ALL.contains(transfer.flags),
            Sent::Guard(guard) => GuardFlags::ALL.contains(guard.flags),
            Sent::Word(_) => true,
            Sent::Account(account) => AccountFlags::ALL.contains(account.flags),
            Sent::Close(close) => CloseFlags::ALL.contains(close.flags),
        },
        Event::Expire(_) | Event::Mail(_) | Event::Word(_) => true,
    }
}

/// The bits of flags by their names.
fn bits(names: &str, all: u16, of: impl Fn(u16) -> Vec<&'static str>) -> Result<u16, String> {
    if names.is_empty() {
        return Ok(0);
    }
    names.split('|').try_fold(0, |flags, name| {
        let is_it = |bit: &u16| {
            all & bit != 0 && of(*bit).first().is_some_and(|known| known.eq_ignore_ascii_case(name))
        };
        let bit = (0..16).map(|place| 1 << place).find(is_it);
        bit.map(|bit| flags | bit).ok_or_else(|| format!("there is no flag {name:?}"))
    })
}

/// Reads a record's line.
pub(super) fn read(line: &[u8]) -> Result<(Place, Verdict, Recorded), String> {
    let line: RecordLine<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let place = Place { partition: line.partition, offset: line.offset.0, time: line.time.0 };
    let verdict = verdict_of(line.verdict)?;
    if line.kind == "record" {
        let data = line.data.ok_or("a record without data")?;
        let data = BASE64.decode(data).map_err(|error| format!("data: {error}"))?;
        let head = RecordHead {
            id: long(line.id.as_ref()),
            expected_offset: line.expected_offset.map_or(ANY_OFFSET, |offset| offset.0),
            bytes: u32::try_from(data.len()).map_err(|_| "data is too long")?,
        };
        return Ok((place, verdict, Recorded::Opaque(head, data)));
    }
    let effective = line.effective.as_ref().map(|effective| Resolved {
        debit_account_id: AccountId(effective.debit_account.0),
        credit_account_id: AccountId(effective.credit_account.0),
        amount: Amount(effective.amount.0),
        index: 0,
        ledger: LedgerId(effective.ledger),
        code: Code(effective.code),
    });
    Ok((place, verdict, Recorded::Event(event(&line)?, effective)))
}

fn verdict_of(name: &str) -> Result<Verdict, String> {
    if name == "ok" {
        return Ok(Verdict::Ok);
    }
    let known = Verdict::all().find(|verdict| verdict.name() == name);
    known.ok_or_else(|| format!("there is no verdict {name:?}"))
}

fn long(number: Option<&Long<u128>>) -> u128 {
    number.map_or(0, |number| number.0)
}

fn word(line: &RecordLine<'_>, place: u64) -> Result<Word, String> {
    let verdict = verdict_of(line.said.ok_or("a word that says nothing")?)?;
    let (id, amount) = (EventId(long(line.id.as_ref())), Amount(long(line.amount.as_ref())));
    let pending_id = EventId(long(line.pending_id.as_ref()));
    let is_linked = bits(line.flags, FLAG_LINKED, |_| vec!["linked"])? != 0;
    Ok(Word { id, place, verdict, amount, pending_id, is_linked })
}

fn account(line: &RecordLine<'_>) -> Result<Account, String> {
    let flags = bits(line.flags, AccountFlags::ALL.0, |bit| AccountFlags(bit).names())?;
    Ok(Account {
        id: AccountId(long(line.id.as_ref())),
        user_data_128: long(line.user_data_128.as_ref()),
        user_data_64: line.user_data_64.map_or(0, |number| number.0),
        ledger: LedgerId(line.ledger),
        code: Code(line.code),
        flags: AccountFlags(flags),
        ..Account::default()
    })
}

fn close(line: &RecordLine<'_>) -> Result<Close, String> {
    let flags = bits(line.flags, CloseFlags::ALL.0, |bit| CloseFlags(bit).names())?;
    Ok(Close {
        id: EventId(long(line.id.as_ref())),
        account_id: AccountId(long(line.account.as_ref())),
        flags: CloseFlags(flags),
    })
}

fn name_text(line: &RecordLine<'_>) -> Result<NameText, String> {
    NameText::new(line.name.as_deref().unwrap_or_default()).map_err(|error| error.to_string())
}

fn name(line: &RecordLine<'_>) -> Result<Name, String> {
    let flags = bits(line.flags, NameFlags::ALL.0, |bit| NameFlags(bit).names())?;
    Ok(Name {
        id: EventId(long(line.id.as_ref())),
        account_id: AccountId(long(line.account.as_ref())),
        name: name_text(line)?,
        flags: NameFlags(flags),
    })
}

fn describe(line: &RecordLine<'_>) -> Result<Describe, String> {
    let flags = bits(line.flags, DescribeFlags::ALL.0, |bit| DescribeFlags(bit).names())?;
    Ok(Describe {
        id: EventId(long(line.id.as_ref())),
        ledger: LedgerId(line.ledger),
        name: name_text(line)?,
        scale: line.scale,
        flags: DescribeFlags(flags),
    })
}

fn event(line: &RecordLine<'_>) -> Result<EventBytes, String> {
    let place = || line.place.map(|place| place.0).ok_or("a place is missing");
    Ok(match line.kind {
        "transfer" => transfer(line)?.to_bytes(),
        "arrival" => Arrival { sent: Sent::Transfer(transfer(line)?), place: place()? }.to_bytes(),
        "guard_arrival" => Arrival { sent: Sent::Guard(guard(line)?), place: place()? }.to_bytes(),
        "mail" => {
            let zero = || Long(0);
            let previous = line.previous.unwrap_or_else(zero).0;
            let settled_below = line.settled_below.unwrap_or_else(zero).0;
            Mail { home: PartitionId(line.home), previous, settled_below }.to_bytes()
        }
        "word" => word(line, place()?)?.to_bytes(),
        "word_arrival" => {
            let said_of = line.said_of.map(|place| place.0);
            let word = word(line, said_of.ok_or("what it is said of is missing")?)?;
            Arrival { sent: Sent::Word(word), place: place()? }.to_bytes()
        }
        "account" => account(line)?.to_bytes(),
        "account_arrival" => {
            Arrival { sent: Sent::Account(account(line)?), place: place()? }.to_bytes()
        }
        "guard" => guard(line)?.to_bytes(),
        "close" => close(line)?.to_bytes(),
        "name" => name(line)?.to_bytes(),
        "describe" => describe(line)?.to_bytes(),
        "close_arrival" => Arrival { sent: Sent::Close(close(line)?), place: place()? }.to_bytes(),
        "expire" => Expire { pending_id: EventId(long(line.pending_id.as_ref())) }.to_bytes(),
        "bytes" => {
            let event = line.event.and_then(from_hex);
            event.ok_or("an event's bytes are 256 hexadecimal digits")?
        }
        kind => return Err(format!("there is no kind of record {kind:?}")),
    })
}

fn guard(line: &RecordLine<'_>) -> Result<Guard, String> {
    let flags = bits(line.flags, GuardFlags::ALL.0, |bit| GuardFlags(bit).names())?;
    Ok(Guard {
        id: EventId(long(line.id.as_ref())),
        account_id: AccountId(long(line.account.as_ref())),
        available: Amount(long(line.available.as_ref())),
        version: line.version.map_or(0, |version| version.0),
        flags: GuardFlags(flags),
    })
}

fn transfer(line: &RecordLine<'_>) -> Result<Transfer, String> {
    let flags = bits(line.flags, TransferFlags::ALL.0, |bit| TransferFlags(bit).names())?;
    Ok(Transfer {
        id: EventId(long(line.id.as_ref())),
        debit_account_id: AccountId(long(line.debit_account.as_ref())),
        credit_account_id: AccountId(long(line.credit_account.as_ref())),
        amount: Amount(long(line.amount.as_ref())),
        pending_id: EventId(long(line.pending_id.as_ref())),
        user_data_128: long(line.user_data_128.as_ref()),
        user_data_64: line.user_data_64.map_or(0, |number| number.0),
        user_data_32: line.user_data_32,
        timeout_seconds: line.timeout_seconds,
        ledger: LedgerId(line.ledger),
        code: Code(line.code),
        flags: TransferFlags(flags),
        ..Transfer::default()
    })
}
