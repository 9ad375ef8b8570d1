//! Does everything that replicas say arrive as it was said, and nothing else arrive at all?

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
