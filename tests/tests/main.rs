//! Integration tests; each module is named after the question that it answers.
#![forbid(unsafe_code)]

mod crash;
mod damage;
mod kill;
mod sick_disk;
