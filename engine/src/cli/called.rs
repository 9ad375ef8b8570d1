//! What accounts and ledgers are called, for those who print them: asked for once, a page at a time.

use std::collections::{BTreeMap, HashMap};

use walengine_net::client::ClientError;
use walengine_net::client::blocking::Client;
use walengine_net::message::ErrorCode;
use walengine_net::model::{AccountId, LedgerId, Offset, PartitionId, Token};

use super::amounts::Decimals;
use crate::fatal::Fatal;
use crate::limits::SHORT_IDS_KEPT_MAX;

/// See the module.
pub struct Called {
    client: Client,
    given: Decimals,
    scales: BTreeMap<LedgerId, u8>,
    names: HashMap<AccountId, Option<String>>,
}

impl Called {
    /// With what `--scale` says, which counts for all ledgers; without it each has its own, if it was described.
    ///
    /// # Errors
    /// The server does not answer. One of an older release knows no names, which is none.
    pub fn new(client: &Client, given: Decimals) -> Result<Self, Fatal> {
        let is_asked_for = given == Decimals::default();
        let scales = if is_asked_for { scales(client, &[])? } else { BTreeMap::new() };
        Ok(Self { client: client.clone(), given, scales, names: HashMap::new() })
    }

    /// How amounts of a ledger are written.
    pub fn decimals(&self, ledger: LedgerId) -> Decimals {
        self.given.or(self.scales.get(&ledger).copied())
    }

    /// A record of the log describes a ledger. If that is news, the ledgers are asked for again: not the record says how
    /// amounts are read, but the newest description.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn described(
        &mut self,
        ledger: LedgerId,
        scale: u8,
        record: (PartitionId, Offset),
    ) -> Result<(), Fatal> {
        if self.scales.get(&ledger) != Some(&scale) {
            let cluster = self.client.info().cluster;
            let at = Token { cluster, partition: record.0, offset: record.1 };
            self.scales = scales(&self.client, &[at])?;
        }
        Ok(())
    }

    /// Asks for the names of those that were not asked for before.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn look_up(&mut self, ids: impl Iterator<Item = AccountId>) -> Result<(), Fatal> {
        let mut unknown: Vec<AccountId> =
            ids.filter(|id| id.0 != 0 && !self.names.contains_key(id)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        if unknown.is_empty() {
            return Ok(());
        }
        if self.names.len() > SHORT_IDS_KEPT_MAX {
            self.names.clear();
        }
        let found = self.client.lookup_names(&unknown, &[]).or_else(none_of_older)?;
        let mut found = found.into_iter();
        for id in unknown {
            let name = found.next().flatten().map(|name| name.to_string());
            self.names.insert(id, name);
        }
        Ok(())
    }

    /// What an account is called, if it was asked for and has a name.
    pub fn name(&self, id: AccountId) -> Option<&str> {
        self.names.get(&id)?.as_deref()
    }
}

fn scales(client: &Client, at: &[Token]) -> Result<BTreeMap<LedgerId, u8>, ClientError> {
    let ledgers = client.ledgers(at).or_else(none_of_older)?;
    Ok(ledgers.iter().map(|one| (one.ledger, one.scale)).collect())
}

/// A server of an older release has none, and who may not read gets none.
fn none_of_older<T>(error: ClientError) -> Result<Vec<T>, ClientError> {
    match error.code() {
        Some(ErrorCode::UnknownKind | ErrorCode::Forbidden) => Ok(Vec::new()),
        _ => Err(error),
    }
}
