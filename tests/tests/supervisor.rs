//! Is a supervisor told that a node serves once it does, not before, and that it stops?

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use walengine_tests::server::{Launch, TestDir, run_command, text};

/// How long a message may take. Generous: the machine has other work.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a supervisor has been told next.
fn next(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    let read = socket.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..read].to_vec()).unwrap()
}

#[test]
fn a_supervisor_is_told_when_a_node_serves_and_when_it_stops() {
    let dir = TestDir::new("supervisor");
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let variable = format!("NOTIFY_SOCKET={}", path.display());

    // Alone it waits for nobody. What it is told names where it serves, and there it does.
    let mut server = Launch::new(dir.path()).through(&["env", &variable]).spawn();
    let told = next(&socket);
    let address = told.split_once("STATUS=Serving on ").map(|(_, address)| address.trim());
    assert!(told.contains("READY=1"), "{told}");
    let health = ["health", "--server", address.unwrap_or_else(|| panic!("{told}"))];
    let output = run_command(None, dir.path(), &health);
    assert!(output.status.success(), "{}", text(&output));
    server.signal_term();
    assert!(next(&socket).contains("STOPPING=1"));
    assert!(server.wait().success());

    // A node of a cluster that is not there yet is not ready, and says what it waits for.
    let waiting = Launch::new(&dir.path().join("waiting")).through(&["env", &variable]);
    std::fs::create_dir(dir.path().join("waiting")).unwrap();
    let waiting = waiting.set("--peer-listen", "127.0.0.1:0").set("--join", "127.0.0.1:9");
    let mut server = waiting.set("--expect", "2").spawn();
    let told = next(&socket);
    assert!(told.contains("STATUS=Waiting for 2 nodes") && !told.contains("READY"), "{told}");
    server.signal_term();
    assert!(server.wait().success());
    socket.set_nonblocking(true).unwrap();
    let mut bytes = [0; 4096];
    assert!(socket.recv(&mut bytes).is_err(), "{}", String::from_utf8_lossy(&bytes));
}
