//! Compares the rows derived from the log with those of a table, in order of offset, and describes
//! the differences.

use std::fmt::Write as _;

use tokio_postgres::types::{FromSql as _, Type};

use super::rows::{Row, TableRows, fields};
use crate::copy::Rows;
use crate::limits::{DIFFERENCES_MAX, SHOWN_BYTES_MAX};
use crate::tables::Table;
use crate::trouble::Trouble;
use crate::values::Numeric;

/// Result of a comparison.
#[derive(Clone, Debug)]
pub struct TableReport {
    /// Name of the table.
    pub table: &'static str,
    /// Number of rows derived from the log.
    pub rows: u64,
    /// Hash of the rows derived from the log.
    pub log_digest: [u8; 32],
    /// Hash of the rows in the table.
    pub table_digest: [u8; 32],
    /// Descriptions of the first differences.
    pub differences: Vec<String>,
    /// How many there are in all.
    pub differing: u64,
}

impl TableReport {
    /// Whether the table equals the log.
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty() && self.log_digest == self.table_digest
    }
}

/// The comparison of one table of one partition.
pub struct Comparison {
    table: Table,
    actual: TableRows,
    rows: u64,
    log: Box<blake3::Hasher>,
    found: Box<blake3::Hasher>,
    differences: Vec<String>,
    differing: u64,
    last_offset: i64,
}

impl Comparison {
    /// Starts with the rows of the table.
    pub fn new(table: Table, actual: TableRows) -> Self {
        Self {
            table,
            actual,
            rows: 0,
            log: Box::default(),
            found: Box::default(),
            differences: Vec::new(),
            differing: 0,
            last_offset: -1,
        }
    }

    /// Whether enough differences were found.
    pub fn is_full(&self) -> bool {
        self.differences.len() >= DIFFERENCES_MAX
    }

    fn differs(&mut self, offset: i64, what: &str) {
        self.differing += 1;
        if !self.is_full() {
            self.differences.push(format!("{}, log_offset {offset}: {what}", self.table.name));
        }
    }

    fn take_actual(&mut self) -> Option<Row> {
        let row = self.actual.take()?;
        self.found.update(&row.bytes);
        Some(row)
    }

    fn extra(&mut self) {
        let Some(row) = self.take_actual() else { return };
        let what = if row.offset == self.last_offset {
            "the row is in the table more than once"
        } else {
            "the row is in the table, but not in the log"
        };
        self.differs(row.offset, what);
    }

    /// Compares the next row derived from the log.
    pub async fn expect(&mut self, offset: u64, expected: &Rows) -> Result<(), Trouble> {
        let offset = offset as i64;
        let expected = expected.bytes();
        self.rows += 1;
        self.log.update(expected);
        loop {
            match self.actual.peek().await? {
                Some(row) if row.offset < offset => self.extra(),
                Some(row) if row.offset == offset => {
                    let is_equal = row.bytes == expected;
                    if let Some(row) = self.take_actual()
                        && !is_equal
                    {
                        let what = difference(&self.table, expected, &row.bytes);
                        self.differs(offset, &what);
                    }
                    self.last_offset = offset;
                    return Ok(());
                }
                _ => {
                    self.differs(offset, "the row is missing");
                    return Ok(());
                }
            }
        }
    }

    /// Ends the comparison: there are no more rows in the log.
    pub async fn finish(mut self) -> Result<TableReport, Trouble> {
        while self.actual.peek().await?.is_some() {
            self.extra();
        }
        Ok(TableReport {
            table: self.table.name,
            rows: self.rows,
            log_digest: *self.log.finalize().as_bytes(),
            table_digest: *self.found.finalize().as_bytes(),
            differences: self.differences,
            differing: self.differing,
        })
    }
}

/// Describes the columns that differ, with both values.
fn difference(table: &Table, expected: &[u8], found: &[u8]) -> String {
    let mut text = String::new();
    let columns = table.columns.iter().zip(fields(expected).zip(fields(found)));
    for ((name, kind), (expected, found)) in columns.filter(|(_, (one, other))| one != other) {
        let separator = if text.is_empty() { "" } else { "; " };
        let (found, expected) = (shown(kind, found), shown(kind, expected));
        // Writing to a String does not fail.
        let _ = write!(text, "{separator}{name} is {found}, by the log {expected}");
    }
    if text.is_empty() { "the row is encoded differently".to_owned() } else { text }
}

fn shown(kind: &str, value: Option<&[u8]>) -> String {
    let Some(value) = value else { return "null".to_owned() };
    let known = match kind {
        "bigint" => value.try_into().ok().map(|bytes| i64::from_be_bytes(bytes).to_string()),
        "integer" => value.try_into().ok().map(|bytes| i32::from_be_bytes(bytes).to_string()),
        "smallint" => value.try_into().ok().map(|bytes| i16::from_be_bytes(bytes).to_string()),
        "boolean" => Some((value == [1]).to_string()),
        "timestamp with time zone" => value
            .try_into()
            .ok()
            .map(|bytes| format!("2000-01-01 + {} us", i64::from_be_bytes(bytes))),
        "text" | "transfer_kind" | "reservation_state" => {
            std::str::from_utf8(value).ok().map(str::to_owned)
        }
        kind if kind.starts_with("numeric") => {
            Numeric::from_sql(&Type::NUMERIC, value).ok().map(|number| {
                format!("{}{}", if number.negative { "-" } else { "" }, number.magnitude)
            })
        }
        _ => None,
    };
    known.unwrap_or_else(|| {
        let more = if value.len() > SHOWN_BYTES_MAX { "..." } else { "" };
        format!("{}{more}", hex(&value[..value.len().min(SHOWN_BYTES_MAX)]))
    })
}

/// Hexadecimal, two digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // to a String
        text
    })
}
