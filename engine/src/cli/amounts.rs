//! Amounts as people give and read them: minor units, or decimals with `--scale`. Exact both ways.

use walengine_net::cli::{Fatal, Reason};
use walengine_net::model::{Account, Amount};

use super::import::cells::{self, Scale};
use crate::decimals;

/// How amounts are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Decimals {
    /// Amounts have up to N decimals, and the ledger counts in the smallest: with 2, 12.34 is 1234 and
    /// 12 is 1200. Without, as the ledger was described; if it was not, amounts are whole minor units
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=38))]
    scale: Option<u8>,
}

impl Decimals {
    /// With the scale of a ledger, if none was given.
    pub fn or(self, scale: Option<u8>) -> Self {
        Self { scale: self.scale.or(scale) }
    }

    /// Digits behind the point, if that is known.
    pub fn scale(self) -> Option<u8> {
        self.scale
    }

    /// Whether an amount that a person gives can be one, of whatever ledger.
    ///
    /// # Errors
    /// It is none at this scale or, if none is known, at any.
    pub fn check(self, text: &str) -> Result<(), Fatal> {
        let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit());
        match text.split_once('.') {
            Some((whole, decimals))
                if self.scale.is_none() && is_digits(whole) && is_digits(decimals) =>
            {
                Ok(())
            }
            _ => self.read(text).map(|_| ()),
        }
    }

    /// An amount that a person gives.
    ///
    /// # Errors
    /// It can't be read, or has more decimals.
    pub fn read(self, text: &str) -> Result<Amount, Fatal> {
        let scale = Scale { places: self.scale, has_comma: false };
        cells::amount(text.as_bytes(), scale).map_err(|why| Fatal::new(Reason::Usage, why))
    }

    /// As [`Self::read`] takes it, with all decimals.
    pub fn shown(self, amount: Amount) -> String {
        decimals::shown(amount.0, self.scale.unwrap_or(0))
    }

    /// `plus - minus`, which may be below zero.
    pub fn difference(self, plus: Amount, minus: Amount) -> String {
        decimals::difference(plus.0, minus.0, self.scale.unwrap_or(0))
    }

    /// What the account has: its posted credits without its posted debits.
    pub fn balance(self, account: &Account) -> String {
        self.difference(account.credits_posted, account.debits_posted)
    }

    /// What can be debited: RULES.md, "Transfers".
    pub fn available(self, account: &Account) -> String {
        let taken = account.debits_posted.0.saturating_add(account.debits_pending.0);
        self.shown(Amount(account.credits_posted.0.saturating_sub(taken)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_both_ways() {
        let cents = Decimals { scale: Some(2) };
        for (text, units) in [("0.00", 0), ("0.01", 1), ("12.34", 1234), ("100.00", 10_000)] {
            assert_eq!(cents.read(text).unwrap(), Amount(units));
            assert_eq!(cents.shown(Amount(units)), text);
        }
        assert_eq!(cents.read("12").unwrap(), Amount(1200));
        assert_eq!(Decimals::default().shown(Amount(u128::MAX)), u128::MAX.to_string());
        let most = Decimals { scale: Some(38) };
        assert_eq!(most.read(&most.shown(Amount(u128::MAX))).unwrap(), Amount(u128::MAX));
        for bad in ["1.234", "-1", "1,5", "", "x"] {
            assert_eq!(cents.read(bad).unwrap_err().reason, Reason::Usage, "{bad}");
        }
        assert!(Decimals::default().read("1.5").is_err());
        let of_any = Decimals::default();
        assert!(of_any.check("1.5").is_ok() && of_any.check("150").is_ok());
        assert!(
            ["1.", ".5", "1,5", "x", "", "1.5.2"].map(|bad| of_any.check(bad).is_err())
                == [true; 6]
        );
        assert!(cents.check("1.234").is_err());
    }

    #[test]
    fn a_balance_may_be_below_zero_and_what_is_available_is_not() {
        let cents = Decimals { scale: Some(2) };
        let account = Account {
            debits_posted: Amount(150),
            debits_pending: Amount(20),
            credits_posted: Amount(100),
            ..Account::default()
        };
        assert_eq!(
            (cents.balance(&account), cents.available(&account)),
            ("-0.50".into(), "0.00".into())
        );
        let account = Account { credits_posted: Amount(200), ..account };
        assert_eq!(
            (cents.balance(&account), cents.available(&account)),
            ("0.50".into(), "0.30".into())
        );
    }
}
