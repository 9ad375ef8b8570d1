//! Streams that can't be written: a full disk (`/dev/full`), a pipe without a reader, a pipe that
//! nobody empties. The fault: the first line that met one ended server and projector with 101.

use std::fs::File;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use walengine_net::message::Submit;
use walengine_net::model::PartitionId;
use walengine_tests::noted_writes::{Writer, accounts_of};
use walengine_tests::server::{Launch, TestDir, binary, run_command};
use walengine_tests::wire::Wire;

const PATIENCE: Duration = Duration::from_mins(1);
/// What a pipe of Linux holds, and more.
const MORE_THAN_A_PIPE: usize = 128 << 10;

fn full_disk() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

fn pipe_without_reader() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// A port that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn server(dir: &TestDir, address: SocketAddr, name: &str, stderr: Stdio) -> Child {
    let data = dir.path().join(name);
    let mut command = Command::new(binary());
    command.args(["--cores", "1", "--segment-mib", "8", "--reserve-mib", "16", "--data"]);
    command.arg(data).args(["--listen", &address.to_string()]);
    command.stdin(Stdio::null()).stdout(full_disk()).stderr(stderr);
    command.spawn().unwrap()
}

/// Serves, takes a write, and stops as it should.
fn serves_and_stops(mut child: Child, address: SocketAddr, what: &str) {
    let by = Instant::now() + PATIENCE;
    let mut wire = loop {
        if let Ok(wire) = Wire::greeted(address, 0) {
            break wire;
        }
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "{what}: the server ended with {ended:?}");
        assert!(Instant::now() < by, "{what}: it does not serve");
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut writer = Writer::new(0x5eed_0011, &accounts_of(PartitionId(0), 1));
    let reply = wire.call(&Submit { events: &[writer.transfer().to_bytes()] }).unwrap();
    assert_eq!(reply.error(), None, "{what}");
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < by, "{what}: it does not stop");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(child.wait().unwrap().code(), Some(0), "{what}");
}

#[test]
fn a_server_that_cant_write_its_log_lines_serves_and_stops() {
    let dir = TestDir::new("mute");
    for (name, stderr) in [("full", full_disk()), ("gone", pipe_without_reader())] {
        let address = free_address();
        serves_and_stops(server(&dir, address, name, stderr), address, name);
    }
    // A reader that sleeps must not make a shard wait.
    let (reader, mut writer) = std::io::pipe().unwrap();
    let filled = writer.try_clone().unwrap();
    let filler = std::thread::spawn(move || writer.write_all(&vec![b'x'; MORE_THAN_A_PIPE]));
    let address = free_address();
    serves_and_stops(server(&dir, address, "sleeping", filled.into()), address, "sleeping");
    drop(reader);
    assert!(filler.join().unwrap().is_err(), "the pipe was full all the time");
}

#[test]
fn a_command_whose_output_cant_be_written_says_so_by_its_exit_code() {
    let dir = TestDir::new("unwritten");
    let mut server = Launch::new(dir.path()).serve();
    let sample = dir.path().join("bank.csv");
    let arguments = ["sample", "--accounts", "10", "--transfers", "100", "--seed", "3"];
    std::fs::write(&sample, run_command(None, dir.path(), &arguments).stdout).unwrap();
    let asking: [&[&str]; 7] = [
        &["status"],
        &["accounts"],
        &["log"],
        &["cluster"],
        &["cluster", "--format", "json"],
        &["import", "bank.csv", "--create-accounts"],
        &arguments,
    ];
    for arguments in asking {
        check_unwritten(&dir, arguments, &server.address().to_string());
    }
    server.stop();
    let segment = "data/p0000/segments/00000001.seg";
    let offline: [&[&str]; 3] = [
        &["verify", "data"],
        &["dump", segment],
        &["format", "--cores", "1", "--segment-mib", "8", "--data", "new"],
    ];
    for arguments in offline {
        check_unwritten(&dir, arguments, "127.0.0.1:1");
        let _ = std::fs::remove_dir_all(dir.path().join("new"));
    }
}

fn check_unwritten(dir: &TestDir, arguments: &[&str], address: &str) {
    let run = |stdout: Stdio, stderr: Stdio| {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(dir.path()).env("WALENGINE_SERVER", address);
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        let _ = std::fs::remove_dir_all(dir.path().join("new"));
        let _ = std::fs::remove_file(dir.path().join("bank.refused.csv"));
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // Rows of the sample are refused on purpose: what the work found comes before what became of its
    // report.
    let codes: &[i32] = if arguments[0] == "import" { &[1, 11] } else { &[11] };
    let (code, said) = run(full_disk(), Stdio::piped());
    assert!(codes.contains(&code.unwrap_or(-1)), "{arguments:?}: {code:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
    let (code, _) = run(full_disk(), full_disk());
    assert!(codes.contains(&code.unwrap_or(-1)), "{arguments:?}, mute: {code:?}");
    // As `| head` leaves it: quietly.
    let (code, said) = run(pipe_without_reader(), Stdio::piped());
    if arguments[0] != "import" {
        assert_eq!((code, said.as_str()), (Some(141), ""), "{arguments:?}");
    }
    assert!(!said.contains("panicked"), "{said}");
}
