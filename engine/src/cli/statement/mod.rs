//! `statement`: what has moved an account's money, from the log of its partition.
//!
//! The engine gives the balance of now and says which offset that reflects; from there the log is read
//! backwards ([`backwards`]), and each row takes off what its record has moved ([`effect`](crate::effect)). So nothing needs
//! PostgreSQL, and nothing but the rows and one window of the log is held. By time of business ([`booked`]) all of the
//! account's rows are read, and put in order.

mod backwards;
mod booked;
mod found;
mod when;

use walengine_net::client::blocking::Client;
use walengine_net::model::{Amount, Book, PartitionId, Timestamp};
use walengine_net::partition::of_account;
use walengine_net::{names, say_aside};

use super::amounts::Decimals;
use super::asking::Asking;
use super::called::Called;
use super::ids::{self, ShownIds};
use super::log::seek;
use super::log_time::{shown, shown_micros};
use super::money_rows::MoneyRows;
use super::output::Format;
use crate::business_time::shown_business;
use crate::effect::Whose;
use crate::fatal::{Fatal, Reason};
use crate::limits::STATEMENT_ROWS_MAX;
use backwards::{Backwards, Line};
use found::{Covered, Found, now};
use when::{By, When};

const COLUMNS: &[(&str, usize)] = &[
    ("time", 27),
    ("partition", 9),
    ("offset", 10),
    ("kind", 15),
    ("id", 15),
    ("other_account", 15),
    ("debit", 14),
    ("credit", 14),
    ("balance", 14),
    ("timestamp", 0),
    ("other_name", 0),
    ("booked", 0),
];
/// Columns of text: a line that a person can read. CSV and JSON have all.
const TEXT_COLUMNS: usize = 9;
/// Columns of amounts.
const AMOUNTS: &[&str] = &["debit", "credit", "balance"];
/// Rows that are printed if nothing else is said.
const NEWEST_DEFAULT: usize = 20;

/// Print what has moved an account's money, with the balance after each row
///
/// From the log of the account's partition, oldest first: transfers and postings; reservations move
/// nothing. The newest 20 rows, unless --newest or --from say otherwise. --from and --to take times:
/// 2026-11-01, "2026-11-01 14:00" (UTC), 2026-11-01T14:00:00+01:00, or -2h for two hours ago.
///
/// What comes from another partition stands where and when it has arrived, so the times are those of
/// the account's own partition. A balance is what was credited without what was debited, as
/// `walengine balance` has it.
///
/// With --by booked the rows stand in order of the times of business that transfers came with, and where
/// these are equal in order of the log; what has none counts at its log time. --from and --to are then times
/// of business, and balances are those of this order. All of the log since the account's first movement is
/// read for that, at most 10,000,000 records: for more there is the function statement of SQL.
///
/// A striped account has a part on each partition: its rows are those of all partitions in order of log
/// time, each balance is that of the row's partition, and what its stripes give each other (between
/// stripes) stands in it. With --by booked it has one balance, and what its stripes give each other is left out.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  walengine statement alice\n  \
    walengine statement alice --from 2026-11-01 --to 2026-12-01 --scale 2 --format csv\n  \
    walengine statement alice --by booked --from 2026-10-01 --to 2026-11-01\n  \
    walengine statement fees --book striped --newest 100")]
pub struct Arguments {
    /// Name, number or UUID of the account
    #[arg(value_name = "ID|NAME", value_parser = ids::name)]
    account: String,

    /// Book of names and small numbers: a number, or striped
    #[arg(long, value_name = "BOOK", default_value = "0", value_parser = ids::book)]
    book: u32,

    /// Which time orders the rows, and is meant by --from and --to
    #[arg(long, value_enum, default_value_t)]
    by: By,

    /// Only what has this time or a later one
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::read)]
    from: Option<When>,

    /// Only what is before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::read)]
    to: Option<When>,

    /// At most so many rows, the newest [default: 20; with --from, all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=STATEMENT_ROWS_MAX as u64))]
    newest: Option<u64>,

    #[command(flatten)]
    decimals: Decimals,

    /// Print ids whole
    #[arg(long)]
    full: bool,

    #[command(flatten)]
    asking: Asking,
}

/// Prints the statement.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let id = names::account_id(Book(arguments.book), &arguments.account);
    if id.in_transit_to().is_some() {
        let message = "that account is walengine's own: it has no statement";
        return Err(Fatal::new(Reason::Usage, message));
    }
    let client = arguments.asking.connect()?;
    let partitions = client.info().partitions;
    let mut homes: Vec<PartitionId> = client.info().partitions().collect();
    if !id.is_striped() {
        homes.retain(|home| *home == of_account(id, partitions));
    }
    let homes = homes.into_iter().map(|here| Whose { account: id, here, partitions });
    let found = match arguments.by {
        By::Log => by_log(&client, arguments, homes)?,
        By::Booked => {
            let from = arguments.from.as_ref().map(When::of_business).transpose()?;
            let to = arguments.to.as_ref().map(When::of_business).transpose()?;
            booked::read(&client, homes, [from, to], arguments.rows_max())?
        }
    };
    let Found { lines, covered, is_cut } = found;
    if covered.is_empty() {
        let (name, book) = (&arguments.account, ids::shown_book(arguments.book));
        let message = format!("no account {name} in book {book} (id {})", ids::whole(id.0));
        return Err(Fatal::new(Reason::Findings, message));
    }
    let mut called = Called::new(&client, arguments.decimals)?;
    let decimals = called.decimals(covered[0].account.ledger);
    print(arguments, &lines, &mut called, decimals)?;
    tell(decimals, &covered, is_cut);
    Ok(())
}

