//! Times of a statement as a person gives them: what they mean depends on which time orders it.

use walengine_net::model::Timestamp;

use crate::business_time::business_micros;
use crate::cli::log_time::moment;
use crate::fatal::{Fatal, Reason};

/// Which time orders a statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// The log time: when it was decided.
    #[default]
    Log,
    /// The time of business that it came with; the log time where there is none.
    Booked,
}

/// A time, of one kind at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct When {
    log: Result<Timestamp, String>,
    business: Result<i64, String>,
}

impl When {
    /// As a person gives it.
    ///
    /// # Errors
    /// What to write instead.
    pub fn read(text: &str) -> Result<Self, String> {
        let log = moment(text);
        let business = match &log {
            Ok(ago) if text.starts_with('-') => Ok((ago.0 / 1000).cast_signed()),
            _ => business_micros(text),
        };
        match (log, business) {
            (Err(why), Err(_)) => Err(why),
            (log, business) => Ok(Self { log, business }),
        }
    }

    /// The log time.
    ///
    /// # Errors
    /// No log has such a time.
    pub fn of_log(&self) -> Result<Timestamp, Fatal> {
        self.log.clone().map_err(|why| Fatal::new(Reason::Usage, format!("no log time: {why}")))
    }

    /// The time of business, in microseconds since 1970.
    ///
    /// # Errors
    /// It is finer than those, or before the year 1000.
    pub fn of_business(&self) -> Result<i64, Fatal> {
        self.business.clone().map_err(|why| Fatal::new(Reason::Usage, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_means_what_orders_the_statement() {
        for both in ["2026-11-01", "2026-11-01T14:00:00+01:00", "-2h"] {
            let both = When::read(both).unwrap();
            let micros = both.of_log().unwrap().0 / 1000;
            assert_eq!(micros.cast_signed(), both.of_business().unwrap());
        }
        let early = When::read("1960-02-29").unwrap();
        assert_eq!(early.of_business().unwrap(), -310_521_600_000_000);
        assert_eq!(early.of_log().unwrap_err().reason, Reason::Usage);
        let fine = When::read("2026-11-01T00:00:00.0000001Z").unwrap();
        assert!(fine.of_log().is_ok());
        assert_eq!(fine.of_business().unwrap_err().reason, Reason::Usage);
        assert!(When::read("yesterday").is_err());
    }
}
