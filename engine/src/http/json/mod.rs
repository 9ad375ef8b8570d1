//! The API's forms in JSON. Numbers of 64 and 128 bits are text, since readers of JSON lose digits past 2^53.

mod given;
mod kind;
mod naming;
mod object;
mod record;
mod shown;
mod text;

pub use given::{GivenAccount, GivenEvent, GivenTransfer};
pub use naming::{GivenText, ShownLedger};
pub use object::{Object, bounded_objects};
pub use record::{Record, records};
pub use shown::{Names, ShownAccount, ShownDecision, ShownOutcome};
pub use text::{
    AccountText, AnyText, Digits, EventText, OneId, Whole, bounded, rfc3339, uuid_text,
};
