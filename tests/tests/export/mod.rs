//! Does an import of an export come to the same accounts, reservations, verdicts and records?

mod servers;
mod simulated;
