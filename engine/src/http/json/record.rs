//! Records of the log, refusals and what leaders wrote for each other included.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use utoipa::ToSchema;
use walengine_net::client::Page;
use walengine_net::model::{
    AccountId, Arrival, Event, Offset, Resolved, Sent, Timestamp, Verdict, Word,
};
use walengine_net::records::{Content, LogRecord, records as records_of};

use super::shown::{Names, ShownEffect, ShownEvent};
use super::text::{Digits, rfc3339, uuid_text};
use crate::http::problem::Problem;
use crate::http::scales::Scales;

/// What kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// An event that a client has sent.
    Event,
    /// The time of a pending transfer is over.
    Expiry,
    /// An event that another partition has prepared.
    Arrival,
    /// What another partition has said of an event that was prepared here.
    Word,
    /// A frame from another partition; its arrivals and words follow.
    Mail,
    /// Bytes of the log's other uses.
    Opaque,
}

/// One record of a partition's log.
#[derive(Debug, Serialize, ToSchema)]
pub struct Record {
    /// Its place in the partition.
    #[schema(value_type = String)]
    pub offset: Digits<u64>,
    /// Log time.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    /// The same as a number.
    #[serde(skip)]
    pub timestamp: Timestamp,
    pub kind: RecordKind,
    /// `ok`, or why it was refused: the name of a verdict.
    pub verdict: &'static str,
    /// The id that was decided; of an expiry or a word that of the transfer that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uuid")]
    id: Option<String>,
    /// The event of an event or arrival.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<ShownEvent>,
    /// What it has moved, if the event does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    effective: Option<ShownEffect>,
    /// What a word says was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    decided: Option<&'static str>,
    /// What a word says was moved or reserved.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    amount: Option<Digits<u128>>,
    /// The partition that an event, word or frame comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    from_partition: Option<u16>,
    /// The bytes of an opaque record, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    /// The offset that an opaque record had to get.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    expected_offset: Option<Digits<u64>>,
}

/// The records of a page from `from` on, at most `limit`.
///
/// # Errors
/// A node has sent what is no log.
pub fn records(
    page: &Page,
    from: Offset,
    limit: usize,
    scales: &Scales,
) -> Result<Vec<Record>, Problem> {
    let mut found = Vec::new();
    for entry in page.entries() {
        let (header, body) = entry.map_err(|error| Problem::bad_answer(&error))?;
        let records = records_of(&header, body).map_err(|error| Problem::bad_answer(&error))?;
        // The partition whose frame the arrivals and words behind it have come in.
        let mut mail = None;
        for record in records {
            if let Content::Event { event, .. } = record.content
                && let Ok(Event::Mail(begun)) = Event::from_bytes(event)
            {
                mail = Some(begun.home.0);
            }
            if record.offset >= from && found.len() < limit {
                found.push(Record::new(&record).with_content(record.content, mail).scaled(scales));
            }
        }
    }
    Ok(found)
}

impl RecordKind {
    /// As it stands in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Expiry => "expiry",
            Self::Arrival => "arrival",
            Self::Word => "word",
            Self::Mail => "mail",
            Self::Opaque => "opaque",
        }
    }
}

impl Record {
    /// Its id, if it has one.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The accounts that it names.
    pub fn accounts(&self) -> impl Iterator<Item = AccountId> {
        let event = self.event.as_ref().map(ShownEvent::accounts);
        let effective = self.effective.as_ref().map(ShownEffect::accounts);
        event.into_iter().flatten().chain(effective.into_iter().flatten())
    }

    /// With what its accounts are called.
    #[must_use]
    pub fn named(self, names: &Names) -> Self {
        Self {
            event: self.event.map(|event| event.named(names)),
            effective: self.effective.map(|effective| effective.named(names)),
            ..self
        }
    }

    fn new(record: &LogRecord<'_>) -> Self {
        Self {
            offset: Digits(record.offset.0),
            time: rfc3339(record.timestamp),
            timestamp: record.timestamp,
            kind: RecordKind::Event,
            verdict: record.verdict.name(),
            id: None,
            event: None,
            effective: None,
            decided: None,
            amount: None,
            from_partition: None,
            data: None,
            expected_offset: None,
        }
    }

    /// It was refused: not accepted, and not in doubt.
    pub fn is_refused(&self) -> bool {
        ![Verdict::Ok, Verdict::InDoubt].map(Verdict::name).contains(&self.verdict)
    }

    fn with_content(self, content: Content<'_>, mail: Option<u16>) -> Self {
        match content {
            Content::Event { event, resolved } => {
                let resolved = resolved.map(Resolved::from_bytes);
                self.of_event(Event::from_bytes(event).ok(), resolved.as_ref(), mail)
            }
            Content::Opaque { id, expected_offset, data } => Self {
                kind: RecordKind::Opaque,
                id: Some(uuid_text(id)),
                data: Some(BASE64.encode(data)),
                expected_offset: expected_offset.map(|offset| Digits(offset.0)),
                ..self
            },
        }
    }

    fn scaled(self, scales: &Scales) -> Self {
        Self {
            event: self.event.map(|event| event.scaled(scales)),
            effective: self.effective.map(|effective| effective.scaled(scales)),
            ..self
        }
    }

    fn of_event(
        self,
        event: Option<Event>,
        resolved: Option<&Resolved>,
        mail: Option<u16>,
    ) -> Self {
        let effective = resolved.map(ShownEffect::from);
        let Some(event) = event else { return Self { effective, ..self } };
        match &event {
            Event::Expire(expire) => Self {
                kind: RecordKind::Expiry,
                id: Some(uuid_text(expire.pending_id.0)),
                effective,
                ..self
            },
            Event::Mail(mail) => {
                Self { kind: RecordKind::Mail, from_partition: Some(mail.home.0), ..self }
            }
            Event::Word(word) | Event::Arrival(Arrival { sent: Sent::Word(word), .. }) => {
                self.of_word(word, mail)
            }
            Event::Arrival(arrival) => {
                let sent = match arrival.sent {
                    Sent::Transfer(transfer) => Event::Transfer(transfer),
                    Sent::Guard(guard) => Event::Guard(guard),
                    Sent::Account(account) => Event::Account(account),
                    Sent::Close(close) => Event::Close(close),
                    Sent::Word(word) => Event::Word(word),
                };
                let kind = RecordKind::Arrival;
                Self { kind, effective, from_partition: mail, ..self }.with(&sent)
            }
            sent => Self { effective, ..self }.with(sent),
        }
    }

    fn of_word(self, word: &Word, mail: Option<u16>) -> Self {
        Self {
            kind: RecordKind::Word,
            id: Some(word.id.0).filter(|&id| id != 0).map(uuid_text),
            decided: Some(word.verdict.name()),
            amount: Some(Digits(word.amount.0)),
            from_partition: mail,
            ..self
        }
    }

    /// With an event that clients send. An expiry that spans partitions arrives as a voiding without an id.
    fn with(self, event: &Event) -> Self {
        let id = match event {
            Event::Transfer(transfer) => transfer.id.0,
            Event::Account(account) => account.id.0,
            Event::Guard(guard) => guard.id.0,
            Event::Close(close) => close.id.0,
            Event::Name(name) => name.id.0,
            Event::Describe(describe) => describe.id.0,
            _ => 0,
        };
        let id = Some(id).filter(|&id| id != 0).map(uuid_text);
        Self { id, event: ShownEvent::of(event), ..self }
    }
}
