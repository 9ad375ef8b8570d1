//! One record of the log as a row: a column for every field of an event. Pure.

use walengine_net::model::{
    Arrival, Event, GuardFlags, LedgerId, Offset, PartitionId, Resolved, Sent, Timestamp, Verdict,
};

/// The columns of CSV and JSON, with their widths in text.
pub const COLUMNS: &[(&str, usize)] = &[
    ("partition", 9),
    ("offset", 10),
    ("timestamp", 19),
    ("kind", 8),
    ("verdict", 18),
    ("id", 39),
    ("debit_account", 39),
    ("credit_account", 39),
    ("amount", 14),
    ("ledger", 6),
    ("code", 5),
    ("flags", 0),
    ("pending_id", 0),
    ("user_data_128", 0),
    ("user_data_64", 0),
    ("user_data_32", 0),
    ("timeout_seconds", 0),
    ("version", 0),
    ("sent_debit_account", 0),
    ("sent_credit_account", 0),
    ("sent_amount", 0),
    ("sent_ledger", 0),
    ("sent_code", 0),
    ("bytes", 0),
    ("expected_offset", 0),
    ("data", 0),
    ("name", 0),
    ("scale", 0),
];

/// Columns of amounts.
pub const AMOUNTS: &[&str] = &["amount", "sent_amount"];

/// Fields that every record has.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub partition: PartitionId,
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub verdict: Verdict,
}

/// One value for each of [`COLUMNS`].
#[derive(Debug, Default)]
pub struct Row(pub [String; COLUMNS.len()]);

impl Row {
    /// What stands in a column.
    ///
    /// # Panics
    /// If there is no such column.
    pub fn value(&self, column: &str) -> &str {
        let place = COLUMNS.iter().position(|(name, _)| *name == column);
        &self.0[place.expect("a column of the list")]
    }

    /// Where it is in the log.
    pub fn place(&self) -> Option<(PartitionId, Offset)> {
        let partition = self.value("partition").parse().ok().map(PartitionId)?;
        Some((partition, Offset(self.value("offset").parse().ok()?)))
    }

    /// The ledger that its amounts are of; 0 if it has none.
    pub fn ledger(&self) -> LedgerId {
        LedgerId(self.value("ledger").parse().unwrap_or(0)) // an empty cell is none
    }

    /// Fills a column.
    ///
    /// # Panics
    /// If there is no such column.
    pub fn set(&mut self, column: &str, value: &impl ToString) {
        let place = COLUMNS.iter().position(|(name, _)| *name == column);
        self.0[place.expect("a column of the list")] = value.to_string();
    }

    /// As [`Self::set`], if the value is not zero: not every event has such a field.
    fn set_if_any<T: Default + PartialEq + ToString>(&mut self, column: &str, value: &T) {
        if *value != T::default() {
            self.set(column, value);
        }
    }

    fn flags(&mut self, names: &[&str]) {
        self.set("flags", &names.join("|").to_lowercase());
    }
}

impl Record {
    /// A row with what every record has.
    pub fn row(&self, kind: &str, id: u128) -> Row {
        let mut row = Row::default();
        row.set("partition", &self.partition);
        row.set("offset", &self.offset);
        row.set("timestamp", &self.timestamp);
        row.set("kind", &kind);
        row.set("verdict", &self.verdict.name());
        row.set("id", &id);
        row
    }
}

