//! Whether a name is nearly another: what a person has mistyped must not be passed over. Pure.

/// Edits that make one text of the other: characters put in, taken out or exchanged.
pub fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, from) in one.chars().enumerate() {
        let mut before = row[0];
        row[0] = at + 1;
        for (place, &to) in other.iter().enumerate() {
            let exchanged = before + usize::from(from != to);
            before = row[place + 1];
            row[place + 1] = exchanged.min(row[place] + 1).min(before + 1);
        }
    }
    row[other.len()]
}

/// Whether `name` is most likely meant to be `known`, but is not.
pub fn is_nearly(name: &str, known: &str) -> bool {
    let plain = |text: &str| -> String {
        text.chars().filter(|one| one.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let (one, other) = (plain(name), plain(known));
    if one == other {
        return name != known;
    }
    let (short, long) = if one.len() < other.len() { (&one, &other) } else { (&other, &one) };
    // `timeout` for `timeout_seconds`, `flag` for `flags`.
    if short.len() >= 5 && one.len() < other.len() && long.starts_with(short.as_str()) {
        return true;
    }
    let edits = match other.len() {
        0..=2 => 0,
        3..=5 => 1,
        _ => 2,
    };
    distance(&one, &other) <= edits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_were_mistyped_are_near_and_others_are_not() {
        for (name, known) in [
            ("Flags", "flags"),
            ("flag", "flags"),
            ("timeout", "timeout_seconds"),
            ("Timeout Seconds", "timeout_seconds"),
            ("debitaccount", "debit_account"),
            ("amout", "amount"),
            ("pendingid", "pending_id"),
            ("user_data64", "user_data_64"),
            ("ID", "id"),
            ("ledgr", "ledger"),
            ("Code", "code"),
            ("pending", "pending_id"),
            ("\u{FEFF}id", "id"),
        ] {
            assert!(is_nearly(name, known), "{name} {known}");
        }
        for (name, known) in [
            ("flags", "flags"),
            ("date", "code"),
            ("note", "code"),
            ("currency", "ledger"),
            ("description", "amount"),
            ("time", "timeout_seconds"),
            ("iban", "id"),
            ("memo", "code"),
            ("name", "amount"),
            ("user_data_128", "user_data_64"),
        ] {
            assert!(!is_nearly(name, known), "{name} {known}");
        }
    }
}
