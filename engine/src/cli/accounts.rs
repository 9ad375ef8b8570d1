//! `accounts` and `account`: balances from the log's own state. What writes is in [`super::verbs`].

use std::path::PathBuf;

use walengine_net::client::ReadFrom;
use walengine_net::client::blocking::Client;
use walengine_net::limits::{LIST_ACCOUNTS_MAX, LOOKUP_IDS_MAX};
use walengine_net::model::{AccountId, Book, Token};
use walengine_net::names;

use super::account_rows::{Rows, missing_row, print_one, row};
use super::amounts::Decimals;
use super::asking::{Asking, Freshly, seen, unconfirmed};
use super::called::Called;
use super::csv_file::first_column;
use super::ids;
use super::import::near;
use super::verbs::{create, naming};
use crate::fatal::{Fatal, Reason};

/// Print accounts with their balances
///
/// Text has the amounts of described ledgers with their decimals, the names of accounts, and long ids short, where they
/// are unique, or whole with --full. CSV and JSON have every field of an account: amounts in minor units with their
/// `scale`, and with decimals in columns such as `credits_posted_decimal`, ids as numbers, and the `name`. Without --from, the column `account` repeats the id, or in text the name.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  walengine accounts --format csv\n  \
    walengine accounts --from expected_balances.csv --format csv")]
pub struct Arguments {
    /// Print a row for each name in the first column of this CSV file, in its order; a name without
    /// an account has empty fields and makes the exit code 1
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// Book of names and small numbers: a number, or striped
    #[arg(long, value_name = "BOOK", default_value = "0", value_parser = ids::book)]
    book: u32,

    /// Print ids whole
    #[arg(long)]
    full: bool,

    #[command(flatten)]
    freshly: Freshly,

    #[command(flatten)]
    asking: Asking,
}

/// Print one account, create one, name one, or find some by name
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct OneArguments {
    #[command(subcommand)]
    action: Option<Action>,

    /// Name, number or UUID of the account
    #[arg(value_name = "ID|NAME", required = true, value_parser = ids::name)]
    account: Option<String>,

    /// What can only be a mistake.
    #[arg(hide = true)]
    rest: Vec<String>,

    /// Book of names and small numbers: a number, or striped
    #[arg(long, value_name = "BOOK", default_value = "0", value_parser = ids::book)]
    book: u32,

    /// Print its id whole
    #[arg(long)]
    full: bool,

    #[command(flatten)]
    freshly: Freshly,

    #[command(flatten)]
    asking: Asking,
}

/// Those of [`Action`].
const ACTIONS: [&str; 3] = ["create", "name", "find"];

#[derive(Debug, clap::Subcommand)]
enum Action {
    Create(create::Arguments),
    Name(naming::NameArguments),
    Find(naming::FindArguments),
}

/// Prints all accounts, or those named in a file.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let names = arguments.from.as_deref().map(first_column).transpose()?;
    let client = arguments.asking.connect_to_read(&arguments.freshly)?;
    let tokens = &arguments.freshly.at;
    let mut output = Rows::new(arguments.asking.format, arguments.full)?;
    match names {
        None => all(&client, &mut output, tokens)?,
        Some(names) => {
            if let Some(name) = names.iter().find(|name| names::decorates_uuid(name)) {
                let message = format!("{name:?} is in the file: {}", names::DECORATED_UUID);
                return Err(Fatal::new(Reason::File, message));
            }
            let book = Book(arguments.book);
            let mut missing = 0u64;
            let mut called = Called::new(&client, Decimals::default())?;
            for page in names.chunks(LOOKUP_IDS_MAX) {
                missing += named(&client, &mut output, &mut called, book, page, tokens)?;
            }
            output.flush()?;
            if missing > 0 {
                let message = format!("{missing} names have no account in book {}", book.0);
                return Err(Fatal::new(Reason::Findings, message));
            }
        }
    }
    output.flush()
}

/// Prints one account, or fails if there is none; or creates one.
pub fn run_one(arguments: &OneArguments) -> Result<(), Fatal> {
    match &arguments.action {
        Some(Action::Create(arguments)) => return create::run(arguments),
        Some(Action::Name(arguments)) => return naming::run_name(arguments),
        Some(Action::Find(arguments)) => return naming::run_find(arguments),
        None => {}
    }
    let name = arguments.account.as_deref().unwrap_or_default(); // required without a command
    if let Some(more) = arguments.rest.first() {
        let meant = ACTIONS.iter().find(|known| near::is_nearly(name, known));
        let meant =
            meant.map_or_else(String::new, |meant| format!("; {meant} may be meant by {name}"));
        let message = format!("one account is printed, and {more} is one too many{meant}");
        return Err(Fatal::new(Reason::Usage, message));
    }
    let client = arguments.asking.connect_to_read(&arguments.freshly)?;
    let id = names::account_id(Book(arguments.book), name);
    let found = client.lookup_accounts(&[id], &arguments.freshly.at)?;
    let Some(account) = found.into_iter().flatten().next() else {
        let (book, id) = (ids::shown_book(arguments.book), ids::whole(id.0));
        let message = format!("no account {name} in book {book} (id {id})");
        return Err(Fatal::new(Reason::Findings, message));
    };
    print_one(&client, arguments.asking.format, arguments.full, name, &account)
}

fn all(client: &Client, output: &mut Rows, tokens: &[Token]) -> Result<(), Fatal> {
    let mut tokens = tokens.to_vec();
    let mut unsure = Ok(());
    let mut called = Called::new(client, Decimals::default())?;
    for partition in client.info().partitions() {
        // A node that lags ends its list sooner. So the leader is asked how far a list must reach.
        let sure = client.reading(ReadFrom::Linearizable);
        match sure.list_accounts(partition, None, 1, &tokens) {
            Ok(end) => seen(&mut tokens, client, partition, end.next_offset),
            Err(error) => unsure = unsure.and(Err(unconfirmed("accounts", partition, error))),
        }
        let mut after = None;
        loop {
            let page = client.list_accounts(partition, after, LIST_ACCOUNTS_MAX, &tokens)?;
            seen(&mut tokens, client, partition, page.next_offset);
            called.look_up(page.accounts.iter().map(|account| account.id))?;
            for account in &page.accounts {
                output.row(row(&account.id.to_string(), account, &called))?;
            }
            after = page.next_cursor;
            if after.is_none() {
                break;
            }
        }
    }
    output.flush()?;
    unsure
}

/// Prints a row for each name. Returns how many have no account.
fn named(
    client: &Client,
    output: &mut Rows,
    called: &mut Called,
    book: Book,
    names: &[String],
    tokens: &[Token],
) -> Result<u64, Fatal> {
    let ids: Vec<AccountId> = names.iter().map(|name| names::account_id(book, name)).collect();
    let mut missing = 0;
    called.look_up(ids.iter().copied())?;
    for ((name, id), found) in names.iter().zip(&ids).zip(client.lookup_accounts(&ids, tokens)?) {
        if let Some(account) = found {
            output.row(row(name, &account, called))?;
        } else {
            missing += 1;
            output.row(missing_row(name, *id))?;
        }
    }
    Ok(missing)
}
