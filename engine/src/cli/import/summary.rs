//! What an import has come to, for people and for programs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};
use walengine_net::cli::{Fatal, Reason, show};
use walengine_net::model::Token;

use crate::cli::output::Format;
use crate::limits::IMPORT_TOLD_MAX;

/// Results of the rows so far.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Rows that were decided, or held.
    pub rows: u64,
    pub accepted: u64,
    /// Rows that were decided before this import.
    pub repeats: u64,
    /// Rows with the id of an earlier row of the file.
    pub twice: u64,
    /// The first of them: its line, and that of the earlier row.
    pub twice_lines: Vec<(u64, u64)>,
    /// Rows that were refused, by verdict.
    pub refused: BTreeMap<&'static str, u64>,
    /// Rows that were not sent, by reason.
    pub held: BTreeMap<&'static str, u64>,
    /// The first row that was not accepted, and why.
    pub first: Option<(u64, String)>,
    /// Accounts that were created.
    pub accounts: u64,
    /// Accounts that were named.
    pub names: u64,
    /// Tokens of the newest writes.
    pub tokens: Vec<Token>,
    pub refused_file: Option<PathBuf>,
    /// Anything was sent, or is about to be.
    pub has_sent: bool,
}

impl Summary {
    /// Adds tokens of a write.
    pub fn add_tokens(&mut self, tokens: &[Token]) {
        for token in tokens {
            match self.tokens.iter_mut().find(|known| known.partition == token.partition) {
                Some(known) if known.offset < token.offset => *known = *token,
                Some(_) => {}
                None => self.tokens.push(*token),
            }
        }
    }

    /// Notes a row with the id of an earlier one.
    pub fn add_twice(&mut self, line: u64, before: u64) {
        self.twice += 1;
        if self.twice_lines.len() < IMPORT_TOLD_MAX {
            self.twice_lines.push((line, before));
        }
    }

    /// Notes why a row was not accepted.
    pub fn add_reason(&mut self, line: u64, why: &str) {
        if self.first.is_none() {
            self.first = Some((line, why.to_owned()));
        }
    }

    /// Adds what came of one batch.
    pub fn add(&mut self, batch: &Self, refused_file: Option<&PathBuf>) {
        self.rows += batch.rows;
        self.accepted += batch.accepted;
        self.repeats += batch.repeats;
        self.twice += batch.twice;
        let room = IMPORT_TOLD_MAX - self.twice_lines.len();
        self.twice_lines.extend(batch.twice_lines.iter().take(room));
        for (all, some) in [(&mut self.refused, &batch.refused), (&mut self.held, &batch.held)] {
            for (reason, count) in some {
                *all.entry(reason).or_default() += count;
            }
        }
        if self.first.is_none() {
            self.first.clone_from(&batch.first);
        }
        self.add_tokens(&batch.tokens);
        self.refused_file = refused_file.cloned();
    }

    /// Rows that were not accepted.
    pub fn refused_total(&self) -> u64 {
        self.refused.values().sum::<u64>() + self.held.values().sum::<u64>()
    }

    /// Prints it.
    pub fn print(&self, format: Format, took: Duration) -> Result<(), Fatal> {
        let text = match format {
            Format::Text => self.text(took),
            Format::Json => self.json(took),
            Format::Csv => self.csv(took),
        };
        show(&text)
    }

    fn text(&self, took: Duration) -> String {
        let mut lines = Vec::new();
        let mut line = |name: &str, value: String| lines.push(format!("{name:<18}{value:>12}"));
        line("rows", self.rows.to_string());
        line("accepted", self.accepted.to_string());
        line("repeats", self.repeats.to_string());
        line("twice in file", self.twice.to_string());
        lines.extend(
            self.twice_lines
                .iter()
                .map(|(later, before)| format!("  line {later} has the id of line {before}")),
        );
        if self.twice > self.twice_lines.len() as u64 {
            lines.push(format!("  and {} more", self.twice - self.twice_lines.len() as u64));
        }
        lines.push(format!("{:<18}{:>12}", "refused", self.refused_total()));
        for (reason, count) in self.refused.iter().chain(&self.held) {
            lines.push(format!("  {reason:<28} {count}"));
        }
        if let Some(path) = &self.refused_file {
            lines.push(format!("{:<18}  {}", "refused file", path.display()));
        }
        lines.push(format!("{:<18}{:>12}", "accounts created", self.accounts));
        lines.push(format!("{:<18}{:>12}", "accounts named", self.names));
        lines.extend(self.tokens.iter().map(|token| format!("{:<18}  {token}", "token")));
        lines.push(format!("{:<18}{:>12}", "time", format!("{:.2} s", took.as_secs_f64())));
        lines.push(format!("{:<18}{:>12}", "rate", rate(self.rows, took)));
        lines.join("\n") + "\n"
    }

    fn json(&self, took: Duration) -> String {
        let reasons: Map<String, Value> = self
            .refused
            .iter()
            .chain(&self.held)
            .map(|(reason, count)| ((*reason).to_owned(), (*count).into()))
            .collect();
        let twice: Vec<Value> = self
            .twice_lines
            .iter()
            .map(|(line, before)| json!({"line": line, "first_line": before}))
            .collect();
        let object = json!({
            "rows": self.rows,
            "accepted": self.accepted,
            "repeats": self.repeats,
            "twice": self.twice,
            "twice_lines": twice,
            "refused": self.refused_total(),
            "reasons": reasons,
            "first_refused": self.first.as_ref().map(|(line, why)| json!({"line": line, "why": why})),
            "refused_file": self.refused_file.as_ref().map(|path| path.to_string_lossy()),
            "accounts_created": self.accounts,
            "accounts_named": self.names,
            "tokens": self.tokens.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "seconds": (took.as_secs_f64() * 1000.0).round() / 1000.0,
        });
        format!("{object}\n")
    }

    fn csv(&self, took: Duration) -> String {
        let tokens: Vec<_> = self.tokens.iter().map(ToString::to_string).collect();
        let file = self.refused_file.as_ref().map(|path| path.to_string_lossy().into_owned());
        let file = file.unwrap_or_default();
        let file = format!("\"{}\"", file.replace('"', "\"\""));
        format!(
            "rows,accepted,repeats,twice,refused,refused_file,accounts_created,tokens,seconds,accounts_named\n\
             {},{},{},{},{},{file},{},{},{:.3},{}\n",
            self.rows,
            self.accepted,
            self.repeats,
            self.twice,
            self.refused_total(),
            self.accounts,
            tokens.join(" "),
            took.as_secs_f64(),
            self.names
        )
    }

    /// Whether all was accepted.
    pub fn result(&self) -> Result<(), Fatal> {
        match self.refused_total() {
            0 => Ok(()),
            count => {
                let first = self.first.as_ref();
                let first = first.map(|(line, why)| format!(" (the first: line {line}: {why})"));
                let place = self.refused_file.as_ref();
                let place = place.map(|path| format!("; they are in {}", path.display()));
                let message = format!(
                    "{count} rows were refused{}{}",
                    first.unwrap_or_default(),
                    place.unwrap_or_default()
                );
                Err(Fatal::new(Reason::Findings, message))
            }
        }
    }
}

/// Whole rows per second.
pub fn rate(rows: u64, took: Duration) -> String {
    let millis = took.as_millis().max(1);
    format!("{} rows/s", u128::from(rows) * 1000 / millis)
}
