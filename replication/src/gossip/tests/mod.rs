//! Gossip of whole nodes on a simulated network, with virtual time and disks that lose what was not
//! saved.

mod health;
mod sim;
