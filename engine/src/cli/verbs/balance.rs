//! `balance`: what accounts have.

use walengine_net::limits::LOOKUP_IDS_MAX;
use walengine_net::model::{Account, AccountId, Book, LedgerId};
use walengine_net::names;

use crate::cli::amounts::{Decimals, available};
use crate::cli::asking::{Asking, Freshly};
use crate::cli::called::Called;
use crate::cli::ids::{self, ShownIds};
use crate::cli::money_rows::MoneyRows;
use crate::cli::output::Format;
use crate::fatal::{Fatal, Reason};

const COLUMNS: &[(&str, usize)] = &[
    ("account", 24),
    ("balance", 16),
    ("available", 16),
    ("reserved_out", 16),
    ("reserved_in", 16),
    ("ledger", 6),
    ("id", 0),
    ("name", 0),
];
/// Columns of amounts.
const AMOUNTS: &[&str] = &["balance", "available", "reserved_out", "reserved_in"];

/// Print what accounts have
///
/// `balance` is what was credited without what was debited; of an account such as a cash desk it is
/// below zero. `available` is what of that no reservation holds and so can be debited: never below
/// zero. `reserved_out` and `reserved_in` are what reservations hold that debit and credit it. A striped
/// account has the sums of its stripes.
///
/// A name without an account has empty fields and makes the exit code 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  walengine balance alice\n  \
    walengine balance alice bob --scale 2\n  walengine balance fees --book striped")]
pub struct Arguments {
    /// Names, numbers or UUIDs of accounts
    #[arg(value_name = "ID|NAME", required = true, value_parser = ids::name)]
    accounts: Vec<String>,

    /// Book of names and small numbers: a number, or striped
    #[arg(long, value_name = "BOOK", default_value = "0", value_parser = ids::book)]
    book: u32,

    #[command(flatten)]
    decimals: Decimals,

    /// Print ids whole
    #[arg(long)]
    full: bool,

    #[command(flatten)]
    freshly: Freshly,

    #[command(flatten)]
    asking: Asking,
}

/// Prints a row for each account.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let client = arguments.asking.connect_to_read(&arguments.freshly)?;
    let format = arguments.asking.format;
    let mut output = MoneyRows::new(format, COLUMNS, AMOUNTS)?;
    let mut shown = ShownIds::new(arguments.full);
    let mut missing = Vec::new();
    let mut called = Called::new(&client, arguments.decimals)?;
    for page in arguments.accounts.chunks(LOOKUP_IDS_MAX) {
        let book = Book(arguments.book);
        let ids: Vec<AccountId> = page.iter().map(|name| names::account_id(book, name)).collect();
        let found = client.lookup_accounts(&ids, &arguments.freshly.at)?;
        called.look_up(ids.iter().copied())?;
        for ((name, account_id), account) in page.iter().zip(ids).zip(found) {
            let is_text = format == Format::Text;
            let id = if is_text { shown.id(account_id.0) } else { account_id.to_string() };
            if account.is_none() {
                missing.push(name.as_str());
            }
            let decimals = called.decimals(account.as_ref().map_or(LedgerId(0), |it| it.ledger));
            let is_called = called.name(account_id).unwrap_or_default().to_owned();
            output.row(&row(name, id, account.as_ref(), is_called), decimals)?;
        }
    }
    output.flush()?;
    if missing.is_empty() {
        return Ok(());
    }
    let book = ids::shown_book(arguments.book);
    let message = format!("there is no account {} in book {book}", missing.join(", "));
    Err(Fatal::new(Reason::Findings, message))
}

/// The cells of an account, amounts in minor units.
fn row(name: &str, id: String, account: Option<&Account>, called: String) -> [String; 8] {
    let name = name.to_owned();
    let Some(account) = account else {
        return [
            name,
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            id,
            called,
        ];
    };
    [
        name,
        Decimals::default().balance(account),
        available(account).to_string(),
        account.debits_pending.to_string(),
        account.credits_pending.to_string(),
        account.ledger.to_string(),
        id,
        called,
    ]
}

#[cfg(test)]
mod tests {
    use walengine_net::model::Amount;

    use super::*;

    #[test]
    fn a_row_says_what_can_be_spent() {
        let account = Account {
            credits_posted: Amount(100),
            debits_posted: Amount(30),
            debits_pending: Amount(20),
            credits_pending: Amount(5),
            ..Account::default()
        };
        let row = row("a", "1".into(), Some(&account), "Anna".into());
        assert_eq!(row, ["a", "70", "50", "20", "5", "0", "1", "Anna"]);
    }
}
