//! What an import would do: the answer to `--dry-run`.

use std::collections::BTreeMap;

use serde_json::json;
use walengine_net::cli::{Fatal, Reason, show};

use super::accounts;
use super::names::Names;
use super::send::{Found, Held};
use crate::cli::output::Format;

/// Counts of what would happen.
#[derive(Debug)]
pub struct Plan {
    rows: u64,
    sent: u64,
    /// Rows that were decided before.
    known: u64,
    held: Held,
    /// Accounts that do not exist, with their lines.
    missing: Vec<String>,
    missing_count: u64,
    /// Accounts that would be created, by ledger.
    created: BTreeMap<u32, u64>,
}

impl Plan {
    /// Of a file whose accounts are known.
    pub fn new(rows: u64, found: Found, names: &Names, missing: &[u32], creates: bool) -> Self {
        Self {
            rows,
            sent: found.sent,
            known: found.known,
            held: found.held,
            missing: if creates { Vec::new() } else { accounts::told(names, missing) },
            missing_count: if creates { 0 } else { missing.len() as u64 },
            created: if creates { accounts::by_ledger(names, missing) } else { BTreeMap::new() },
        }
    }

    /// Prints it.
    pub fn print(&self, format: Format) -> Result<(), Fatal> {
        let text = if format == Format::Text { self.text() } else { self.json() };
        show(&text)
    }

    /// Whether every row would be sent.
    pub fn result(&self) -> Result<(), Fatal> {
        match self.held.told() {
            None => Ok(()),
            Some(message) => Err(Fatal::new(Reason::Findings, message)),
        }
    }

    fn text(&self) -> String {
        let mut lines = vec!["this is what would happen".to_owned()];
        let mut line = |name: &str, value: u64| lines.push(format!("{name:<24}{value:>12}"));
        line("rows", self.rows);
        line("would be sent", self.sent);
        line("  decided before", self.known);
        line("would not be sent", self.held.counts.values().sum());
        for (word, count) in &self.held.counts {
            line(&format!("  {word}"), *count);
        }
        line("accounts created", self.created.values().sum());
        for (ledger, count) in &self.created {
            line(&format!("  on ledger {ledger}"), *count);
        }
        line("accounts missing", self.missing_count);
        lines.extend(self.missing.iter().map(|account| format!("  {account}")));
        lines.join("\n") + "\n"
    }

    fn json(&self) -> String {
        let object = json!({
            "dry_run": true,
            "rows": self.rows,
            "sent": self.sent,
            "repeats": self.known,
            "held": self.held.counts.values().sum::<u64>(),
            "reasons": self.held.counts,
            "first_held": self.held.first.as_ref().map(|(line, why)| json!({"line": line, "why": why})),
            "accounts_missing": self.missing,
            "accounts_created": self.created.values().sum::<u64>(),
            "accounts_created_by_ledger": self.created,
        });
        format!("{object}\n")
    }
}
