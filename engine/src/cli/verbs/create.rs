//! `account create`: one account.

use walengine_net::client::blocking::Client;
use walengine_net::model::{
    Account, AccountFlags, AccountId, Book, Code, Event, LedgerId, NameText, Token, Verdict,
};
use walengine_net::{names, say_aside};

use super::{Written, naming, refused, send};
use crate::cli::account_rows::print_one;
use crate::cli::asking::Asking;
use crate::cli::ids;
use crate::fatal::{Fatal, Reason};

/// Create an account
///
/// Creating it again with the same fields changes nothing, but for a name that it lacks. An account
/// stays on its ledger for ever. The name by which it is created becomes its id, in the same way in
/// every client. A text is kept as the account's name, too, unless --name gives another; `walengine
/// account name` gives it anew.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  walengine account create alice --ledger 978\n  \
    walengine account create alice --flags debits_must_not_exceed_credits\n  \
    walengine account create fees --striped\n\n\
    An account that is called create is printed by `walengine account -- create`.")]
pub struct Arguments {
    /// Name, number or UUID of the account
    #[arg(value_name = "ID|NAME", value_parser = ids::name)]
    account: String,

    /// Asset and scale, such as the ISO 4217 number of a currency
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    ledger: u32,

    /// Kind of account
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    code: u16,

    /// Limits and state, separated by commas
    #[arg(long, value_name = "FLAG", value_enum, value_delimiter = ',')]
    flags: Vec<Flag>,

    /// Book of names and small numbers; accounts of one book share a partition
    #[arg(long, value_name = "BOOK", default_value = "0", value_parser = ids::book, conflicts_with = "striped")]
    book: u32,

    /// Has a part on every partition, for what everybody pays; its book is that of striped accounts
    #[arg(long)]
    striped: bool,

    /// What it is called, for people
    #[arg(long, value_name = "NAME", value_parser = naming::name_text)]
    name: Option<NameText>,

    #[command(flatten)]
    asking: Asking,
}

/// Flags that an account may be created with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Flag {
    /// Never below zero, such as a customer's deposit.
    #[value(alias = "debits-must-not-exceed-credits")]
    DebitsMustNotExceedCredits,
    /// Never above zero, such as a cash desk.
    #[value(alias = "credits-must-not-exceed-debits")]
    CreditsMustNotExceedDebits,
    /// Takes no transfers until it is reopened.
    Closed,
}

impl Flag {
    fn bits(self) -> AccountFlags {
        match self {
            Self::DebitsMustNotExceedCredits => AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS,
            Self::CreditsMustNotExceedDebits => AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS,
            Self::Closed => AccountFlags::CLOSED,
        }
    }
}

/// Creates an account and prints it.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let account = account(arguments);
    let client = arguments.asking.connect()?;
    let again = "the same command again tells, and creates nothing twice";
    let Written { outcome, tokens } = send(&client, &Event::Account(account), again)?;
    let (name, verdict) = (&arguments.account, outcome.verdict);
    match verdict {
        Verdict::Ok if outcome.fresh => {
            if let Some(called) = called_at_first(arguments) {
                naming::name_created(&client, account.id, called)?;
            }
        }
        Verdict::Ok => complete(&client, arguments, account.id, &tokens)?,
        Verdict::IdReused => {
            let message = format!("{name} exists with other fields; `walengine account` prints it");
            return Err(Fatal::new(Reason::Findings, message));
        }
        _ => return Err(refused(verdict)),
    }
    let found = client.lookup_accounts(&[account.id], &tokens)?.into_iter().flatten().next();
    print_one(&client, arguments.asking.format, false, name, &found.unwrap_or(account))
}

/// Gives an account that existed before the name that it lacks: creating and naming are two events, and whoever was
/// cut off between them sends the same again. A name that it has stays as it is; the same name, if it was taken
/// away, stays away, since naming it so is a repeat. Another one that is asked for by --name is given.
fn complete(
    client: &Client,
    arguments: &Arguments,
    id: AccountId,
    tokens: &[Token],
) -> Result<(), Fatal> {
    let account = &arguments.account;
    let has = client.lookup_names(&[id], tokens)?.into_iter().flatten().next();
    let wanted = called_at_first(arguments);
    if let (None, Some(called)) = (has, wanted) {
        let is_new = naming::name_created(client, id, called)?;
        if is_new {
            say_aside!("{account} existed before, without a name: now it is called {called}");
            return Ok(());
        }
    }
    match has {
        Some(has) if arguments.name.is_some_and(|called| has != called) => {
            let other = "`walengine account name` gives another name";
            say_aside!(
                "{account} existed before; nothing was changed: it is called {has}; {other}"
            );
        }
        _ => say_aside!("{account} existed before; nothing was changed"),
    }
    Ok(())
}

/// The name that is given, or the text that the account is created by.
fn called_at_first(arguments: &Arguments) -> Option<NameText> {
    let text = Some(&arguments.account).filter(|text| names::is_hashed(text));
    arguments.name.or_else(|| NameText::new(text?).ok())
}

fn account(arguments: &Arguments) -> Account {
    let flags =
        arguments.flags.iter().fold(AccountFlags::default(), |all, one| all.with(one.bits()));
    let (book, flags) = if arguments.striped {
        (Book::STRIPED, flags.with(AccountFlags::STRIPED))
    } else {
        (Book(arguments.book), flags)
    };
    Account {
        id: names::account_id(book, &arguments.account),
        ledger: LedgerId(arguments.ledger),
        code: Code(arguments.code),
        flags,
        ..Account::default()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use walengine_net::model::AccountId;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parsed(line: &[&str]) -> Result<Account, clap::Error> {
        Line::try_parse_from([&["create"], line].concat()).map(|line| account(&line.arguments))
    }

    #[test]
    fn an_account_is_as_it_was_asked_for() {
        let plain = parsed(&["7", "--ledger", "978", "--code", "3", "--book", "2"]).unwrap();
        assert_eq!(
            (plain.id, plain.ledger, plain.code),
            (AccountId((2 << 96) + 7), LedgerId(978), Code(3))
        );
        let limited = parsed(&["a", "--flags", "debits_must_not_exceed_credits,closed"]).unwrap();
        let flags = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS.with(AccountFlags::CLOSED);
        assert_eq!(limited.flags, flags);
        let striped = parsed(&["fees", "--striped"]).unwrap();
        assert!(striped.id.is_striped() && striped.flags.contains(AccountFlags::STRIPED));
        for wrong in [
            &["a", "--striped", "--book", "1"][..],
            &["a", "--flags", "x"],
            &["a", "--ledger", "0"],
            &[""],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }
}
