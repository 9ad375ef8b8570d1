//! What a part of the benchmark has measured: figures by name, what must be reached, and their file.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{During, Result};
use crate::stats::Spread;
use crate::targets::{self, Target};

/// Everything that was measured, by name, and the targets.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Latencies, rates, ratios and so on: name and value of each round.
    pub figures: Vec<(String, Vec<f64>)>,
    /// What must be reached, and what was.
    pub targets: Vec<Target>,
}

impl Figures {
    /// Keeps a figure of each round, and prints its median with the least and the greatest.
    pub fn figure(&mut self, name: &str, values: Vec<f64>) -> Spread {
        let spread = Spread::of(values.iter().copied());
        let [median, min, max] = [spread.median, spread.min, spread.max].map(targets::figure);
        println!("{name:<74} {median:>11} [{min} - {max}]");
        self.figures.push((name.to_owned(), values));
        spread
    }

    /// Keeps what must be reached; `None`: it was not measured.
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

    /// Prints the targets, and writes all of it to a file in `out` whose name begins with `name`.
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
