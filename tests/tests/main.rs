//! Integration tests; each module is named after the question that it answers.
#![forbid(unsafe_code)]

mod archive;
mod berka;
mod cluster;
mod commands;
mod crash;
mod damage;
mod divergence;
mod export;
mod feed;
mod hostile;
mod input;
mod join;
mod kill;
mod missing;
mod planted;
mod power;
mod process;
mod projector_audit;
mod projector_bank;
mod projector_dependents;
mod projector_kill;
mod projector_rebuild;
mod projector_trouble;
mod raft_runtime;
mod raft_storage;
mod replicas;
mod room;
mod scripts;
mod serve;
mod session;
mod sick_disk;
mod tidy;
mod truncate;
mod upgrade;
