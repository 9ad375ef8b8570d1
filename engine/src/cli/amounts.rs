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

    /// As its ledger was described, if the person says nothing.
    #[arg(skip)]
    of_ledger: Option<u8>,
}

impl Decimals {
    /// With the scale of a ledger, if none was given.
    pub fn or(self, scale: Option<u8>) -> Self {
        Self { of_ledger: scale, ..self }
    }

    /// Digits behind the point, if that is known.
    pub fn scale(self) -> Option<u8> {
        self.scale.or(self.of_ledger)
    }

    /// Whether an amount that a person gives can be one, of whatever ledger.
    ///
    /// # Errors
    /// It is none at this scale or, if none is known, at any.
    pub fn check(self, text: &str) -> Result<(), Fatal> {
        if self.scale().is_none() && text.contains('.') && is_plain(text) {
            return Ok(());
        }
        self.read(text).map(|_| ())
    }

    /// An amount that a person gives.
    ///
    /// # Errors
    /// It can't be read, or has more decimals.
    pub fn read(self, text: &str) -> Result<Amount, Fatal> {
        let scale = Scale { places: self.scale(), has_comma: false };
        cells::amount(text.as_bytes(), scale).map_err(|_| {
            let message =
                format!("amount is {}, {}", cells::shown(text.as_bytes()), self.why_not(text));
            Fatal::new(Reason::Usage, message)
        })
    }

    /// Why a text is no amount, and what a person can change. A file's cells have words of their own.
    fn why_not(self, text: &str) -> String {
        if !is_plain(text) {
            return "which is no amount: write digits, such as 1234, or 12.34 with a point before the decimals".into();
        }
        let count = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        match (self.scale, self.of_ledger) {
            (Some(places), _) if count > places.into() => {
                format!("with more than the {places} decimals of --scale")
            }
            (None, Some(places)) if count > places.into() => {
                format!("with more than the {places} decimals that its ledger was described with")
            }
            (None, None) if count > 0 => {
                "and its ledger was not described: write whole minor units, or say with \
                 --scale how many decimals they are"
                    .into()
            }
            _ => "more than 128 bits hold".into(),
        }
    }

    /// A cell of minor units, which may be below zero or empty, with all decimals. What is none stays as it is.
    pub fn cell(self, units: &str) -> String {
        let (sign, digits) = units.strip_prefix('-').map_or(("", units), |digits| ("-", digits));
        digits.parse().map_or_else(
            |_| units.to_owned(),
            |amount| format!("{sign}{}", self.shown(Amount(amount))),
        )
    }

    /// As [`Self::read`] takes it, with all decimals.
    pub fn shown(self, amount: Amount) -> String {
        decimals::shown(amount.0, self.scale().unwrap_or(0))
    }

    /// `plus - minus`, which may be below zero.
    pub fn difference(self, plus: Amount, minus: Amount) -> String {
        decimals::difference(plus.0, minus.0, self.scale().unwrap_or(0))
    }

    /// What the account has: its posted credits without its posted debits.
    pub fn balance(self, account: &Account) -> String {
        self.difference(account.credits_posted, account.debits_posted)
    }
}

/// Whether it is digits, with or without a point between them.
fn is_plain(text: &str) -> bool {
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit());
    text.split_once('.')
        .map_or(is_digits(text), |(whole, decimals)| is_digits(whole) && is_digits(decimals))
}

/// What can be debited: RULES.md, "Transfers".
pub fn available(account: &Account) -> Amount {
    let taken = account.debits_posted.0.saturating_add(account.debits_pending.0);
    Amount(account.credits_posted.0.saturating_sub(taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_both_ways() {
        let cents = Decimals::default().or(Some(2));
        for (text, units) in [("0.00", 0), ("0.01", 1), ("12.34", 1234), ("100.00", 10_000)] {
            assert_eq!(cents.read(text).unwrap(), Amount(units));
            assert_eq!(cents.shown(Amount(units)), text);
        }
        assert_eq!(cents.read("12").unwrap(), Amount(1200));
        assert_eq!(
            ["-5", "0", "1230", "", "-"].map(|it| cents.cell(it)),
            ["-0.05", "0.00", "12.30", "", "-"]
        );
        assert_eq!(Decimals::default().shown(Amount(u128::MAX)), u128::MAX.to_string());
        let most = Decimals::default().or(Some(38));
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

    /// Each once named `--scale` and what only an import takes.
    #[test]
    fn what_is_no_amount_says_what_the_person_can_change() {
        let of_none = Decimals::default();
        let (given, of_ledger) = (Decimals { scale: Some(2), ..of_none }, of_none.or(Some(2)));
        let why = |decimals: Decimals, text: &str| decimals.read(text).unwrap_err().message;
        assert!(why(given, "12.345").ends_with("2 decimals of --scale"));
        assert!(
            why(of_ledger, "12.345").ends_with("2 decimals that its ledger was described with")
        );
        assert!(why(given.or(Some(3)), "12.3456").ends_with("2 decimals of --scale"));
        assert!(why(of_none, "12.3").contains("was not described"));
        for decimals in [of_none, given, of_ledger] {
            for bad in ["12,34", "1e3", "+5", "-5", "", "1.", "1.2.3"] {
                assert!(why(decimals, bad).contains("write digits"), "{bad}");
            }
            assert!(why(decimals, &"9".repeat(40)).contains("128 bits"));
        }
    }

    #[test]
    fn a_balance_may_be_below_zero_and_what_is_available_is_not() {
        let cents = Decimals::default().or(Some(2));
        let account = Account {
            debits_posted: Amount(150),
            debits_pending: Amount(20),
            credits_posted: Amount(100),
            ..Account::default()
        };
        assert_eq!(
            (cents.balance(&account), cents.shown(available(&account))),
            ("-0.50".into(), "0.00".into())
        );
        let account = Account { credits_posted: Amount(200), ..account };
        assert_eq!(
            (cents.balance(&account), cents.shown(available(&account))),
            ("0.50".into(), "0.30".into())
        );
    }
}
