//! Whole nodes gossip on a simulated network, with virtual time and disks that lose unsaved data.

mod forming;
mod health;
mod hostile;
mod sim;
