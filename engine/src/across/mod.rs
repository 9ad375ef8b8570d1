//! Transfers between partitions: couriers, which bring what one partition has prepared to the one that has the last
//! word, and the words back. ACROSS.md beside this file has the argument; the rules are in [`crate::ledger`].

mod courier;
mod letter;
mod prepared;
pub mod ties;

pub use courier::run as run_courier;
pub use letter::{Forward, Letter, Letters, NoForward, Undelivered, send, take, take_letters};
pub use prepared::Prepared;
