//! Log lines of a program: as text for people or as JSON for programs, from a level on, to standard error.

use std::io;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::streams::{JsonLines, LogLines};

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One line each, for people.
    #[default]
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// The least important lines that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogLevel {
    /// A person must act.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What the program does.
    #[default]
    Info,
    /// For developers.
    Debug,
    /// For developers, very much of it.
    Trace,
}

impl LogLevel {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// Has log lines written to standard error from now on. Of `quiet` targets only errors are written, unless the
/// level is one for developers.
///
/// # Panics
/// If it was called before in this process.
pub fn begin_log(format: LogFormat, level: LogLevel, quiet: &[&'static str]) {
    let level = level.filter();
    let quiet_level = if level > LevelFilter::INFO { level } else { LevelFilter::ERROR };
    let said = Targets::new()
        .with_default(level)
        .with_targets(quiet.iter().map(|target| (*target, quiet_level)));
    let lines = tracing_subscriber::fmt().with_target(false).with_max_level(level);
    match format {
        LogFormat::Text => lines.with_writer(|| LogLines).finish().with(said).init(),
        LogFormat::Json => json(lines, || JsonLines).with(said).init(),
    }
}

type Builder = tracing_subscriber::fmt::SubscriberBuilder<
    tracing_subscriber::fmt::format::DefaultFields,
    tracing_subscriber::fmt::format::Format,
    LevelFilter,
>;

/// The fields of an event stand beside time and level, not in an object of their own.
fn json<W: io::Write + 'static>(
    lines: Builder,
    writer: impl Fn() -> W + Send + Sync + 'static,
) -> impl tracing::Subscriber + Send + Sync + for<'a> tracing_subscriber::registry::LookupSpan<'a> {
    lines.json().flatten_event(true).with_span_list(false).with_writer(writer).finish()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_json_line_has_time_level_message_and_fields_side_by_side() {
        let kept = Kept::default();
        let writer = kept.clone();
        let lines = tracing_subscriber::fmt().with_target(false).with_max_level(LevelFilter::INFO);
        let subscriber = json(lines, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(partition = 3, "serving \"here\"");
            tracing::debug!("not said");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        for part in [
            r#"{"timestamp":""#,
            r#""level":"INFO""#,
            r#""message":"serving \"here\"""#,
            r#""partition":3"#,
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn levels_are_in_order() {
        use LogLevel::{Debug, Error, Info, Trace, Warn};
        let all = [Error, Warn, Info, Debug, Trace].map(LogLevel::filter);
        assert!(all.is_sorted());
    }
}
