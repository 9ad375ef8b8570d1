//! `transfer FROM TO AMOUNT` and `pending FROM TO AMOUNT`. `transfer ID` shows what was decided.

use walengine_net::client::blocking::Client;
use walengine_net::model::{AccountId, Book, Code, LedgerId, Transfer, TransferFlags};
use walengine_net::names;

use super::{Known, send_transfer};
use crate::cli::amounts::Decimals;
use crate::cli::asking::{Asking, Freshly};
use crate::cli::called::Called;
use crate::cli::ids;
use crate::cli::log;
use crate::cli::log_time::seconds;
use crate::fatal::{Fatal, Reason};

/// Send a transfer, or print one with its verdict and its place in the log
///
/// With FROM, TO and AMOUNT: debits FROM and credits TO. The id is printed before it is sent; if the
/// answer is lost, `walengine transfer ID` tells what became of it, and the same command with --id ID
/// moves nothing twice. A refusal makes the exit code 1, and stands for ever.
///
/// With ID alone: prints that transfer, guard or close. Asks every partition.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  walengine transfer alice bob 500\n  \
    walengine transfer alice bob 5.00 --scale 2 --id invoice-1042\n  \
    walengine transfer alice shop 500 --pending --expires 2h\n  walengine transfer invoice-1042")]
pub struct Arguments {
    /// Account to debit: a name, a number or a UUID; or alone: the id of the transfer to print
    #[arg(value_name = "FROM|ID", value_parser = ids::name)]
    from: String,

    /// Account to credit
    #[arg(value_name = "TO", requires = "amount", value_parser = ids::name)]
    to: Option<String>,

    /// Decimals, if the ledger was described or with --scale; or else minor units
    #[arg(value_name = "AMOUNT")]
    amount: Option<String>,

    /// Only reserve it, as `walengine pending` does
    #[arg(long, requires = "amount")]
    pending: bool,

    #[command(flatten)]
    making: Making,

    /// Print ids whole
    #[arg(long, conflicts_with = "amount")]
    full: bool,

    #[command(flatten)]
    freshly: Freshly,

    #[command(flatten)]
    asking: Asking,
}

/// Reserve an amount until it is posted or voided, or expires
///
/// As `walengine transfer FROM TO AMOUNT --pending`. `walengine post ID` moves it, whole or in part, and
/// `walengine void ID` releases it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  walengine pending alice hotel 12000 --expires 3d --id stay-77\n  \
    walengine post stay-77 11500"
)]
pub struct PendingArguments {
    /// Account to debit: a name, a number or a UUID
    #[arg(value_name = "FROM", value_parser = ids::name)]
    from: String,

    /// Account to credit
    #[arg(value_name = "TO", value_parser = ids::name)]
    to: String,

    /// Decimals, if the ledger was described or with --scale; or else minor units
    #[arg(value_name = "AMOUNT")]
    amount: String,

    #[command(flatten)]
    making: Making,

    #[command(flatten)]
    asking: Asking,
}

/// What else a transfer says. Each needs an amount, so that `transfer ID` takes none of it.
#[derive(Clone, Debug, clap::Args)]
struct Making {
    #[command(flatten)]
    known: Known,

    /// Ledger of both accounts [default: that of the accounts, which are looked up]
    #[arg(long, requires = "amount", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ledger: Option<u32>,

    /// Reason of the transfer
    #[arg(long, requires = "amount", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    code: u16,

    /// Book of names and small numbers: a number, or striped
    #[arg(long, requires = "amount", value_name = "BOOK", default_value = "0", value_parser = ids::book)]
    book: u32,

    /// Book of FROM, if it is another one
    #[arg(long, requires = "amount", value_name = "BOOK", value_parser = ids::book)]
    from_book: Option<u32>,

    /// Book of TO, if it is another one
    #[arg(long, requires = "amount", value_name = "BOOK", value_parser = ids::book)]
    to_book: Option<u32>,

    /// With --pending: how long it reserves, such as 90 (seconds), 30m, 2h or 3d [default: until it is
    /// posted or voided]
    #[arg(long, requires = "amount", value_name = "TIME", value_parser = seconds)]
    expires: Option<u32>,

    /// AMOUNT is the most that is moved: less if the limit of the debit account, of the credit account, or
    /// of both leaves less
    #[arg(long, requires = "amount", value_name = "SIDE", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "debit")]
    balancing: Option<Side>,

    #[command(flatten)]
    decimals: Decimals,
}

