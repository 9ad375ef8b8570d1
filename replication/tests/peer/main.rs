//! Do all messages between replicas arrive unchanged, and is everything else refused?

#[path = "../golden/frames.rs"]
mod frames;

mod damage;
mod golden;
mod limits;
mod memory;
mod random;
mod refusals;
mod round_trip;
mod support;
