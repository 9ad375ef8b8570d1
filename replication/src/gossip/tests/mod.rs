//! Gossip of whole nodes on a simulated network, with virtual time and disks that lose what was not
//! saved.

mod forming;
mod health;
mod hostile;
mod sim;
