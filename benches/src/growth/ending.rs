//! What is measured once the history is long: restarts, old ids sent again, and repeats among new ones.

use std::time::Instant;

use super::arguments::GrowthArguments;
use super::report::{Line, Lines, shown};
use super::sender::{History, Sender, Sending, stream};
use super::transfers::IdOrder;
use crate::error::Result;
use crate::limits::FILL_BATCH;
use crate::load::{self, Random};
use crate::server::{Program, Server};
use crate::stats::{Latencies, Spread, micros, ratio};
use crate::system;

/// One transfer in this many is a repeat in the rounds that have some.
const REPEAT_EVERY: usize = 100;

/// What the measurements need.
pub struct Ending<'a> {
    /// How many of each.
    pub arguments: &'a GrowthArguments,
    /// The server's.
    pub program: &'a Program,
    /// Order of the ids.
    pub order: IdOrder,
    /// How to connect.
    pub sending: Sending,
    /// What was answered so far.
    pub history: History,
    /// Where the results go.
    pub lines: &'a mut Lines,
}

impl Ending<'_> {
    /// Measures and prints all of it.
    pub fn run(mut self, mut server: Server) -> Result<()> {
        let mut random = Random::new(load::seed(1));
        for killed in [false, true] {
            let mut seconds = Vec::new();
            for _ in 0..self.arguments.restarts {
                let took;
                (server, took) = self.restart(server, killed, &mut random)?;
                seconds.push(took);
            }
            let count = seconds.len();
            let how = if killed { "kill -9 under load" } else { "SIGTERM" };
            if count > 0 {
                let shown = shown(Spread::of(seconds));
                println!(
                    "restart after {how}, until the first write is answered: {shown} s ({count})"
                );
            }
        }
        let mut sender = self.sending.connect(server.address)?;
        self.send_old(&mut sender, &mut random)?;
        self.send_pairs(&mut sender, &mut random)?;
        server.stop()
    }

    /// Restarts the server, and checks that it knows what it answered before. Returns how long it took
    /// until the first write was answered.
    fn restart(
        &mut self,
        server: Server,
        killed: bool,
        random: &mut Random,
    ) -> Result<(Server, f64)> {
        let (inflight, history) = (self.arguments.inflight, &mut self.history);
        let data = server.data.clone();
        let mut sender = self.sending.connect(server.address)?;
        for _ in 0..inflight {
            sender.send(history.fresh())?;
        }
        for _ in 0..self.arguments.restart_batches {
            sender.receive(history)?;
            sender.send(history.fresh())?;
        }
        if killed {
            server.kill()?;
        } else {
            while sender.in_flight() > 0 {
                sender.receive(history)?;
            }
            server.stop()?;
        }
        let mut unanswered = sender.unanswered().into_iter();
        let since = Instant::now();
        let server = self.program.start(&data, 1)?;
        let mut sender = self.sending.connect(server.address)?;
        let first = unanswered.next().unwrap_or_else(|| history.fresh());
        let seconds = (sender.exchange(first, history)?.at - since).as_secs_f64();
        for batch in unanswered {
            sender.exchange(batch, history)?;
        }
        sender.exchange(history.all_old(random)?, history)?;
        let resident_bytes = system::resident_bytes_of(server.pid())?;
        self.lines.add(&Line::Restart { ids: self.order, killed, seconds, resident_bytes })?;
        Ok((server, seconds))
    }

    /// Sends batches of old ids, one at a time.
    fn send_old(&mut self, sender: &mut Sender, random: &mut Random) -> Result<()> {
        let (mut latencies, mut batch_micros) = (Latencies::new(), Vec::new());
        for _ in 0..self.arguments.old_batches {
            let batch = self.history.all_old(random)?;
            let answered = sender.exchange(batch, &mut self.history)?;
            latencies.record(answered.nanos);
            batch_micros.push(micros(answered.nanos));
        }
        if !batch_micros.is_empty() {
            let of = latencies.percentiles();
            println!(
                "{FILL_BATCH} old ids in a batch, from the whole history: p50 {:.2} ms, p99 {:.2} ms, max \
                 {:.2} ms ({}); all with their first verdicts",
                of.p50 / 1e3,
                of.p99 / 1e3,
                of.max / 1e3,
                batch_micros.len(),
            );
        }
        self.lines.add(&Line::Old { ids: self.order, batch_micros })
    }

    /// Rounds with 1 % of repeats beside rounds without, in turn: which comes first changes, too.
    fn send_pairs(&mut self, sender: &mut Sender, random: &mut Random) -> Result<()> {
        let mut ratios = Vec::new();
        for pair in 0..self.arguments.pairs {
            let (fresh_per_second, repeats_per_second);
            if pair % 2 == 0 {
                fresh_per_second = self.rate(sender, None)?;
                repeats_per_second = self.rate(sender, Some(random))?;
            } else {
                repeats_per_second = self.rate(sender, Some(random))?;
                fresh_per_second = self.rate(sender, None)?;
            }
            let ids = self.order;
            self.lines.add(&Line::Pair { ids, repeats_per_second, fresh_per_second })?;
            ratios.push(repeats_per_second / fresh_per_second);
        }
        if !ratios.is_empty() {
            let (count, shown) = (ratios.len(), shown(Spread::of(ratios)));
            println!("rate with 1 % repeats over that without: {shown} ({count} pairs)");
        }
        Ok(())
    }

    /// Transfers a second of a round, with repeats if there is something to draw them by.
    fn rate(&mut self, sender: &mut Sender, mut repeats: Option<&mut Random>) -> Result<f64> {
        let (batches, mut sent) = (self.arguments.pair_batches, 0);
        let next = |history: &mut History| {
            sent += 1;
            if sent > batches {
                return Ok(None);
            }
            let batch = match &mut repeats {
                Some(random) => history.with_old(REPEAT_EVERY, random)?,
                None => history.fresh(),
            };
            Ok(Some(batch))
        };
        let inflight = self.arguments.inflight.into();
        let took = stream(sender, &mut self.history, inflight, next, |_, _| Ok(()))?;
        Ok(ratio(batches * FILL_BATCH as u64, 1) / took.as_secs_f64())
    }
}
