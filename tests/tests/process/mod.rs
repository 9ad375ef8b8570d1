//! Does the process end when it must, go on when it can, and keep what is its own?

mod clock;
mod cores;
mod descriptors;
mod disk;
mod memory;
mod output;
mod panics;
mod private;
