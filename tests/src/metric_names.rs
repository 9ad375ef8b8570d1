//! Names of metrics: those that rules and dashboard use, and those that a page has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What those of the projector begin with.
pub const PROJECTOR: &str = "walengine_projector_";

/// The rules that people are told by.
pub fn rules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../alerts.yaml")
}

/// The dashboard.
pub fn dashboard() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../grafana/walengine.json")
}

/// The metrics that a file names.
///
/// # Panics
/// If it can't be read.
pub fn used(file: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let words = text.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_'));
    // A word that ends so is a beginning, in a text for people.
    let words = words.filter(|word| word.starts_with("walengine_") && !word.ends_with('_'));
    words.map(str::to_owned).collect()
}

/// The names that samples of a page have or may have, by the types that it tells.
pub fn shown(page: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = types.filter_map(|line| line.split_once(' ')).flat_map(|(name, kind)| {
        let ends: &[&str] = match kind {
            // The older text format has the end in the name.
            "counter" if !name.ends_with("_total") => &["_total"],
            "histogram" => &["", "_bucket", "_sum", "_count"],
            "info" => &["_info"],
            _ => &[""],
        };
        ends.iter().map(move |end| format!("{name}{end}"))
    });
    names.collect()
}
