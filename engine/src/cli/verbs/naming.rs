//! `account name`, `account find`, `ledger describe` and `ledgers`: what accounts and ledgers are called.

use walengine_net::client::DescribedLedger;
use walengine_net::client::blocking::Client;
use walengine_net::limits::LOOKUP_NAMES_MAX;
use walengine_net::model::{
    AccountId, Book, Describe, DescribeFlags, Event, LedgerId, Name, NameFlags, NameText, SCALE_MAX,
};
use walengine_net::names;

use super::{Known, accepted, send};
use crate::cli::account_rows::{Rows, print_one, row};
use crate::cli::amounts::Decimals;
use crate::cli::asking::{Asking, Freshly};
use crate::cli::called::Called;
use crate::cli::ids;
use crate::cli::output::Output;
use crate::fatal::Fatal;

/// Name an account, for people: the name is shown wherever the account is
///
/// A name is kept in the log and can be given anew at any time; an empty one takes it away. It is not the
/// account's id, and two accounts may have the same: `walengine account find` lists who is called so.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  walengine account name 4711 \"Anna Novak\"\n  \
    walengine account name alice \"\"")]
pub struct NameArguments {
    /// Name, number or UUID of the account, as it was created
    #[arg(value_name = "ID|NAME", value_parser = ids::name)]
    account: String,

    /// What it is called from now on: at most 80 bytes
    #[arg(value_name = "NAME", value_parser = name_text)]
    name: NameText,

    /// Book of names and small numbers: a number, or striped
    #[arg(long, value_name = "BOOK", default_value = "0", value_parser = ids::book)]
    book: u32,

    #[command(flatten)]
    known: Known,

    #[command(flatten)]
    asking: Asking,
}

/// Print the accounts whose names begin so
///
/// Small and capital letters are the same. In the order of names in each partition.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  walengine account find anna")]
pub struct FindArguments {
    /// The beginning of the name; without it, all accounts that have one
    #[arg(value_name = "NAME", default_value = "")]
    name: String,

    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    limit: u64,

    /// Print ids whole
    #[arg(long)]
    full: bool,

    #[command(flatten)]
    freshly: Freshly,

    #[command(flatten)]
    asking: Asking,
}

/// Describe a ledger: what its asset is called, and where the point stands in its amounts
///
/// From then on its amounts are shown and taken with so many decimals: at scale 2, 1234 is 12.34 and 12
/// is 12.00 (--scale 0 takes minor units as before). The log keeps whole numbers. The scale stays, unless
/// --rescale says that it was wrong: all amounts are then read by the new one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  walengine ledger describe 978 EUR --scale 2")]
pub struct DescribeArguments {
    /// The ledger's number
    #[arg(value_name = "LEDGER", value_parser = clap::value_parser!(u32).range(1..))]
    ledger: u32,

    /// What its asset is called: at most 80 bytes
    #[arg(value_name = "NAME", value_parser = name_text)]
    name: NameText,

    /// Digits behind the point
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=i64::from(SCALE_MAX)))]
    scale: u8,

    /// The ledger had another scale, which was wrong
    #[arg(long)]
    rescale: bool,

    #[command(flatten)]
    known: Known,

    #[command(flatten)]
    asking: Asking,
}

/// Print the ledgers that were described
///
/// One row for each: its number, what its asset is called, and how many digits of its amounts stand
/// behind the point. Describe one with `walengine ledger describe`; a ledger can be used without, and
/// its amounts are minor units then.
#[derive(Debug, clap::Args)]
pub struct LedgersArguments {
    #[command(flatten)]
    freshly: Freshly,

    #[command(flatten)]
    asking: Asking,
}

/// What is done with one ledger.
#[derive(Debug, clap::Args)]
pub struct LedgerArguments {
    #[command(subcommand)]
    action: LedgerAction,
}

#[derive(Debug, clap::Subcommand)]
enum LedgerAction {
    Describe(DescribeArguments),
}

/// A name as a person gives it.
///
/// # Errors
/// It can't be one.
pub fn name_text(text: &str) -> Result<NameText, String> {
    NameText::new(text).map_err(|error| error.to_string())
}

