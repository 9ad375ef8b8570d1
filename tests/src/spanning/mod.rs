//! Several simulated clusters, one for each partition, between whose nodes couriers carry what spans them
//! while everything fails; and a model of one ledger over all of them, which says what must come of it.

mod chains;
mod lone;
mod model;
mod post;
mod run;
mod writer;

pub use lone::{Lived, run_lone};
pub use run::{Ran, run, run_with};