/// The row of an event; of one that this version does not know, the number of its kind. `effective` is what
/// stands beside it in the entry.
pub fn event_row(record: &Record, event: Result<Event, u8>, effective: Option<&Resolved>) -> Row {
    let mut row = match event {
        Ok(
            Event::Transfer(transfer)
            | Event::Arrival(Arrival { sent: Sent::Transfer(transfer), .. }),
        ) => {
            let kind = if matches!(event, Ok(Event::Arrival(_))) { "arrival" } else { "transfer" };
            let mut row = record.row(kind, transfer.id.0);
            let (debit, credit) = (transfer.debit_account_id, transfer.credit_account_id);
            for prefix in ["", "sent_"] {
                row.set(&format!("{prefix}debit_account"), &debit);
                row.set(&format!("{prefix}credit_account"), &credit);
                row.set(&format!("{prefix}amount"), &transfer.amount);
                row.set(&format!("{prefix}ledger"), &transfer.ledger);
                row.set(&format!("{prefix}code"), &transfer.code);
            }
            row.flags(&transfer.flags.names());
            row.set_if_any("pending_id", &transfer.pending_id);
            row.set_if_any("user_data_128", &transfer.user_data_128);
            row.set_if_any("user_data_64", &transfer.user_data_64);
            row.set_if_any("user_data_32", &transfer.user_data_32);
            row.set_if_any("timeout_seconds", &transfer.timeout_seconds);
            row
        }
        Ok(
            Event::Account(account) | Event::Arrival(Arrival { sent: Sent::Account(account), .. }),
        ) => {
            let is_arrival = matches!(event, Ok(Event::Arrival(_)));
            let kind = if is_arrival { "account_arrival" } else { "account" };
            let mut row = record.row(kind, account.id.0);
            row.set("ledger", &account.ledger);
            row.set("code", &account.code);
            row.flags(&account.flags.names());
            row.set_if_any("user_data_128", &account.user_data_128);
            row.set_if_any("user_data_64", &account.user_data_64);
            row
        }
        Ok(Event::Guard(guard) | Event::Arrival(Arrival { sent: Sent::Guard(guard), .. })) => {
            let is_arrival = matches!(event, Ok(Event::Arrival(_)));
            let kind = if is_arrival { "guard_arrival" } else { "guard" };
            let mut row = record.row(kind, guard.id.0);
            row.set("debit_account", &guard.account_id);
            row.set("amount", &guard.available);
            row.flags(&guard.flags.names());
            if guard.flags.contains(GuardFlags::VERSION) {
                row.set("version", &guard.version);
            }
            row
        }
        Ok(Event::Close(close) | Event::Arrival(Arrival { sent: Sent::Close(close), .. })) => {
            let is_arrival = matches!(event, Ok(Event::Arrival(_)));
            let mut row =
                record.row(if is_arrival { "close_arrival" } else { "close" }, close.id.0);
            row.set("debit_account", &close.account_id);
            row.flags(&close.flags.names());
            row
        }
        Ok(Event::Name(name)) => {
            let mut row = record.row("name", name.id.0);
            row.set("debit_account", &name.account_id);
            row.set("name", &name.name);
            row.flags(&name.flags.names());
            row
        }
        Ok(Event::Describe(describe)) => {
            let mut row = record.row("describe", describe.id.0);
            row.set("ledger", &describe.ledger);
            row.set("name", &describe.name);
            row.set("scale", &describe.scale);
            row.flags(&describe.flags.names());
            row
        }
        Ok(Event::Expire(expire)) => {
            let mut row = record.row("expire", expire.pending_id.0);
            row.set("pending_id", &expire.pending_id);
            row
        }
        Ok(Event::Mail(mail)) => record.row("mail", mail.home.0.into()),
        Ok(Event::Word(word) | Event::Arrival(Arrival { sent: Sent::Word(word), .. })) => {
            let is_arrival = matches!(event, Ok(Event::Arrival(_)));
            let mut row = record.row(if is_arrival { "word_arrival" } else { "word" }, word.id.0);
            row.set("verdict", &word.verdict);
            row
        }
        Err(number) => record.row(&format!("kind {number}"), 0),
    };
    if let Some(effective) = effective {
        row.set("debit_account", &effective.debit_account_id);
        row.set("credit_account", &effective.credit_account_id);
        row.set("amount", &effective.amount);
        row.set("ledger", &effective.ledger);
        row.set("code", &effective.code);
    }
    row
}

#[cfg(test)]
mod tests {
    use walengine_net::model::{Account, AccountFlags, Guard, TransferFlags};
    use walengine_net::model::{AccountId, Amount, Code, EventId, Transfer};

    use super::*;

    const RECORD: Record = Record {
        partition: PartitionId(1),
        offset: Offset(2),
        timestamp: Timestamp(3),
        verdict: Verdict::Ok,
    };

    fn value(row: &Row, column: &str) -> String {
        row.value(column).to_owned()
    }

    /// A column for each field was missing once, and what was made of such rows lost reservations,
    /// time limits and limits of accounts.
    #[test]
    fn a_row_has_every_field_of_its_event() {
        let transfer = Transfer {
            id: EventId(11),
            debit_account_id: AccountId(12),
            credit_account_id: AccountId(13),
            amount: Amount(14),
            pending_id: EventId(15),
            user_data_128: 16,
            user_data_64: 17,
            user_data_32: 18,
            timeout_seconds: 19,
            ledger: LedgerId(20),
            code: Code(21),
            flags: TransferFlags::PENDING.with(TransferFlags::LINKED),
            timestamp: Timestamp(0),
        };
        let effective = Resolved {
            debit_account_id: AccountId(112),
            credit_account_id: AccountId(113),
            amount: Amount(114),
            index: 0,
            ledger: LedgerId(120),
            code: Code(121),
        };
        let row = event_row(&RECORD, Ok(Event::Transfer(transfer)), Some(&effective));
        let all: Vec<_> = row.0.iter().map(String::as_str).collect();
        let expected = [
            "1",
            "2",
            "3",
            "transfer",
            "ok",
            "11",
            "112",
            "113",
            "114",
            "120",
            "121",
            "linked|pending",
            "15",
            "16",
            "17",
            "18",
            "19",
            "",
            "12",
            "13",
            "14",
            "20",
            "21",
            "",
            "",
            "",
            "",
            "",
        ];
        assert_eq!(all, expected);

        let account = Account {
            id: AccountId(1),
            user_data_128: 2,
            user_data_64: 3,
            ledger: LedgerId(4),
            code: Code(5),
            flags: AccountFlags::CLOSED,
            ..Account::default()
        };
        let row = event_row(&RECORD, Ok(Event::Account(account)), None);
        let columns = ["id", "user_data_128", "user_data_64", "ledger", "code", "flags"];
        let found = columns.map(|column| value(&row, column));
        assert_eq!(found, ["1", "2", "3", "4", "5", "closed"]);

        let guard = Guard {
            id: EventId(1),
            account_id: AccountId(2),
            available: Amount(3),
            version: 0,
            flags: GuardFlags::VERSION.with(GuardFlags::AVAILABLE_TO_DEBIT),
        };
        let row = event_row(&RECORD, Ok(Event::Guard(guard)), None);
        let columns = ["debit_account", "amount", "version", "flags"];
        let found = columns.map(|column| value(&row, column));
        assert_eq!(found, ["2", "3", "0", "version|available_to_debit"]);
    }
}
