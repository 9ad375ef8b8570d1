//! Who is there: nodes find each other, tell what they are, notice who is gone, and form a cluster.
//!
//! SWIM (the crate foca) over UDP datagrams, sans I/O: [`Gossip`] takes datagrams and time and
//! gives out datagrams and events. It lives on the control core. It proposes and never decides:
//! which nodes a Raft group has is the group's affair (`crate::membership`). With a key nothing is
//! believed that was not made with it; whatever comes, there is a count and no panic, and memory
//! stays within the limits of [`limits`]. Bytes and rules: GOSSIP.md beside this file.

mod agent;
mod bytes;
mod counters;
mod envelope;
mod forming;
mod forming_message;
mod identity;
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
pub use counters::Counters;
pub use forming_message::RefusedBecause;
pub use meta::{MetaError, NodeMeta};
pub use output::{Output, Settings, Standing, Warning};
pub use promise::{Founding, FoundingMember, Promise, PromiseError, PromiseState};
pub use view::{NodeStanding, NodeView};