/// Whose limit reduces an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Side {
    Debit,
    Credit,
    Both,
}

/// Sends a transfer, or prints one.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let Arguments { from, to, amount, pending, making, asking, .. } = arguments;
    match (to, amount) {
        (Some(to), Some(amount)) => make(asking, making, [from, to], amount, *pending),
        _ if making.known.id.is_some() || making.decimals != Decimals::default() => {
            let message = "--id and --scale are of a transfer to be sent: say TO and AMOUNT, too";
            Err(Fatal::new(Reason::Usage, message))
        }
        _ => log::show(from, &arguments.freshly, asking, arguments.full),
    }
}

/// Sends a reservation.
pub fn run_pending(arguments: &PendingArguments) -> Result<(), Fatal> {
    let PendingArguments { from, to, amount, making, asking } = arguments;
    make(asking, making, [from, to], amount, true)
}

fn make(
    asking: &Asking,
    making: &Making,
    named: [&str; 2],
    amount: &str,
    is_pending: bool,
) -> Result<(), Fatal> {
    // What is no amount at any scale is told before anybody is asked.
    making.decimals.check(amount)?;
    if making.expires.is_some() && !is_pending {
        let message = "--expires is of a reservation: say --pending, too";
        return Err(Fatal::new(Reason::Usage, message));
    }
    let books = [making.from_book, making.to_book].map(|book| book.unwrap_or(making.book));
    let [debit_account_id, credit_account_id] =
        [0, 1].map(|side| names::account_id(Book(books[side]), named[side]));
    let client = asking.connect()?;
    let ledger = match making.ledger {
        Some(ledger) => LedgerId(ledger),
        None => ledger_of(&client, [debit_account_id, credit_account_id], named, books)?,
    };
    let decimals = Called::new(&client, making.decimals)?.decimals(ledger);
    let amount = decimals.read(amount)?;
    let transfer = Transfer {
        id: making.known.id(),
        debit_account_id,
        credit_account_id,
        amount,
        ledger,
        code: Code(making.code),
        flags: flags(is_pending, making.balancing),
        timeout_seconds: making.expires.unwrap_or(0),
        ..Transfer::default()
    };
    send_transfer(&client, transfer, asking.format, decimals)
}

fn flags(is_pending: bool, balancing: Option<Side>) -> TransferFlags {
    let when = |is_so: bool, flag| if is_so { flag } else { TransferFlags::default() };
    let of = |side| matches!(balancing, Some(Side::Both)) || balancing == Some(side);
    when(is_pending, TransferFlags::PENDING)
        .with(when(of(Side::Debit), TransferFlags::BALANCING_DEBIT))
        .with(when(of(Side::Credit), TransferFlags::BALANCING_CREDIT))
}

/// The ledger of two accounts. What would be refused for ever is told before anything is sent.
fn ledger_of(
    client: &Client,
    accounts: [AccountId; 2],
    named: [&str; 2],
    books: [u32; 2],
) -> Result<LedgerId, Fatal> {
    let nothing =
        |message: String| Fatal::new(Reason::Findings, format!("{message}; nothing was sent"));
    let found = client.lookup_accounts(&accounts, &[])?;
    let mut ledgers = Vec::new();
    for (side, account) in found.iter().enumerate() {
        let (name, book) = (named[side], ids::shown_book(books[side]));
        let id = ids::whole(accounts[side].0);
        let Some(account) = account else {
            return Err(nothing(format!("there is no account {name} in book {book} (id {id})")));
        };
        ledgers.push(account.ledger);
    }
    match ledgers[..] {
        [one, other] if one == other => Ok(one),
        [one, other] => {
            Err(nothing(format!("{} is on ledger {one}, {} on ledger {other}", named[0], named[1])))
        }
        _ => Err(nothing("the server's answer makes no sense".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_say_what_was_asked_for() {
        assert_eq!(flags(false, None), TransferFlags::default());
        assert_eq!(flags(true, None), TransferFlags::PENDING);
        assert_eq!(flags(false, Some(Side::Debit)), TransferFlags::BALANCING_DEBIT);
        assert_eq!(flags(false, Some(Side::Credit)), TransferFlags::BALANCING_CREDIT);
        let all = TransferFlags::PENDING
            .with(TransferFlags::BALANCING_DEBIT)
            .with(TransferFlags::BALANCING_CREDIT);
        assert_eq!(flags(true, Some(Side::Both)), all);
    }
}
