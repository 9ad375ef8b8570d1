//! Accounts as rows, for those that print them: `accounts`, `account` and `account create`.

use walengine_net::client::blocking::Client;
use walengine_net::model::{Account, AccountId};

use super::amounts::Decimals;
use super::called::Called;
use super::ids::{self, ShownIds};
use super::money_rows::MoneyRows;
use super::output::Format;
use crate::fatal::Fatal;

const COLUMNS: &[(&str, usize)] = &[
    ("account", 24),
    ("id", 39),
    ("ledger", 6),
    ("debits_pending", 16),
    ("debits_posted", 16),
    ("credits_pending", 16),
    ("credits_posted", 16),
    ("version", 0),
    ("code", 0),
    ("flags", 0),
    ("user_data_128", 0),
    ("user_data_64", 0),
    ("created", 0),
    ("name", 0),
    ("scale", 0),
];
/// Columns of text: a line that a person can read. CSV and JSON have all.
const TEXT_COLUMNS: usize = 8;
/// Columns of amounts.
const AMOUNTS: &[&str] = &["debits_pending", "debits_posted", "credits_pending", "credits_posted"];
/// Places of columns.
const NAME: usize = 13;
const SCALE: usize = 14;

/// Prints an account under the name that it was given.
pub fn print_one(
    client: &Client,
    format: Format,
    is_whole: bool,
    name: &str,
    account: &Account,
) -> Result<(), Fatal> {
    let mut called = Called::new(client, Decimals::default())?;
    called.look_up([account.id].into_iter())?;
    let mut output = Rows::new(format, is_whole)?;
    output.row(row(name, account, &called))?;
    output.flush()
}

/// Prints rows with the columns of their format.
pub struct Rows {
    rows: MoneyRows,
    /// Of text only.
    shown: Option<ShownIds>,
}

impl Rows {
    /// Prints the heading. With `is_whole`, text has ids whole, too.
    pub fn new(format: Format, is_whole: bool) -> Result<Self, Fatal> {
        if format != Format::Text {
            return Ok(Self { rows: MoneyRows::new(format, COLUMNS, AMOUNTS)?, shown: None });
        }
        let columns = ids::widened(&COLUMNS[..TEXT_COLUMNS], &["id"], is_whole);
        let shown = Some(ShownIds::new(is_whole));
        Ok(Self { rows: MoneyRows::new(format, &columns, AMOUNTS)?, shown })
    }

    /// Flushes standard output.
    pub fn flush(&mut self) -> Result<(), Fatal> {
        self.rows.flush()
    }

    /// Prints a row.
    pub fn row(&mut self, mut values: [String; COLUMNS.len()]) -> Result<(), Fatal> {
        let decimals = Decimals::default().or(values[SCALE].parse().ok());
        let Some(shown) = &mut self.shown else { return self.rows.row(&values, decimals) };
        let [name, id] = [values[0].clone(), values[1].clone()];
        let cell = shown.cell(&id);
        values[1].clone_from(&cell);
        if name == id {
            values[0] = if values[NAME].is_empty() { cell } else { values[NAME].clone() };
        }
        self.rows.row(&values[..TEXT_COLUMNS], decimals)
    }
}

/// The cells of an account under the name that it was given.
pub fn row(name: &str, account: &Account, called: &Called) -> [String; COLUMNS.len()] {
    let scale = called.decimals(account.ledger).scale();
    cells(name, account, called.name(account.id), scale)
}

fn cells(
    name: &str,
    account: &Account,
    called: Option<&str>,
    scale: Option<u8>,
) -> [String; COLUMNS.len()] {
    [
        name.to_owned(),
        account.id.to_string(),
        account.ledger.to_string(),
        account.debits_pending.to_string(),
        account.debits_posted.to_string(),
        account.credits_pending.to_string(),
        account.credits_posted.to_string(),
        account.version.to_string(),
        account.code.to_string(),
        account.flags.names().join("|").to_lowercase(),
        account.user_data_128.to_string(),
        account.user_data_64.to_string(),
        account.timestamp.to_string(),
        called.unwrap_or_default().to_owned(),
        scale.map(|scale| scale.to_string()).unwrap_or_default(),
    ]
}

/// The cells of a name that has no account.
pub fn missing_row(name: &str, id: AccountId) -> [String; COLUMNS.len()] {
    let mut values: [String; COLUMNS.len()] = Default::default();
    (values[0], values[1]) = (name.to_owned(), id.to_string());
    values
}

#[cfg(test)]
mod tests {
    use walengine_net::model::{AccountFlags, Amount};

    use super::*;

    #[test]
    fn a_row_has_every_field_of_the_account() {
        let account = Account {
            id: AccountId(7),
            credits_posted: Amount(5),
            flags: AccountFlags::CLOSED,
            ..Account::default()
        };
        let cells = cells("a", &account, Some("Anna"), Some(2));
        assert_eq!([&cells[0], &cells[1], &cells[6], &cells[9]], ["a", "7", "5", "closed"]);
        assert_eq!([&cells[NAME], &cells[SCALE]], ["Anna", "2"]);
        let missing = missing_row("b", AccountId(9));
        assert_eq!(missing.iter().filter(|cell| !cell.is_empty()).count(), 2);
    }
}
