//! etcd: puts of 128 bytes through its HTTP gateway, over connections that stay open.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{PeerReport, PeersArguments, Running, find, free_port, path_text, wait_for_port};
use crate::error::{During, Failed, Result, failed};
use crate::server::Scratch;
use crate::stats::Latencies;

pub fn measure(arguments: &PeersArguments) -> Result<Vec<PeerReport>> {
    let Some(server) = find("etcd") else {
        return Ok(PeerReport::absent("etcd, put", "etcd-server", "etcd"));
    };
    let scratch = Scratch::create(&arguments.dir, "etcd")?;
    let (port, peer_port) = (free_port()?, free_port()?);
    let url = format!("http://127.0.0.1:{port}");
    let peers = format!("http://127.0.0.1:{peer_port}");
    let child = Command::new(server)
        .args(["--data-dir", &path_text(&scratch.0), "--listen-client-urls", &url])
        .args(["--advertise-client-urls", &url, "--listen-peer-urls", &peers])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .during("starting etcd")?;
    let _running = Running(child);
    wait_for_port(port, "etcd")?;
    wait_for_leader(port)?;
    let time = Duration::from_secs_f64(arguments.seconds);
    [1, 64].map(|clients| load(port, clients, time)).into_iter().collect()
}

fn wait_for_leader(port: u16) -> Result<()> {
    let since = Instant::now();
    while put_for(port, 0, Duration::ZERO).is_err() {
        if since.elapsed() > super::PATIENCE {
            return failed("etcd does not take puts");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn load(port: u16, clients: usize, time: Duration) -> Result<PeerReport> {
    let start = Instant::now();
    let latencies = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..clients).map(|client| scope.spawn(move || put_for(port, client, time))).collect();
        let mut all = Latencies::new();
        for thread in threads {
            all.add(&thread.join().map_err(|_| Failed("a client panicked".into()))??);
        }
        Ok::<_, Failed>(all)
    })?;
    let micros = latencies.percentiles();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let events_per_second = micros.count as f64 / start.elapsed().as_secs_f64();
    Ok(PeerReport {
        name: format!("etcd, put, {clients} in flight"),
        not_run: None,
        events_per_second,
        p50_micros: micros.p50,
        p99_micros: micros.p99,
        max_micros: micros.max,
    })
}

/// Puts one value after another, at least one.
fn put_for(port: u16, client: usize, time: Duration) -> Result<Latencies> {
    let what = "putting to etcd";
    let stream = TcpStream::connect(("127.0.0.1", port)).during(what)?;
    stream.set_nodelay(true).during(what)?;
    let mut reader = BufReader::new(stream.try_clone().during(what)?);
    let mut stream = stream;
    // Any multiple of four letters is valid base64.
    let value = "x".repeat(172);
    let mut latencies = Latencies::new();
    let until = Instant::now() + time;
    for number in 0_u64.. {
        let body = format!("{{\"key\":\"{client:08}{number:012}\",\"value\":\"{value}\"}}");
        let before = Instant::now();
        let request = format!(
            "POST /v3/kv/put HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).during(what)?;
        read_answer(&mut reader)?;
        latencies.record(before.elapsed().as_nanos() as u64);
        if Instant::now() >= until {
            break;
        }
    }
    Ok(latencies)
}

fn read_answer(reader: &mut BufReader<TcpStream>) -> Result<()> {
    let what = "reading etcd's answer";
    let mut line = String::new();
    reader.read_line(&mut line).during(what)?;
    if !line.contains(" 200 ") {
        return failed(format!("etcd answered {}", line.trim()));
    }
    let mut length = None;
    loop {
        line.clear();
        reader.read_line(&mut line).during(what)?;
        if line.trim().is_empty() {
            break;
        }
        let header = line.to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok();
        }
    }
    let Some(length) = length else { return failed("etcd's answer has no length") };
    let read = reader.take(length).read_to_end(&mut Vec::new()).during(what)?;
    if read as u64 == length { Ok(()) } else { failed("etcd closed the connection") }
}
