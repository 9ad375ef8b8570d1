//! Redis Streams: `XADD` of 128 bytes with `appendfsync always`.

use std::process::{Command, Stdio};

use super::{
    PeerReport, PeersArguments, Running, find, free_port, output, path_text, wait_for_port,
};
use crate::error::{During, Result, failed};
use crate::server::Scratch;

/// Number of clients, and of requests altogether.
const LOADS: [(usize, usize); 2] = [(1, 10_000), (64, 300_000)];

pub fn measure(arguments: &PeersArguments) -> Result<Vec<PeerReport>> {
    let name = "Redis Streams, XADD, appendfsync always";
    let (Some(server), Some(benchmark)) = (find("redis-server"), find("redis-benchmark")) else {
        return Ok(PeerReport::absent(name, "redis-server redis-tools", "redis-server"));
    };
    let scratch = Scratch::create(&arguments.dir, "redis")?;
    let port = free_port()?;
    let child = Command::new(server)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
        .arg(path_text(&scratch.0))
        .stdout(Stdio::null())
        .spawn()
        .during("starting redis-server")?;
    let _running = Running(child);
    wait_for_port(port, "redis-server")?;
    let data = "x".repeat(128);
    let mut reports = Vec::new();
    for (clients, requests) in LOADS {
        let output = output(
            Command::new(&benchmark)
                .args(["-p", &port.to_string(), "-c", &clients.to_string()])
                .args(["-n", &requests.to_string(), "--csv", "XADD", "s", "*", "d", &data]),
            "running redis-benchmark",
        )?;
        let text = String::from_utf8_lossy(&output.stdout);
        let Some((rate, p50, p99, max)) = text.lines().rev().find_map(parse) else {
            return failed("redis-benchmark's answer is not as expected");
        };
        reports.push(PeerReport {
            name: format!("Redis Streams, XADD, {clients} in flight"),
            not_run: None,
            events_per_second: rate,
            p50_micros: p50 * 1000.0,
            p99_micros: p99 * 1000.0,
            max_micros: max * 1000.0,
        });
    }
    Ok(reports)
}

/// Rate and p50, p99, max in milliseconds, from `"test","rps","avg","min","p50","p95","p99","max"`.
fn parse(line: &str) -> Option<(f64, f64, f64, f64)> {
    let fields: Vec<f64> = line
        .rsplitn(8, ',')
        .take(7)
        .map(|field| field.trim().trim_matches('"').parse())
        .collect::<std::result::Result<_, _>>()
        .ok()?;
    match fields[..] {
        [max, p99, _p95, p50, _min, _avg, rate] => Some((rate, p50, p99, max)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_the_csv_is_understood() {
        let line = "\"XADD s * d x,y\",\"5000.00\",\"1.0\",\"0.5\",\"0.9\",\"2.0\",\"3.0\",\"4.0\"";
        assert_eq!(parse(line), Some((5000.0, 0.9, 3.0, 4.0)));
        assert_eq!(parse("\"test\",\"rps\",\"avg\",\"min\",\"p50\",\"p95\",\"p99\",\"max\""), None);
    }
}
