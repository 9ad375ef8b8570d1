//! The reason that ends a measurement: one line for a person.

use std::fmt;

/// Why a measurement could not be taken, or must not be trusted.
#[derive(Debug)]
pub struct Failed(pub String);

/// Result of a measurement.
pub type Result<T> = std::result::Result<T, Failed>;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Adds to an error what was being done.
pub trait During<T> {
    /// Turns the error into [`Failed`], with `what` in front.
    fn during(self, what: &str) -> Result<T>;
}

impl<T, E: fmt::Display> During<T> for std::result::Result<T, E> {
    fn during(self, what: &str) -> Result<T> {
        self.map_err(|error| Failed(format!("{what}: {error}")))
    }
}

/// An error with this message.
pub fn failed<T>(message: impl Into<String>) -> Result<T> {
    Err(Failed(message.into()))
}
