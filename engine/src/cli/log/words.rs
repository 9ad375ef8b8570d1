//! A record of the log in words, for people. Pure.

use walengine_net::model::{AccountId, Timestamp};

use super::row::Row;
use crate::business_time::shown_business;
use crate::cli::called::Called;
use crate::cli::ids::ShownIds;
use crate::cli::log_time;

/// Columns of text: a line that a person can read.
pub const COLUMNS: &[(&str, usize)] = &[
    ("partition", 9),
    ("offset", 10),
    ("time", 27),
    ("kind", 16),
    ("verdict", 18),
    ("id", 15),
    ("debit_account", 15),
    ("credit_account", 15),
    ("amount", 14),
    ("ledger", 6),
    ("code", 5),
    ("flags", 0),
];
/// Those of them that have ids.
pub const OF_IDS: &[&str] = &["id", "debit_account", "credit_account"];

/// What a kind of record is in words, with the flags of its event.
const KINDS: [(&str, &str, &str); 25] = [
    ("transfer", "post_pending", "post"),
    ("transfer", "void_pending", "void"),
    ("transfer", "pending", "reserve"),
    ("transfer", "gathering", "between stripes"),
    ("transfer", "", "transfer"),
    ("arrival", "post_pending", "post arrives"),
    ("arrival", "void_pending", "void arrives"),
    ("arrival", "pending", "reserve arrives"),
    ("arrival", "gathering", "stripe arrives"),
    ("arrival", "", "transfer arrives"),
    ("account", "", "new account"),
    ("account_arrival", "", "new stripe"),
    ("guard", "", "check"),
    ("guard_arrival", "", "check arrives"),
    ("close", "reopen", "reopen"),
    ("close", "", "close"),
    ("close_arrival", "reopen", "reopen arrives"),
    ("close_arrival", "", "close arrives"),
    ("expire", "", "expiry"),
    ("name", "", "name"),
    ("describe", "", "describe"),
    ("mail", "", "mail"),
    ("word", "", "word"),
    ("word_arrival", "", "word arrives"),
    ("record", "", "bytes"),
];

/// The cells of a record in text, its amount in minor units.
pub fn in_words(
    row: &Row,
    shown: &mut ShownIds,
    called: Option<&Called>,
) -> [String; COLUMNS.len()] {
    let value = |column: &str| row.value(column);
    let number = |column: &str| value(column).parse::<u128>().unwrap_or(0);
    let mut account = |column: &str| {
        let name = called.and_then(|called| called.name(AccountId(number(column))));
        name.map_or_else(|| shown.cell(value(column)), str::to_owned)
    };
    let accounts = ["debit_account", "credit_account"].map(&mut account);
    let [debit, credit] = accounts;
    let flags: Vec<&str> = value("flags").split('|').filter(|flag| !flag.is_empty()).collect();
    let time = value("timestamp").parse().map(Timestamp);
    [
        value("partition").to_owned(),
        value("offset").to_owned(),
        time.map_or_else(|_| value("timestamp").to_owned(), log_time::shown_micros),
        kind(value("kind"), &flags).to_owned(),
        value("verdict").to_owned(),
        // That of mail is the partition that has sent it.
        if value("id") == "0" || value("kind") == "mail" {
            "-".to_owned()
        } else {
            shown.cell(value("id"))
        },
        debit,
        credit,
        value("amount").to_owned(),
        value("ledger").to_owned(),
        value("code").to_owned(),
        match value("name") {
            "" => flags
                .iter()
                .map(|flag| with_time(flag, value("user_data_64")))
                .collect::<Vec<_>>()
                .join(", "),
            name => format!("\"{name}\""),
        },
    ]
}

/// A flag; that of a time of business with the time.
fn with_time(flag: &str, user_data_64: &str) -> String {
    if flag != "booked" {
        return flag.to_owned();
    }
    let number: u64 = user_data_64.parse().unwrap_or_default(); // 0 is an empty cell
    format!("booked {}", shown_business(number.cast_signed()))
}

fn kind<'a>(kind: &'a str, flags: &[&str]) -> &'a str {
    let fits = |(of, flag, _): &&(&str, &str, &str)| {
        *of == kind && (flag.is_empty() || flags.contains(flag))
    };
    KINDS.iter().find(fits).map_or(kind, |(.., words)| words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_what_they_do() {
        assert_eq!(kind("transfer", &["linked", "pending"]), "reserve");
        assert_eq!(kind("transfer", &["balancing_debit"]), "transfer");
        assert_eq!(kind("arrival", &["post_pending"]), "post arrives");
        assert_eq!(kind("close", &["reopen"]), "reopen");
        assert_eq!(kind("kind 14", &[]), "kind 14");
        let widest = KINDS.iter().map(|(.., words)| words.len()).max();
        assert!(widest <= Some(16));
    }

    #[test]
    fn a_row_has_times_and_ids_as_people_read_them() {
        let mut row = Row::default();
        row.set("offset", &7);
        row.set("timestamp", &1_764_142_200_000_000_001_u64);
        row.set("kind", &"transfer");
        row.set("flags", &"linked|pending|booked");
        row.set("user_data_64", &730_944_000_000_000_u64);
        row.set("id", &(u128::MAX - 1));
        let cells = in_words(&row, &mut ShownIds::new(false), None);
        let column = |name| &cells[COLUMNS.iter().position(|(column, _)| *column == name).unwrap()];
        assert_eq!(column("time"), "2025-11-26T07:30:00.000000Z");
        assert_eq!(column("kind"), "reserve");
        assert_eq!(column("flags"), "linked, pending, booked 1993-03-01");
        assert_eq!(column("id"), "ffffffff…fffffe");
        assert_eq!(column("debit_account"), "");
    }
}
