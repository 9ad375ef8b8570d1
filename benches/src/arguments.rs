//! Arguments that several parts of the benchmark have in common.

use std::path::PathBuf;

/// Where to work, what to measure, and where the results go.
#[derive(Clone, Debug, clap::Args)]
pub struct PlaceArguments {
    /// Directory on the disk to measure; what is written there is removed again. If root measures
    /// PostgreSQL, an unprivileged user must be able to reach it
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,

    /// The server to measure [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub server: Option<PathBuf>,

    /// Where JSON and plots go
    #[arg(long, value_name = "DIR", default_value = "bench-results")]
    pub out: PathBuf,
}

/// Whether `name` is among the cases that `--case` asks for.
pub fn wants(case: Option<&String>, name: &str) -> bool {
    case.is_none_or(|case| name.contains(case.as_str()))
}
