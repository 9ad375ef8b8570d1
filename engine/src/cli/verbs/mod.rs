//! Verbs that write one event and tell its verdict: `account create`, `account name`, `ledger describe`, `transfer`,
//! `pending`, `post`, `void`; and `balance`.
//!
//! Each has an id before it is sent, which is printed first if it was made here. Whoever does not learn
//! what became of it asks by that id, or sends the same again: an id has one verdict for ever.

pub mod balance;
pub mod create;
pub mod end;
pub mod naming;
pub mod transfer;

use walengine_net::client::blocking::Client;
use walengine_net::client::{ClientError, new_event_id};
use walengine_net::message::EventOutcome;
use walengine_net::model::{Amount, Event, EventId, Transfer, Verdict};
use walengine_net::partition::of_sides;
use walengine_net::{names, say_aside};

use super::amounts::Decimals;
use super::ids;
use super::log_time::shown;
use super::money_rows::MoneyRows;
use super::output::Format;
use crate::fatal::{Fatal, Reason};

const COLUMNS: &[(&str, usize)] = &[
    ("verdict", 18),
    ("id", 36),
    ("amount", 16),
    ("time", 30),
    ("token", 0),
    ("decided", 0),
    ("partition", 0),
    ("offset", 0),
    ("timestamp", 0),
    ("meaning", 0),
];
/// Columns of text: a line that a person can read. CSV and JSON have all.
const TEXT_COLUMNS: &[(&str, usize)] = COLUMNS.split_at(5).0;

/// What a write is known by.
#[derive(Clone, Debug, clap::Args)]
pub struct Known {
    /// Id of what is sent: a name, a number or a UUID; the same id again moves nothing twice
    /// [default: a new UUID, which is printed before it is sent]
    #[arg(long, value_name = "ID|NAME", value_parser = ids::name)]
    id: Option<String>,
}

impl Known {
    /// The id. If it is made here, it is printed on standard error, so that nobody is left without it.
    fn id(&self) -> EventId {
        if let Some(text) = &self.id {
            return names::event_id(text);
        }
        let id = new_event_id();
        say_aside!("id {}", ids::whole(id.0));
        id
    }
}

/// A write that was answered.
struct Written {
    outcome: EventOutcome,
    tokens: Vec<walengine_net::model::Token>,
}

/// Sends one event and waits for its verdict.
fn send(client: &Client, event: &Event, again: &str) -> Result<Written, Fatal> {
    let submitted = client.submit_all(&[event.to_bytes()]).map_err(|error| told(error, again))?;
    let Some(outcome) = submitted.outcomes().next() else {
        return Err(ClientError::Answer("no outcome for one event".to_owned()).into());
    };
    Ok(Written { outcome, tokens: submitted.tokens })
}

/// What the error of a write means: if it may have taken effect, how to find out.
fn told(error: ClientError, again: &str) -> Fatal {
    let is_open = match &error {
        ClientError::OutcomeUnknown { .. } => true,
        error => error.code().is_some_and(walengine_net::message::ErrorCode::may_have_changed),
    };
    if !is_open {
        return error.into();
    }
    let why = match &error {
        ClientError::OutcomeUnknown { waited } => format!("no answer within {waited:?}"),
        error => error.to_string(),
    };
    Fatal::new(Reason::Server, format!("{why}; it may have taken effect all the same: {again}"))
}

/// How to ask again about a transfer.
fn asking_again(id: EventId) -> String {
    let id = ids::whole(id.0);
    format!(
        "`walengine transfer {id}` tells, and the same command with --id {id} moves nothing twice"
    )
}

