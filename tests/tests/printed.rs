//! Does anything that is printed or logged hold control characters from outside? A terminal would obey them.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::thread;

use walengine_net::frame::{self, Frame, FrameHead, Kind};
use walengine_net::message::{
    ClusterStatusReply, ErrorCode, ErrorReply, GroupRow, HelloReply, Message, NO_PARTITION,
    NodeRow, NumberRow, ServerStatusReply, TextRow,
};
use walengine_tests::server::{Launch, TestDir, run_command, text};

/// Clears a terminal and names its window, in both ways to say so, and begins a line of its own.
const EVIL: &str = "evil\u{1b}[2J\u{9b}31m\u{7}\u{7f}\r\nwalengine: all is well\u{202e}";

/// A server that says nothing but [`EVIL`] wherever it says a text.
fn evil_server(refuses: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || serve(stream.unwrap(), refuses));
        }
    });
    address
}

fn serve(mut stream: TcpStream, refuses: bool) {
    let mut received = Vec::new();
    loop {
        while let Some(frame) = frame::peek(&received).unwrap() {
            let (answer, bytes) = (answer(&frame, refuses), frame.frame_bytes());
            received.drain(..bytes);
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(read) => received.extend_from_slice(&piece[..read]),
        }
    }
}

fn answer(asked: &Frame<'_>, refuses: bool) -> Vec<u8> {
    let head = FrameHead::reply(asked.head.partition, asked.head.request);
    match asked.kind {
        Kind::Hello => {
            let hello = HelloReply {
                cluster: 7,
                node: 1,
                next_offset: 0,
                durable_offset: 0,
                partitions: 1,
                is_leader: 1,
                body_bytes_max: 1 << 20,
                events_max: 8190,
                inflight_max: 1024,
                server_version: EVIL,
                leader: "",
            };
            encoded(head, &hello)
        }
        Kind::ServerStatus if !refuses => {
            let numbers = [NumberRow { partition: NO_PARTITION, value: 7, name: EVIL }];
            let texts = [
                TextRow { partition: 0, name: "state", text: EVIL },
                TextRow { partition: NO_PARTITION, name: "version", text: EVIL },
                TextRow { partition: NO_PARTITION, name: "trouble_evil", text: EVIL },
            ];
            encoded(head, &ServerStatusReply { numbers: &numbers, texts: &texts })
        }
        Kind::ClusterStatus if !refuses => {
            let node = NodeRow {
                node: 1,
                state: 0,
                cores: 1,
                free_bytes: 7,
                heard_seconds: 7,
                client_address: EVIL,
                peer_address: EVIL,
                version: EVIL,
            };
            let group =
                GroupRow { partition: 0, leader: 1, term: 1, committed_offset: 0, is_changing: 0 };
            let (nodes, groups, replicas) = (&[node], &[group], &[]);
            encoded(head, &ClusterStatusReply { cluster: 7, node: 1, nodes, groups, replicas })
        }
        _ => encoded(head, &ErrorReply::new(ErrorCode::Malformed, EVIL)),
    }
}

fn encoded<M: Message>(head: FrameHead, message: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, head, message).unwrap();
    bytes
}

/// Nothing in it is obeyed, and its lines are the program's own.
fn is_plain(what: &str, said: &str) {
    let obeyed = |one: char| one.is_control() && one != '\n' || one == '\u{202e}';
    assert_eq!(said.find(obeyed), None, "{what}: {said:?}");
    let forged = said.lines().any(|line| line.starts_with("walengine: all is well"));
    assert!(!forged, "{what}: {said}");
}

/// What was printed, which has the evil text in it, made harmless.
fn is_harmless(what: &str, output: &Output) {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    is_plain(what, &stderr);
    is_plain(what, &stdout);
    let said = stdout + &stderr;
    let shown =
        said.contains("evil\\u{1b}[2J\\u{9b}31m") || said.contains("evil\\u001b[2J\\u009b31m");
    assert!(shown, "{what} does not show it: {said}");
}

#[test]
fn what_a_server_says_is_no_order_to_the_terminal() {
    let dir = TestDir::new("printed-server");
    let run = |address: SocketAddr, arguments: &[&str]| {
        let address = address.to_string();
        let all = [arguments, &["--server", &address]].concat();
        is_harmless(&all.join(" "), &run_command(None, dir.path(), &all));
    };
    let talks = evil_server(false);
    for format in ["text", "json", "csv"] {
        run(talks, &["status", "--format", format]);
        run(talks, &["cluster", "--format", format]);
    }
    run(evil_server(true), &["status"]);
    run(evil_server(true), &["account", "7"]);
}

#[test]
fn what_stands_in_a_file_or_is_its_name_is_no_order_to_the_terminal() {
    let dir = TestDir::new("printed-file");
    let name = EVIL.replace('\n', "");
    let path = dir.path().join(&name);
    fs::write(&path, format!("id,debit,credit,amount\n1,{EVIL},2,3\n")).unwrap();
    let output = run_command(None, dir.path(), &["import", &name]);
    assert_ne!(output.status.code(), Some(0));
    is_plain("import", &text(&output));
    let output = run_command(None, dir.path(), &["verify", &name]);
    assert_ne!(output.status.code(), Some(0));
    is_harmless("verify", &output);
    // A server's log, and its trail of orders.
    let mut server = Launch::new(dir.path()).data(&dir.path().join(format!("{name}-data"))).serve();
    let log = server.log();
    assert!(log.contains("\\u{9b}31m"), "{log:?}");
    is_plain("a server's log", &log);
    server.stop();
}