/// The newest rows by log time, of all partitions.
fn by_log(
    client: &Client,
    arguments: &Arguments,
    homes: impl Iterator<Item = Whose>,
) -> Result<Found, Fatal> {
    let from = arguments.from.as_ref().map(When::of_log).transpose()?;
    let to = arguments.to.as_ref().map(When::of_log).transpose()?;
    let mut all = Found::default();
    for whose in homes {
        let (lines, part, has_more) = one(client, whose, [from, to], arguments.rows_max())?;
        all.lines.extend(lines);
        all.covered.extend(part);
        all.is_cut |= has_more;
    }
    // Newest first in each partition; a stable order of them all.
    all.lines.sort_by_key(|line| (line.time, line.token.partition, line.token.offset));
    let left_out = all.lines.len().saturating_sub(arguments.rows_max());
    all.lines.drain(..left_out);
    all.is_cut |= left_out > 0;
    Ok(all)
}

impl Arguments {
    fn rows_max(&self) -> usize {
        match (self.newest, &self.from) {
            (Some(newest), _) => newest as usize, // bounded when it was read
            (None, Some(_)) => STATEMENT_ROWS_MAX,
            (None, None) => NEWEST_DEFAULT,
        }
    }
}

/// The newest rows of one partition, newest first; what they cover, or nothing if it has no such account; and
/// whether there are more.
fn one(
    client: &Client,
    whose: Whose,
    [from, to]: [Option<Timestamp>; 2],
    rows_max: usize,
) -> Result<(Vec<Line>, Option<Covered>, bool), Fatal> {
    let Some((account, end)) = now(client, whose)? else { return Ok((Vec::new(), None, false)) };
    let partition = whose.here;
    let floor = seek::first_at(client, partition, from.unwrap_or(account.timestamp), &[])?;
    let mut log = Backwards::new(client, whose, &account, end, floor);
    let (mut lines, mut has_more) = (Vec::new(), false);
    while !has_more && let Some(window) = log.window()? {
        let wanted = |line: &Line| to.is_none_or(|to| line.time < to);
        for line in window.into_iter().filter(wanted) {
            if lines.len() == rows_max {
                has_more = true;
                break;
            }
            lines.push(line);
        }
    }
    let offsets = [log.covered_from(), end];
    Ok((lines, Some(Covered { partition, offsets, account }), has_more))
}

fn print(
    arguments: &Arguments,
    lines: &[Line],
    called: &mut Called,
    decimals: Decimals,
) -> Result<(), Fatal> {
    let format = arguments.asking.format;
    let is_text = format == Format::Text;
    let mut columns = match format {
        Format::Text => {
            ids::widened(&COLUMNS[..TEXT_COLUMNS], &["id", "other_account"], arguments.full)
        }
        _ => COLUMNS.to_vec(),
    };
    let width = columns.len();
    let is_booked = is_text && arguments.by == By::Booked;
    if is_booked {
        columns[0].0 = "booked";
    }
    let mut output = MoneyRows::new(format, &columns, AMOUNTS)?;
    let mut shown_ids = ShownIds::new(arguments.full);
    let mut id = |id: u128| match id {
        0 => String::new(),
        id if is_text => shown_ids.id(id),
        id => id.to_string(),
    };
    let amount = |amount: Amount| match amount {
        Amount(0) => String::new(),
        amount => amount.to_string(),
    };
    called.look_up(lines.iter().map(|line| line.moved.other))?;
    for Line { token, time, moved, after: [debits, credits] } in lines {
        // What a stripe gives away is like a debit for who reads, though it counts in no sum of debits.
        let debit = Amount(moved.debit.0.saturating_add(moved.given.0));
        let booked = moved.booked.map(shown_business);
        let row = [
            match booked.clone().filter(|_| is_booked) {
                Some(booked) => booked,
                None if is_text => shown_micros(*time),
                None => shown(*time),
            },
            token.partition.to_string(),
            token.offset.to_string(),
            moved.kind.to_owned(),
            id(moved.id),
            match called.name(moved.other).filter(|_| is_text) {
                Some(name) => name.to_owned(),
                None => id(moved.other.0),
            },
            amount(debit),
            amount(moved.credit),
            Decimals::default().difference(*credits, *debits),
            time.to_string(),
            called.name(moved.other).unwrap_or_default().to_owned(),
            booked.unwrap_or_default(),
        ];
        output.row(&row[..width], decimals)?;
    }
    output.flush()
}

/// Says on standard error what the statement covers.
fn tell(decimals: Decimals, covered: &[Covered], has_more: bool) {
    for Covered { partition, offsets: [from, to], account } in covered {
        say_aside!(
            "partition {partition}, offsets {from} to {}: balance {}, reserved out {}, in {}",
            to.0.saturating_sub(1),
            decimals.balance(account),
            decimals.shown(account.debits_pending),
            decimals.shown(account.credits_pending)
        );
    }
    if has_more {
        say_aside!("there are older rows: say --newest or --from");
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn rows_are_bounded_however_they_are_asked_for() {
        let rows = |line: &[&str]| {
            let line = Line::try_parse_from([&["statement", "a"], line].concat());
            line.map(|line| line.arguments.rows_max()).ok()
        };
        assert_eq!(rows(&[]), Some(NEWEST_DEFAULT));
        assert_eq!(rows(&["--newest", "7", "--from", "-2h"]), Some(7));
        assert_eq!(rows(&["--from", "2026-11-01"]), Some(STATEMENT_ROWS_MAX));
        assert_eq!(rows(&["--newest", "0"]), None);
        assert_eq!(rows(&["--newest", "99999999999"]), None);
    }
}
