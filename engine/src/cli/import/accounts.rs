//! The accounts of a file: looked up before anything is sent, and created if that is wanted. A row
//! whose account is missing would be refused for ever, and an account on a wrong ledger stays there.

use std::collections::BTreeMap;

use walengine_net::cli::{Fatal, Reason};
use walengine_net::client::ReadFrom;
use walengine_net::client::blocking::Client;
use walengine_net::limits::{EVENTS_MAX, LOOKUP_IDS_MAX};
use walengine_net::model::{Account, AccountId, Code, LedgerId};

use super::names::Names;
use super::summary::Summary;
use crate::limits::IMPORT_TOLD_MAX;

/// Asks for every account that a row will use. Places of those that do not exist, in the order of
/// the file.
pub fn look_up(client: &Client, names: &mut Names) -> Result<Vec<u32>, Fatal> {
    // Another node may not have seen accounts that were created just now.
    let client = client.reading(ReadFrom::Linearizable);
    let used: Vec<u32> = names
        .accounts()
        .iter()
        .zip(0..)
        .filter(|(account, _)| account.is_used())
        .map(|(_, place)| place)
        .collect();
    let mut missing = Vec::new();
    for places in used.chunks(LOOKUP_IDS_MAX) {
        let ids: Vec<AccountId> = places.iter().map(|place| names.id(*place)).collect();
        for (place, found) in places.iter().zip(client.lookup_accounts(&ids, &[])?) {
            match found {
                Some(account) => {
                    names.accounts_mut()[*place as usize].actual = account.ledger;
                }
                None => missing.push(*place),
            }
        }
    }
    Ok(missing)
}

/// Says which accounts are missing.
pub fn missing(names: &Names, missing: &[u32], book: u32) -> Fatal {
    let message = format!(
        "{} accounts are missing in book {book}: {}. Create them with --create-accounts, or mend the \
         names",
        missing.len(),
        listed(names, missing)
    );
    Fatal::new(Reason::File, message)
}

/// Names of accounts with their lines, joined.
fn listed(names: &Names, places: &[u32]) -> String {
    told(names, places).join(", ")
}

/// Names of accounts with their lines, if they are not too many.
pub fn told(names: &Names, places: &[u32]) -> Vec<String> {
    let told = &places[..places.len().min(IMPORT_TOLD_MAX)];
    let mut texts: Vec<String> = names
        .texts(told)
        .iter()
        .zip(told)
        .map(|(text, place)| {
            format!("{text} (line {})", names.accounts()[*place as usize].first_line())
        })
        .collect();
    if places.len() > told.len() {
        texts.push(format!("and {} more", places.len() - told.len()));
    }
    texts
}

/// How many accounts are to be created on each ledger.
pub fn by_ledger(names: &Names, missing: &[u32]) -> BTreeMap<u32, u64> {
    let mut ledgers = BTreeMap::new();
    for place in missing {
        *ledgers.entry(wanted_ledger(names, *place).0).or_default() += 1;
    }
    ledgers
}

/// Whether it takes a look at every row to tell that accounts would get the right ledger.
pub fn has_mixed(names: &Names) -> bool {
    names.accounts().iter().any(|account| account.is_used() && account.is_mixed())
}

/// Rows that agree on the ledger of both of their accounts, for each account.
#[derive(Debug)]
pub struct Agreeing(Vec<bool>);

impl Agreeing {
    /// No rows yet.
    pub fn new(names: &Names) -> Self {
        Self(vec![false; names.accounts().len()])
    }

    /// Looks at a row.
    pub fn note(&mut self, names: &Names, accounts: [u32; 2], ledger: LedgerId) {
        let [debit, credit] = accounts.map(|place| place as usize);
        let agrees = |place: usize| names.accounts()[place].ledger() == Some(ledger);
        if agrees(debit) && agrees(credit) {
            (self.0[debit], self.0[credit]) = (true, true);
        }
    }

    /// Accounts to be created of which no row tells the ledger, or not one ledger.
    pub fn in_doubt(&self, names: &Names, missing: &[u32]) -> Vec<u32> {
        let is_in_doubt = |place: &&u32| {
            names.accounts()[**place as usize].ledger().is_none() || !self.0[**place as usize]
        };
        missing.iter().filter(is_in_doubt).copied().collect()
    }
}

/// What is in doubt, in words.
pub fn doubt(names: &Names, in_doubt: &[u32]) -> String {
    let told = &in_doubt[..in_doubt.len().min(IMPORT_TOLD_MAX)];
    let mut texts: Vec<String> = names
        .texts(told)
        .iter()
        .zip(told)
        .map(|(text, place)| {
            let account = &names.accounts()[*place as usize];
            let ledger = wanted_ledger(names, *place);
            let why = match account.uses {
                [one, other] if other.rows > 0 => format!(
                    "line {} has ledger {}, line {} has ledger {}",
                    one.first_line, one.ledger, other.first_line, other.ledger
                ),
                [one, _] => format!(
                    "line {} has ledger {}, and the other account of the row has another",
                    one.first_line, one.ledger
                ),
            };
            format!("{text} on ledger {ledger} ({why})")
        })
        .collect();
    if in_doubt.len() > told.len() {
        texts.push(format!("and {} more", in_doubt.len() - told.len()));
    }
    texts.join(", ")
}

/// Gives accounts that will be created their ledgers, so that rows with others are not sent.
pub fn settle(names: &mut Names, missing: &[u32]) {
    for place in missing {
        names.accounts_mut()[*place as usize].actual = wanted_ledger(names, *place);
    }
}

fn wanted_ledger(names: &Names, place: u32) -> LedgerId {
    let account = &names.accounts()[place as usize];
    account.ledger().unwrap_or(account.uses[0].ledger)
}

/// Creates accounts.
pub fn create(
    client: &Client,
    names: &mut Names,
    missing: &[u32],
    code: Code,
    mut progress: impl FnMut(&dyn Fn(&mut Summary)),
) -> Result<(), Fatal> {
    for places in missing.chunks(EVENTS_MAX) {
        let account = |place: &u32| Account {
            id: names.id(*place),
            ledger: wanted_ledger(names, *place),
            code,
            ..Account::default()
        };
        let wanted: Vec<Account> = places.iter().map(account).collect();
        progress(&|summary| summary.has_sent = true);
        let submitted = client.create_accounts(&wanted)?;
        let fresh = submitted.outcomes().filter(|one| one.fresh && one.verdict.is_ok()).count();
        progress(&|summary| {
            summary.accounts += fresh as u64;
            summary.add_tokens(&submitted.tokens);
        });
        let mut outcomes = places.iter().zip(submitted.outcomes());
        if let Some((place, outcome)) = outcomes.find(|(_, one)| !one.verdict.is_ok()) {
            let message = format!(
                "account {} can't be created: {}; was it created by another just now? Run it again",
                listed(names, &[*place]),
                outcome.verdict.meaning()
            );
            return Err(Fatal::new(Reason::Findings, message));
        }
    }
    Ok(())
}