/// Sends a transfer and prints its verdict. A refusal is the error of the program.
fn send_transfer(
    client: &Client,
    transfer: Transfer,
    format: Format,
    decimals: Decimals,
) -> Result<(), Fatal> {
    let id = transfer.id;
    let written = send(client, &Event::Transfer(transfer), &asking_again(id))?;
    let EventOutcome { verdict, offset, fresh, timestamp } = written.outcome;
    let amount = moved(client, &transfer, &written);
    let [home, _] = of_sides(&transfer, client.info().partitions);
    let token = written.tokens.iter().find(|token| token.partition == home);
    let mut tokens: Vec<_> = written.tokens.iter().collect();
    tokens.sort_by_key(|one| (Some(*one) != token, one.partition));
    let tokens: Vec<_> = tokens.iter().map(ToString::to_string).collect();
    let or_empty = |text: Option<String>| text.unwrap_or_default();
    let has_time = timestamp.0 != 0;
    let row = [
        verdict.name().to_owned(),
        if format == Format::Text { ids::whole(id.0) } else { id.to_string() },
        or_empty(amount.map(|amount| amount.to_string())),
        or_empty(has_time.then(|| shown(timestamp))),
        tokens.join(","),
        if fresh { "now" } else { "before" }.to_owned(),
        or_empty(offset.map(|_| home.to_string())),
        or_empty(offset.map(|offset| offset.to_string())),
        or_empty(has_time.then(|| timestamp.to_string())),
        verdict.meaning().to_owned(),
    ];
    let columns = if format == Format::Text { TEXT_COLUMNS } else { COLUMNS };
    let mut output = MoneyRows::new(format, columns, &["amount"])?;
    output.row(&row[..columns.len()], decimals)?;
    output.flush()?;
    accepted(&written.outcome)
}

/// What a written event came to: a refusal is the error of the program, and a repeat is told.
fn accepted(outcome: &EventOutcome) -> Result<(), Fatal> {
    if !outcome.verdict.is_ok() {
        return Err(refused(outcome.verdict));
    }
    if !outcome.fresh {
        say_aside!("decided before: this is the first verdict, and nothing has changed");
    }
    Ok(())
}

/// A refusal as the error of the program.
fn refused(verdict: Verdict) -> Fatal {
    Fatal::new(Reason::Findings, format!("{}: {}", verdict.name(), verdict.meaning()))
}

/// What was moved, reserved or released, if that is known; the transfer itself may not tell.
fn moved(client: &Client, transfer: &Transfer, written: &Written) -> Option<Amount> {
    use walengine_net::model::TransferFlags as Flags;
    let balances = Flags::BALANCING_DEBIT.with(Flags::BALANCING_CREDIT);
    let is_open = transfer.amount.0 == 0 || transfer.flags.intersects(balances);
    if !written.outcome.verdict.is_ok() || !is_open {
        return (transfer.amount.0 != 0).then_some(transfer.amount);
    }
    // Whoever may write and not read gets the verdict without it.
    let found = client.lookup_transfers(&[transfer.id], &written.tokens).ok()?;
    found.into_iter().flatten().next()?.resolved.map(|resolved| resolved.amount)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use walengine_net::message::ErrorCode;

    use super::*;

    fn refused(code: ErrorCode) -> ClientError {
        let message = "why".to_owned();
        ClientError::Refused { code: Some(code), message, retry_after: Duration::ZERO }
    }

    #[test]
    fn an_open_outcome_says_how_to_ask_again_and_no_other_does() {
        let again = asking_again(EventId(42));
        for error in [
            ClientError::OutcomeUnknown { waited: Duration::from_secs(10) },
            refused(ErrorCode::LeadershipLost),
        ] {
            let fatal = told(error, &again);
            assert_eq!(fatal.reason, Reason::Server);
            assert!(fatal.message.contains("`walengine transfer 42`"), "{fatal}");
            assert!(fatal.message.contains("--id 42"), "{fatal}");
        }
        let closed = told(refused(ErrorCode::NotLeader), &again);
        assert!(!closed.message.contains("--id"), "{closed}");
    }

    #[test]
    fn an_id_that_is_given_is_taken_and_others_are_new() {
        let given = Known { id: Some("1042".into()) };
        assert_eq!(given.id(), EventId(1042));
        let made = Known { id: None };
        assert_ne!(made.id(), made.id());
    }
}
