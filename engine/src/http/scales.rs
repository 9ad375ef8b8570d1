//! What the amounts of ledgers are, as answers and requests with decimals need it: kept for a second.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use walengine_net::client::operation::is_unknown_kind;
use walengine_net::client::tokio::Client;

use super::problem::{Kind, Problem};
use crate::decimals;
use crate::limits::HTTP_SCALES_KEPT_FOR;

/// Digits behind the point, by ledger.
#[derive(Debug, Default)]
pub struct Scales(BTreeMap<u32, u8>);

/// See the module.
#[derive(Default)]
pub struct KnownScales(Mutex<Option<(Instant, Arc<Scales>)>>);

impl Scales {
    /// An amount with its decimals; `None` if the ledger was not described.
    pub fn shown(&self, ledger: u32, amount: u128) -> Option<String> {
        self.0.get(&ledger).map(|places| decimals::shown(amount, *places))
    }

    /// `plus - minus` with its decimals, which may be below zero; as [`Self::shown`].
    pub fn difference(&self, ledger: u32, plus: u128, minus: u128) -> Option<String> {
        self.0.get(&ledger).map(|places| decimals::difference(plus, minus, *places))
    }

    /// An amount that a request has with decimals.
    ///
    /// # Errors
    /// The ledger was not described, or the text is no amount of it.
    pub fn read(&self, ledger: u32, text: &str) -> Result<u128, Problem> {
        let wrong = |detail| Problem::at("/amount_decimal", Kind::Malformed, detail);
        let Some(places) = self.0.get(&ledger) else {
            return Err(wrong(format!(
                "ledger {ledger} was not described: send `amount`, in minor units"
            )));
        };
        decimals::read(text, *places).ok_or_else(|| {
            wrong(format!("'{text}' is no amount of ledger {ledger}, which has {places} decimals"))
        })
    }
}

impl KnownScales {
    /// What is known, asked for anew if that was a while ago. A node of an older release knows none.
    ///
    /// # Errors
    /// No node answers.
    pub async fn get(&self, client: &Client) -> Result<Arc<Scales>, Problem> {
        if let Some((since, known)) = &*self.lock()
            && since.elapsed() < HTTP_SCALES_KEPT_FOR
        {
            return Ok(known.clone());
        }
        let since = Instant::now();
        let found = match client.ledgers(&[]).await {
            Err(error) if is_unknown_kind(&error) => Vec::new(),
            found => found?,
        };
        let scales = found.iter().map(|one| (one.ledger.0, one.scale)).collect();
        let scales = Arc::new(Scales(scales));
        *self.lock() = Some((since, scales.clone()));
        Ok(scales)
    }

    /// A ledger was described.
    pub fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, Arc<Scales>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
