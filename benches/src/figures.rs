//! Results of a part of the benchmark: figures by name, targets, and the file that holds them.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{During, Result};
use crate::stats::Spread;
use crate::targets::{self, Target};

/// Figures by name, and targets.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Name and value in each round, of latencies, rates, ratios and so on.
    pub figures: Vec<(String, Vec<f64>)>,
    /// What must be reached, beside what was.
    pub targets: Vec<Target>,
}

impl Figures {
    /// Keeps a figure with its value in each round, and prints median, least and greatest.
    pub fn figure(&mut self, name: &str, values: Vec<f64>) -> Spread {
        let spread = Spread::of(values.iter().copied());
        let [median, min, max] = [spread.median, spread.min, spread.max].map(targets::figure);
        println!("{name:<74} {median:>11} [{min} - {max}]");
        self.figures.push((name.to_owned(), values));
        spread
    }

    /// Keeps a target; `reached` is `None` if it was not measured.
    pub fn target(
        &mut self,
        what: &str,
        wanted: f64,
        at_most: bool,
        reached: Option<Spread>,
        from: &str,
    ) {
        let reached = reached.map(|spread| (spread.median, spread.min, spread.max));
        let (what, from) = (what.to_owned(), from.to_owned());
        self.targets.push(Target { what, wanted, reached, at_most, from });
    }

    /// Prints the targets, and writes everything to a file in `out` whose name begins with `name`.
    pub fn finish(&self, out: &Path, name: &str) -> Result<()> {
        println!("\nMust reach");
        for target in &self.targets {
            println!("{}", target.to_line());
        }
        std::fs::create_dir_all(out).during("creating the directory for results")?;
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let path = out.join(format!("{name}-{at}.json"));
        let json = serde_json::to_string_pretty(self).during("writing results")?;
        std::fs::write(&path, json).during("writing results")?;
        println!("\nresults: {}", path.display());
        Ok(())
    }
}
