//! Conditions that end the program, each with its own exit code: the list of all programs.

pub use walengine_net::cli::{Fatal, Reason};
