//! Nodes find each other, describe themselves, detect failed nodes, and form a cluster.
//!
//! SWIM (the crate foca) over UDP datagrams, sans I/O: [`Gossip`] takes datagrams and time, and
//! returns datagrams and events. It lives on the control core. It proposes and never decides: a
//! Raft group itself decides which nodes it has (`crate::membership`). With a key, datagrams
//! are sealed, and only those that were sealed with it are believed. Bad datagrams are counted; none causes a panic, and memory
//! stays within [`limits`]. Bytes and rules: GOSSIP.md beside this file.

mod agent;
mod bytes;
mod condition;
mod counters;
mod envelope;
mod forming;
mod forming_message;
mod identity;
mod keys;
pub mod limits;
mod meta;
mod output;
mod promise;
mod scan;
mod senders;
mod spread;
mod swim;
#[cfg(test)]
mod tests;
mod view;

pub use agent::Gossip;
pub use condition::{NodeCondition, OwnCondition};
pub use counters::Counters;
pub use forming_message::RefusedBecause;
pub use keys::{GossipKeys, KeysError};
pub use meta::{MetaError, NodeMeta};
pub use output::{Output, Settings, Standing, Warning};
pub use promise::{Founding, FoundingMember, Promise, PromiseError, PromiseState};
pub use view::{NodeStanding, NodeView};
