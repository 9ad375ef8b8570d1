//! The progress bar on a terminal: how far, how fast, how much longer.

use std::io::IsTerminal as _;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};

use crate::fatal::Fatal;
use crate::limits::{DRAW_INTERVAL, SHOWN_LAG_RECORDS_MIN};
use crate::metrics::PartitionMetrics;

/// A bar over all partitions.
pub struct ProjectorProgress {
    title: &'static str,
    shows_small_lag: bool,
}

impl ProjectorProgress {
    /// For a projector; drawn only while it is far behind.
    pub fn catch_up() -> Self {
        Self { title: "catching up", shows_small_lag: false }
    }

    /// For a task with an end; always drawn.
    pub fn task(title: &'static str) -> Self {
        Self { title, shows_small_lag: true }
    }

    /// Draws until it is dropped. Does nothing if stderr is not a terminal.
    pub async fn follow(self, partitions: Vec<Arc<PartitionMetrics>>) -> Result<(), Fatal> {
        if !std::io::stderr().is_terminal() {
            return std::future::pending().await;
        }
        let mut bar: Option<ProgressBar> = None;
        loop {
            tokio::time::sleep(DRAW_INTERVAL).await;
            let sum = |of: fn(&PartitionMetrics) -> u64| partitions.iter().map(|one| of(one)).sum();
            let (done, end): (u64, u64) =
                (sum(PartitionMetrics::next_offset), sum(PartitionMetrics::log_end));
            let is_far = self.shows_small_lag || end.saturating_sub(done) > SHOWN_LAG_RECORDS_MIN;
            match &bar {
                None if is_far => bar = Some(new_bar(self.title, done, end)),
                Some(drawn) if done >= end => {
                    drawn.finish_and_clear();
                    bar = None;
                }
                Some(drawn) => {
                    drawn.set_length(end);
                    drawn.set_position(done);
                }
                None => {}
            }
        }
    }
}

fn new_bar(title: &'static str, done: u64, end: u64) -> ProgressBar {
    let bar = ProgressBar::new(end).with_position(done).with_message(title);
    bar.reset_eta();
    let template = "{msg} {bar:32} {human_pos}/{human_len} records, {per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
