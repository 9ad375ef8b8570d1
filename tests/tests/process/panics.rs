//! A panic in any thread ends the process. The fault: the thread was gone, the port listened on, and
//! clients waited for ever. This test starts itself again as the process that panics.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser as _;
use openraft::AsyncRuntime as _;
use walengine::cli::Arguments;
use walengine::executor::on_executor;
use walengine_replication::runtime::{LocalRuntime, within};
use walengine_replication::runtime_glommio::GlommioRuntime;
use walengine_tests::server::TestDir;

const PATIENCE: Duration = Duration::from_mins(1);
const KIND: &str = "WALENGINE_TEST_PANIC_KIND";
const DATA: &str = "WALENGINE_TEST_PANIC_DATA";

#[test]
fn a_panic_in_any_thread_ends_the_process_with_its_own_code_and_line() {
    if let Ok(kind) = std::env::var(KIND) {
        panic_as(&kind);
        panic!("the process outlived a panic");
    }
    let dir = TestDir::new("panics");
    for kind in ["command", "thread", "executor", "openraft"] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "--nocapture", "--test-threads", "1"]);
        child.arg(
            "process::panics::a_panic_in_any_thread_ends_the_process_with_its_own_code_and_line",
        );
        child.env(KIND, kind).env(DATA, dir.path().join(kind));
        let output = child.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(16), "{kind}: {said}");
        let line = said.lines().find(|line| line.contains("panicked")).unwrap();
        assert!(line.starts_with("walengine: ") && line.contains("on purpose"), "{kind}: {line}");
    }
}

/// Runs the program in this process, and panics beside it or in it.
fn panic_as(kind: &str) {
    if kind == "command" {
        let _ = walengine::cli::run(Arguments::parse_from(["walengine", "dump", "nothing.seg"]));
        panic!("on purpose");
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let data = PathBuf::from(std::env::var_os(DATA).unwrap());
    let serve = move || {
        let data = data.to_string_lossy().into_owned();
        let address = address.to_string();
        let arguments = ["walengine", "--data", &data, "--listen", &address, "--cores", "1"];
        let sizes = ["--segment-mib", "8", "--reserve-mib", "16"];
        walengine::cli::run(Arguments::parse_from(arguments.into_iter().chain(sizes)))
    };
    std::thread::spawn(serve);
    let by = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < by, "it does not serve");
        std::thread::sleep(Duration::from_millis(20));
    }
    let panicking = async { panic!("on purpose") };
    let thread = match kind {
        "thread" => std::thread::spawn(|| panic!("on purpose")),
        "executor" => std::thread::spawn(move || on_executor(panicking).unwrap()),
        // openraft catches a panic of its tasks and tells it as an error.
        "openraft" => std::thread::spawn(move || {
            let task = async { LocalRuntime::spawn(panicking).await.is_ok() };
            on_executor(within(GlommioRuntime::new(), task)).unwrap();
        }),
        other => unreachable!("{other}"),
    };
    let _ = thread.join();
}
