//! `sample`: transactions of a bank that does not exist, as a CSV file that `import` takes.

use std::io::{self, BufWriter};

use walengine_net::cli;

use super::output;
use crate::fatal::Fatal;
use crate::sample::{Bank, Row, Shape};

/// Write transactions of a bank that does not exist, for `import`
///
/// Salaries, rents, fees, card payments with holds, refunds and reversals, of people and companies,
/// in three currencies. The same numbers give the same bytes. `user_data_64` is the booking time in
/// seconds since 1970, and `user_data_128` the payment that a refund or a reversal belongs to.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  walengine sample >bank.csv\n  \
    walengine import bank.csv --create-accounts\n\n\
    Some rows are there twice, and some are to be refused, as in real files.")]
pub struct Arguments {
    /// Another number, another bank
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,

    /// Accounts of customers
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    accounts: u32,

    /// Rows
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    transfers: u64,
}

/// Columns that `import` knows.
const COLUMNS: [&str; 11] = [
    "id",
    "debit_account",
    "credit_account",
    "amount",
    "ledger",
    "code",
    "pending_id",
    "user_data_128",
    "user_data_64",
    "timeout_seconds",
    "flags",
];

/// Writes the rows.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let shape = Shape {
        seed: arguments.seed,
        accounts: arguments.accounts as usize,
        transfers: arguments.transfers,
    };
    write(shape, BufWriter::new(io::stdout().lock()))
        .map_err(|error| cli::unwritten(&output::io_error(error)))
}

fn write(shape: Shape, output: impl io::Write) -> Result<(), csv::Error> {
    let mut writer = csv::Writer::from_writer(output);
    writer.write_record(COLUMNS)?;
    let mut bank = Bank::new(shape);
    while let Some(row) = bank.next() {
        let fields = fields(&row);
        let [id, amount, ledger, code, pending, about, seconds, timeout, flags] =
            fields.each_ref().map(String::as_str);
        let accounts = bank.accounts();
        let (debit, credit) = (&accounts[row.debit].name, &accounts[row.credit].name);
        writer.write_record([
            id, debit, credit, amount, ledger, code, pending, about, seconds, timeout, flags,
        ])?;
    }
    Ok(writer.flush()?)
}

/// All but the names, in order of column. What a row does not have is empty.
fn fields(row: &Row) -> [String; 9] {
    let or_empty = |number: u64| if number == 0 { String::new() } else { number.to_string() };
    [
        row.id.to_string(),
        row.amount.to_string(),
        row.currency.ledger().0.to_string(),
        (row.purpose as u16).to_string(),
        or_empty(row.pending),
        or_empty(row.about),
        row.seconds.to_string(),
        or_empty(u64::from(row.timeout_seconds)),
        row.flags.names().join("|").to_lowercase(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BLAKE3 of the bytes for the default arguments. It changes when the generator does; say so in
    /// the commit, since everybody's samples change with it.
    const HASH: &str = "b8fd1a85c7384e8f571969d86e210c4a66e2d31b62b6f6da85a11fa83912707b";

    #[test]
    fn same_seed_writes_the_same_bytes() {
        let mut bytes = Vec::new();
        write(Shape { seed: 0, accounts: 500, transfers: 20_000 }, &mut bytes).unwrap();
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), HASH);
    }
}
