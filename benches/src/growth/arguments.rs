//! Arguments of the growth measurement.

use super::transfers::IdOrder;
use crate::arguments::PlaceArguments;
use crate::error::{Result, failed};
use crate::limits::FILL_BATCH;

/// Parts that are compared: the first after the warm-up, and the last.
pub const PARTS: usize = 10;
/// Transfers after which the server's caches, files and tables are as they stay.
const WARM_UP: u64 = 2_000_000;
/// What a transfer takes on disk: its record and its share of the entry's header.
const LOG_BYTES: u64 = 130;
/// What an id takes there, with its next merge under way.
const RUN_BYTES: u64 = 2 * 14;
/// Segments that are allocated ahead, the reserve and snapshots.
const BESIDE_BYTES: u64 = 1 << 30;
/// What an account takes there: its record, and its part of two snapshots.
const ACCOUNT_BYTES: u64 = 600;

/// Extent of the measurement.
#[derive(Clone, Debug, clap::Args)]
pub struct GrowthArguments {
    /// Directory, server and results
    #[command(flatten)]
    pub place: PlaceArguments,

    /// Transfers to send, in batches of 8,190; 300M and 300_000_000 are the same. Short by default;
    /// what the product promises shows at 300M
    #[arg(long, value_name = "N", default_value = "3M", value_parser = count)]
    pub transfers: u64,

    /// Parts to measure the transfers in
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub steps: usize,

    /// Accounts
    #[arg(long, value_name = "N", default_value = "10k", value_parser = accounts)]
    pub accounts: u32,

    /// Batches in flight on the connection
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub inflight: u16,

    /// How ids follow each other; each order has a server of its own [default: both, one after the
    /// other]
    #[arg(long, value_enum, value_name = "ORDER")]
    pub ids: Option<IdOrder>,

    /// Restarts of each kind at the end: after SIGTERM, and after kill -9 under load
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub restarts: usize,

    /// Batches before each restart
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub restart_batches: u64,

    /// Batches of old ids at the end
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub old_batches: usize,

    /// Pairs of rounds at the end: one with 1 % repeats, one without
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub pairs: usize,

    /// Batches in each of those rounds
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..))]
    pub pair_batches: u64,
}

/// The steps of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    batches: u64,
    /// Number of steps.
    pub steps: usize,
    /// Steps of the warm-up, which are not compared.
    pub warm_up: usize,
    /// Steps of each of the two parts that are compared.
    pub part: usize,
}

impl Plan {
    /// All batches.
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// Batches up to the end of a step.
    pub fn batches_until(&self, step: usize) -> u64 {
        let share = u128::from(self.batches) * (step as u128 + 1) / self.steps as u128;
        share as u64
    }
}

impl GrowthArguments {
    /// The orders of ids to measure.
    pub fn orders(&self) -> Vec<IdOrder> {
        self.ids.map_or_else(|| vec![IdOrder::Random, IdOrder::Ordered], |order| vec![order])
    }

    /// How the transfers fall into steps.
    pub fn plan(&self) -> Result<Plan> {
        let batches = self.transfers.div_ceil(FILL_BATCH as u64);
        if self.steps < 3 || self.steps as u64 > batches {
            return failed(format!(
                "--steps must be from 3 to {batches}, the number of batches of {FILL_BATCH} in \
                 --transfers {}",
                self.transfers
            ));
        }
        let (steps, part) = (self.steps, (self.steps / PARTS).max(1));
        let warm = WARM_UP.saturating_mul(steps as u64).div_ceil(self.transfers);
        let warm_up = usize::try_from(warm).unwrap_or(usize::MAX).min(part);
        Ok(Plan { batches, steps, warm_up, part })
    }

    /// What the data of one server comes to, about.
    pub fn disk_bytes(&self) -> u64 {
        let batches = (2 * self.restarts as u64).saturating_mul(self.restart_batches);
        let in_pairs = (2 * self.pairs as u64).saturating_mul(self.pair_batches);
        let at_end = batches.saturating_add(in_pairs).saturating_mul(FILL_BATCH as u64);
        let transfers = self.transfers.saturating_add(at_end);
        transfers
            .saturating_mul(LOG_BYTES + RUN_BYTES)
            .saturating_add(u64::from(self.accounts) * ACCOUNT_BYTES)
            .saturating_add(BESIDE_BYTES)
    }
}

/// A number such as 3000000, 3_000_000, 3,000,000, 3M or 10k.
fn count(text: &str) -> std::result::Result<u64, String> {
    let plain: String = text.chars().filter(|char| !matches!(char, '_' | ',')).collect();
    let (digits, unit) = match plain.char_indices().last() {
        Some((at, 'k' | 'K')) => (&plain[..at], 1_000),
        Some((at, 'm' | 'M')) => (&plain[..at], 1_000_000),
        _ => (&plain[..], 1),
    };
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    match number {
        Some(number) if number > 0 => Ok(number),
        _ => Err("it is a number from 1 on, such as 3000000, 3_000_000 or 3M".into()),
    }
}

fn accounts(text: &str) -> std::result::Result<u32, String> {
    let number = count(text)?;
    let number = u32::try_from(number).ok().filter(|number| *number >= 2);
    number.ok_or_else(|| format!("there are from 2 to {} accounts", u32::MAX))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        growth: GrowthArguments,
    }

    pub fn parsed(line: &str) -> std::result::Result<GrowthArguments, String> {
        let words = std::iter::once("growth").chain(line.split_whitespace());
        let line = <Line as clap::Parser>::try_parse_from(words);
        line.map(|line| line.growth).map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_have_units() {
        for same in ["300M", "300m", "300000000", "300_000_000", "300,000,000", "300000k"] {
            assert_eq!(count(same), Ok(300_000_000), "{same}");
        }
        for wrong in ["", "M", "0", "-1", "3G", "1.5M", "99999999999999999999", "9999999999999999M"]
        {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_typo_is_told_with_what_was_meant() {
        for (typo, meant) in [
            ("--transfer 3M", "'--transfers'"),
            ("--ids randon", "'random'"),
            ("--transfers 3G", "3_000_000 or 3M"),
            ("--accounts 1", "from 2 to"),
            ("--inflight 0", "1..=64"),
        ] {
            let told = parsed(typo).unwrap_err();
            assert!(told.contains(meant), "{typo}: {told}");
        }
    }

    #[test]
    fn the_first_part_is_behind_the_warm_up() {
        let plan = |line| parsed(line).unwrap().plan();
        let usual = plan("").unwrap();
        assert_eq!(usual, Plan { batches: 367, steps: 30, warm_up: 3, part: 3 });
        let long = plan("--transfers 300M").unwrap();
        assert_eq!((long.warm_up, long.part), (1, 3));
        let short = plan("--transfers 30k --steps 3").unwrap();
        assert_eq!((short.warm_up, short.part), (1, 1));
        assert_eq!([0, 1, 2].map(|step| short.batches_until(step)), [1, 2, 4]);
        assert!(plan("--transfers 30k").is_err() && plan("--steps 2").is_err());
    }
}
