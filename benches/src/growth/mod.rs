//! Whether rate, CPU and memory stay as they are while the history grows: one server, one core, one
//! connection, millions of transfers in steps; then restarts, old ids sent again, and repeats among new
//! ones. Figures never fail a run, wrong answers do.

mod arguments;
mod ending;
mod look;
mod plot;
mod report;
mod sender;
mod transfers;

use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub use self::arguments::GrowthArguments;
use self::arguments::Plan;
use self::ending::Ending;
use self::look::{Look, client_of};
use self::report::{HEADING, Line, Lines, Step};
use self::sender::{History, Sending, stream};
use self::transfers::IdOrder;
use crate::error::{During, Result, failed};
use crate::interrupt::InterruptWatch;
use crate::limits::FILL_BATCH;
use crate::run::wait_for_quiet;
use crate::server::{Program, Scratch, Server};
use crate::stats::{Latencies, ratio};
use crate::system;

/// Measures and prints.
pub fn command(arguments: &GrowthArguments) -> Result<()> {
    let plan = arguments.plan()?;
    let place = &arguments.place;
    let program = Program::find(place.server.as_deref())?;
    std::fs::create_dir_all(&place.dir).during("creating --dir")?;
    require_room(arguments)?;
    std::fs::create_dir_all(&place.out).during("creating the directory for results")?;
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut lines = Lines::create(report::path(&place.out, at, "jsonl"))?;
    let watch = InterruptWatch::begin(&[&place.dir])?;
    let mut steps = Vec::new();
    for order in arguments.orders() {
        let measured = measure(arguments, &program, order, &plan, &mut lines);
        steps.extend(watch.settle(measured)?);
    }
    println!("\nresults: {}", lines.path.display());
    if let Some(svg) = plot::to_svg(&steps)? {
        let path = report::path(&place.out, at, "svg");
        std::fs::write(&path, svg).during(&format!("writing {}", path.display()))?;
        println!("plot:    {}", path.display());
    }
    Ok(())
}

/// Stops before anything is written if the disk is too small. The orders of ids have it one after the
/// other.
fn require_room(arguments: &GrowthArguments) -> Result<()> {
    let dir: &Path = &arguments.place.dir;
    let (wanted, free) = (arguments.disk_bytes(), system::free_bytes_of(dir)?);
    if free >= wanted {
        return Ok(());
    }
    failed(format!(
        "{} transfers take about {} of disk, and {} has {} free. Nothing was started. Choose another \
         place with --dir, or fewer --transfers",
        arguments.transfers,
        gibibytes(wanted),
        dir.display(),
        gibibytes(free),
    ))
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", ratio(bytes, 1 << 30))
}

fn measure(
    arguments: &GrowthArguments,
    program: &Program,
    order: IdOrder,
    plan: &Plan,
    lines: &mut Lines,
) -> Result<Vec<Step>> {
    println!("\n## {} ids\n\n{HEADING}", order.name());
    // Declared before the server, which so ends before its directory is removed.
    let scratch = Scratch::create(&arguments.place.dir, order.name())?;
    let server = program.start(&scratch.0.join("data"), 1)?;
    let sending = Sending::prepare(server.address, order, arguments.accounts)?;
    wait_for_quiet(&server.data)?;
    let mut history = History::default();
    let steps = grow(arguments, &server, order, plan, &sending, &mut history, lines)?;
    print!("\n{}", report::growth(&steps, plan));
    let ending = Ending { arguments, program, order, sending, history, lines };
    ending.run(server)?;
    Ok(steps)
}

/// Sends all transfers, and takes a look at the end of each step. Batches are in flight meanwhile, so
/// that no step begins or ends with an idle server.
fn grow(
    arguments: &GrowthArguments,
    server: &Server,
    order: IdOrder,
    plan: &Plan,
    sending: &Sending,
    history: &mut History,
    lines: &mut Lines,
) -> Result<Vec<Step>> {
    let client = client_of(server)?;
    let mut steps: Vec<Step> = Vec::new();
    let (mut sent, mut latencies, mut begun) = (0, Latencies::new(), Instant::now());
    let mut before = Look::at(server, &client)?;
    let mut before_answers = 0;
    let next = |history: &mut History| {
        sent += 1;
        Ok((sent <= plan.batches()).then(|| history.fresh()))
    };
    let mut sender = sending.connect(server.address)?;
    stream(&mut sender, history, arguments.inflight.into(), next, |answered, answers| {
        latencies.record(answered.nanos);
        if answers < plan.batches_until(steps.len()) {
            return Ok(());
        }
        let look = Look::at(server, &client)?;
        let transfers = (answers - before_answers) * FILL_BATCH as u64;
        let seconds = (answered.at - begun).as_secs_f64();
        let percentiles = latencies.percentiles();
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let step = Step {
            ids: order,
            transfers: answers * FILL_BATCH as u64,
            seconds,
            transfers_per_second: transfers as f64 / seconds,
            cpu_micros_per_transfer: ratio(look.cpu_micros - before.cpu_micros, transfers),
            p50_micros: percentiles.p50,
            p99_micros: percentiles.p99,
            look: look.clone(),
        };
        println!("{}", step.to_row());
        lines.add(&Line::Step(step.clone()))?;
        steps.push(step);
        (before, before_answers, begun) = (look, answers, answered.at);
        latencies = Latencies::new();
        Ok(())
    })?;
    Ok(steps)
}