/// Names an account and prints it.
pub fn run_name(arguments: &NameArguments) -> Result<(), Fatal> {
    let NameArguments { account, name, book, known, asking } = arguments;
    let account_id = names::account_id(Book(*book), account);
    let client = asking.connect()?;
    let (id, flags) = (known.id(), NameFlags::default());
    let event = Event::Name(Name { id, account_id, name: *name, flags });
    let written = send(&client, &event, "the same command with the same --id names nothing twice")?;
    accepted(&written.outcome)?;
    let found = client.lookup_accounts(&[account_id], &written.tokens)?;
    match found.into_iter().flatten().next() {
        Some(found) => print_one(&client, asking.format, false, account, &found),
        None => Ok(()),
    }
}

/// Prints the accounts that are called so.
pub fn run_find(arguments: &FindArguments) -> Result<(), Fatal> {
    let FindArguments { name, limit, full, freshly, asking } = arguments;
    let client = asking.connect_to_read(freshly)?;
    let mut called = Called::new(&client, Decimals::default())?;
    let mut output = Rows::new(asking.format, *full)?;
    let mut left = *limit as usize; // bounded when it was read
    for partition in client.info().partitions() {
        let mut after = None;
        while left > 0 {
            let page = left.min(LOOKUP_NAMES_MAX);
            let page = client.find_names(partition, name, after, page, &freshly.at)?;
            let ids: Vec<_> = page.accounts.iter().map(|named| named.id).collect();
            called.look_up(ids.iter().copied())?;
            for account in client.lookup_accounts(&ids, &freshly.at)?.iter().flatten() {
                output.row(row(&account.id.to_string(), account, &called))?;
            }
            left -= page.accounts.len().min(left);
            after = page.next_cursor;
            if after.is_none() {
                break;
            }
        }
    }
    output.flush()
}

/// Describes a ledger.
pub fn run_ledger(arguments: &LedgerArguments) -> Result<(), Fatal> {
    let LedgerAction::Describe(arguments) = &arguments.action;
    let DescribeArguments { ledger, name, scale, rescale, known, asking } = arguments;
    let client = asking.connect()?;
    let flags = if *rescale { DescribeFlags::RESCALE } else { DescribeFlags::default() };
    let (id, ledger) = (known.id(), LedgerId(*ledger));
    let event = Event::Describe(Describe { id, ledger, name: *name, scale: *scale, flags });
    let again = "the same command with the same --id describes nothing twice";
    let written = send(&client, &event, again)?;
    accepted(&written.outcome)?;
    print_ledgers(&client.ledgers(&written.tokens)?, asking, Some(ledger))
}

/// Prints all ledgers that were described.
pub fn run_ledgers(arguments: &LedgersArguments) -> Result<(), Fatal> {
    let LedgersArguments { freshly, asking } = arguments;
    let client = asking.connect_to_read(freshly)?;
    print_ledgers(&client.ledgers(&freshly.at)?, asking, None)
}

fn print_ledgers(
    ledgers: &[DescribedLedger],
    asking: &Asking,
    only: Option<LedgerId>,
) -> Result<(), Fatal> {
    let mut output = Output::new(asking.format, &[("ledger", 10), ("name", 24), ("scale", 5)])?;
    for one in ledgers.iter().filter(|one| only.is_none_or(|only| only == one.ledger)) {
        output.row(&[one.ledger.to_string(), one.name.to_string(), one.scale.to_string()])?;
    }
    output.flush()
}

/// Names an account that was created, by an id that follows from both: again, it is a repeat. Says whether this
/// has named it.
pub fn name_created(client: &Client, account_id: AccountId, name: NameText) -> Result<bool, Fatal> {
    let event = Event::Name(names::naming(account_id, name));
    let outcome = send(client, &event, "the same command again names nothing twice")?.outcome;
    accepted(&outcome)?;
    Ok(outcome.fresh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_hides_something_is_refused_before_anything_is_sent() {
        assert!(name_text("Anna Novak").is_ok() && name_text("").is_ok());
        for bad in ["a\u{202e}b", "line\nbreak", &"x".repeat(81)] {
            assert!(name_text(bad).is_err(), "{bad:?}");
        }
    }
}
