//! First steps with a local server: two accounts, a transfer, a guarded chain, a repeat, and the
//! balances.
//!
//! ```sh
//! walengine --data /tmp/walengine &
//! cargo run -p walengine-net --example transfer            # or: … -- 127.0.0.1:7450
//! ```

use std::error::Error;

use walengine_net::client::blocking::Client;
use walengine_net::client::{ADDRESS_DEFAULT, Chain, Config, Submitted, new_event_id};
use walengine_net::model::{
    Account, AccountFlags, Amount, Book, Code, Guard, GuardFlags, LedgerId, Transfer,
};
use walengine_net::{names, partition};

/// Accounts of one book live on one partition, so that transfers between them can be chained.
const BOOK: Book = Book(1);
/// Chosen by the user: here ISO 4217's number of the euro, in cents.
const EURO: LedgerId = LedgerId(978);
/// Amounts are whole numbers of the smallest unit.
const CENTS: u128 = 100;

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| ADDRESS_DEFAULT.to_owned());
    let client = Client::connect(Config::new(address))?;
    let info = client.info().clone();
    println!("{}, {} partitions", info.server_version, info.partitions);

    // Any text names an account. The same text always means the same account.
    let bank = names::account_id(BOOK, "bank");
    let alice = names::account_id(BOOK, "alice");
    let home = partition::of_account(alice, info.partitions);
    let account =
        |id, flags| Account { id, flags, ledger: EURO, code: Code(1), ..Account::default() };
    let created = client.create_accounts(&[
        account(bank, AccountFlags::default()),
        account(alice, AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS),
    ])?;
    show("create two accounts", &created);

    let transfer = |debit, credit, cents| Transfer {
        id: new_event_id(),
        debit_account_id: debit,
        credit_account_id: credit,
        amount: Amount(cents),
        ledger: EURO,
        code: Code(1),
        ..Transfer::default()
    };
    let deposit = transfer(bank, alice, 100 * CENTS).to_bytes();
    show("deposit 100.00", &client.submit(home, &[deposit])?);
    show("the same once more", &client.submit(home, &[deposit])?);

    // Two payments, both or none, and only if Alice has 50.00 to spend.
    let guard = Guard {
        id: new_event_id(),
        account_id: alice,
        available: Amount(50 * CENTS),
        flags: GuardFlags::AVAILABLE_TO_DEBIT,
        ..Guard::default()
    };
    let chain = Chain::new()
        .guard(guard)
        .transfer(transfer(alice, bank, 20 * CENTS))
        .transfer(transfer(alice, bank, 30 * CENTS));
    let paid = client.submit(home, &chain.events())?;
    show("pay 20.00 and 30.00, guarded", &paid);
    let too_much = transfer(alice, bank, 1_000_000 * CENTS).to_bytes();
    show("pay 1,000,000.00", &client.submit(home, &[too_much])?);

    // The tokens make sure that the balances include the writes above.
    let ids = [("bank", bank), ("alice", alice)];
    let found = client.lookup_accounts(&ids.map(|(_, id)| id), &paid.tokens)?;
    println!("\n{:<8}{:>14}{:>14}{:>9}", "account", "debits", "credits", "version");
    for ((name, _), account) in ids.iter().zip(found) {
        let account = account.ok_or("an account that was just created is not there")?;
        let (debits, credits) = (euros(account.debits_posted), euros(account.credits_posted));
        println!("{name:<8}{debits:>14}{credits:>14}{:>9}", account.version);
    }
    Ok(())
}

fn euros(amount: Amount) -> String {
    format!("{}.{:02}", amount.0 / CENTS, amount.0 % CENTS)
}

/// One line for each event: the verdict is the answer, and a refusal is not an error.
fn show(what: &str, submitted: &Submitted) {
    for outcome in submitted.outcomes() {
        let again = if outcome.fresh { "" } else { " (decided before)" };
        let offset = outcome.offset.map_or("-".to_owned(), |offset| offset.to_string());
        println!("{what:<30} {:<20} offset {offset}{again}", outcome.verdict.name());
    }
}
