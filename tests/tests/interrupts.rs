//! Does a command that takes long end at once when it is told to, whatever it waits for, and does it say
//! how far it came?

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use walengine_tests::server::{Launch, Server, TestDir, binary, run_command};

const H: &str = "id,debit_account,credit_account,amount,ledger,code";
/// Nobody listens there.
const NOBODY: &str = "127.0.0.1:1";
/// Exit code of [`walengine_net::cli::Reason::Interrupted`].
const INTERRUPTED: i32 = 130;
/// How long what is waited for may take on a machine with other work. It takes a second.
const PATIENCE: Duration = Duration::from_secs(30);

fn wait_for<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let by = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < by, "{what} does not come about");
        thread::sleep(Duration::from_millis(2));
    }
}

fn signal(child: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.to_string()]).status();
    assert!(status.unwrap().success());
}

/// A command that runs. Killed when it is dropped.
struct Running(Option<Child>);

impl Running {
    fn start(dir: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(dir).env_remove("WALENGINE_SERVER");
        command.env("TMPDIR", dir);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(Some(pipes.spawn().unwrap()))
    }

    fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    fn stdin(&mut self) -> ChildStdin {
        self.0.as_mut().unwrap().stdin.take().unwrap()
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.id())).unwrap_or_default()
    }

    /// Whether it has a file open whose path contains this.
    fn has_open(&self, what: &str) -> Option<()> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.id())).ok()?;
        let mut paths = open.flatten().filter_map(|one| fs::read_link(one.path()).ok());
        paths.any(|path| path.to_string_lossy().contains(what)).then_some(())
    }

    /// Whether the thread that works is there: from then on signals are waited for.
    fn works(&self) -> Option<()> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id())).ok()?;
        let mut names =
            tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.any(|name| name.trim() == "command").then_some(())
    }

    fn output(mut self) -> Output {
        let mut child = self.0.take().unwrap();
        let by = Instant::now() + PATIENCE;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > by {
                child.kill().unwrap();
                panic!("it does not end: {:?}", child.wait_with_output());
            }
            thread::sleep(Duration::from_millis(2));
        }
        child.wait_with_output().unwrap()
    }

    /// Ends it with a signal. What it says.
    fn interrupt(self, name: &str) -> String {
        signal(self.id(), name);
        let output = self.output();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(INTERRUPTED), "{name}: {said}");
        assert!(said.contains("interrupted") && said.lines().count() == 1, "{name}: {said}");
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill(); // fails if it has ended
        }
    }
}

#[test]
fn an_import_ends_while_it_reads_whatever_it_reads() {
    let dir = TestDir::new("interrupts-reading");
    let packed = {
        let mut rows = GzEncoder::new(Vec::new(), Compression::fast());
        let row = format!("{},a,b,1,1,1\n", "x".repeat(64));
        rows.write_all(row.repeat(20_000).as_bytes()).unwrap();
        rows.finish().unwrap()
    };
    let mut header = GzEncoder::new(Vec::new(), Compression::fast());
    header.write_all(format!("{H}\n").as_bytes()).unwrap();
    let huge = [header.finish().unwrap(), packed.repeat(4_000)].concat(); // 6 GB of rows
    fs::write(dir.path().join("huge.csv.gz"), huge).unwrap();
    let made = Command::new("mkfifo").arg(dir.path().join("fifo")).status().unwrap();
    assert!(made.success());
    for name in ["INT", "TERM", "HUP"] {
        // Standard input that gives nothing: a copy of it was begun.
        let import = Running::start(dir.path(), &["import", "-", "--server", NOBODY]);
        wait_for("the copy", || import.has_open("walengine-import-"));
        let said = import.interrupt(name);
        assert!(said.contains("nothing was sent"), "{said}");

        // The check of a file, which is long from its end: behind it nobody answers.
        let import = Running::start(dir.path(), &["import", "huge.csv.gz", "--server", NOBODY]);
        wait_for("the check", || {
            let read = import.proc("io").lines().next()?.strip_prefix("rchar: ")?.parse::<u64>();
            (read.ok()? > 600_000).then_some(())
        });
        import.interrupt(name);
    }
    // A pipe that nobody has opened for writing.
    let import = Running::start(dir.path(), &["import", "fifo", "--server", NOBODY]);
    wait_for("the work", || import.works());
    import.interrupt("INT");
    let left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .flatten()
        .filter(|one| one.file_name().to_string_lossy().starts_with("walengine-import-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_is_set_to_be_ignored_is_ignored() {
    let dir = TestDir::new("interrupts-nohup");
    let mut server = Launch::new(dir.path()).serve();
    let address = server.address().to_string();
    let script = format!(
        "trap '' HUP INT; exec {} import - --create-accounts --server {address}",
        binary().display()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(dir.path());
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut import = Running(Some(pipes.spawn().unwrap()));
    wait_for("the copy", || import.has_open("walengine-import-"));
    signal(import.id(), "HUP");
    signal(import.id(), "INT");
    import.stdin().write_all(format!("{H}\n1,a,b,5,1,1\n").as_bytes()).unwrap();
    let output = import.output();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    server.stop();
}

/// Records in the log of the only partition.
fn records(server: &Server) -> u64 {
    let client = server.client();
    let partition = client.info().partitions().next().unwrap();
    client.list_accounts(partition, None, 1, &[]).unwrap().next_offset.0
}

#[test]
fn commands_end_while_a_server_is_stopped_and_go_on_when_they_are_run_again() {
    const ROWS: u64 = 400_000;
    let dir = TestDir::new("interrupts-stopped");
    let mut server = Launch::new(dir.path()).set("--partitions", "1").serve();
    let address = server.address().to_string();
    let mut text = format!("{H}\n");
    for row in 0..ROWS {
        writeln!(text, "{row},a,b,1,1,1").unwrap();
    }
    fs::write(dir.path().join("in.csv"), text).unwrap();
    let import =
        ["import", "in.csv", "--create-accounts", "--timeout", "600", "--server", &address];

    // While rows are sent.
    let running = Running::start(dir.path(), &import);
    wait_for("the first rows", || (records(&server) > 2).then_some(()));
    signal(server.process_id(), "STOP");
    let said = running.interrupt("INT");
    assert!(said.contains("rows are imported") && said.contains("safe"), "{said}");
    // While it connects: the kernel takes the connection, and nobody answers.
    for name in ["TERM", "HUP"] {
        let running = Running::start(dir.path(), &import);
        wait_for("the connection", || running.has_open("socket:"));
        let said = running.interrupt(name);
        assert!(said.contains("nothing was sent"), "{said}");
    }
    signal(server.process_id(), "CONT");
    let again = run_command(None, dir.path(), &import);
    assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(records(&server), ROWS + 4, "and two accounts with their names");

    // Exports and backups wait for servers, too. A file that is not whole does not stay.
    let export = ["export", "out.walexport", "--timeout", "600", "--server", &address];
    let running = Running::start(dir.path(), &export);
    let file = dir.path().join("out.walexport");
    wait_for("the file", || file.exists().then_some(()));
    signal(server.process_id(), "STOP");
    running.interrupt("INT");
    assert!(!file.exists());
    let backup = ["backup", "backup", "--timeout", "600", "--server", &address];
    let running = Running::start(dir.path(), &backup);
    wait_for("the connection", || running.has_open("socket:"));
    running.interrupt("HUP");
    signal(server.process_id(), "CONT");
    let exported = run_command(None, dir.path(), &export);
    assert_eq!(exported.status.code(), Some(0), "{}", String::from_utf8_lossy(&exported.stderr));

    // So does the import of an export.
    signal(server.process_id(), "STOP");
    let import = ["import", "out.walexport", "--timeout", "600", "--server", &address];
    let running = Running::start(dir.path(), &import);
    wait_for("the connection", || running.has_open("socket:"));
    let said = running.interrupt("TERM");
    assert!(said.contains("what was imported stays"), "{said}");
    signal(server.process_id(), "CONT");
    server.stop();
}

/// A command on a terminal of its own.
struct Terminal {
    child: Running,
    keys: ChildStdin,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    fn start(dir: &Path, arguments: &str) -> Self {
        let line = format!("{} {arguments}", binary().display());
        let mut script = Command::new("script");
        script.args(["-q", "-e", "-c", &line, "/dev/null"]).current_dir(dir);
        let pipes = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = pipes.spawn().unwrap();
        let (keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let shown = Arc::new(Mutex::new(String::new()));
        let all = shown.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                all.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        });
        Self { child: Running(Some(child)), keys, shown }
    }

    /// Presses keys once there is a question. The exit code, and all that was shown.
    fn answer(mut self, keys: &[u8]) -> (Option<i32>, String) {
        wait_for("the question", || {
            self.shown.lock().unwrap().contains("Create them there? [y/N]").then_some(())
        });
        self.keys.write_all(keys).unwrap();
        let code = self.child.output().status.code();
        let shown = self.shown.lock().unwrap().clone();
        (code, shown)
    }
}

#[test]
fn a_terminal_is_asked_about_a_ledger_in_doubt_and_ctrl_c_is_an_answer() {
    let dir = TestDir::new("interrupts-question");
    let mut server = Launch::new(dir.path()).set("--partitions", "1").serve();
    // Whether a is on ledger 1 or 2 can't be told.
    fs::write(dir.path().join("in.csv"), format!("{H}\n1,a,b,10,1,1\n2,a,c,10,2,1\n")).unwrap();
    let asked = || {
        let line = format!("import in.csv --create-accounts --server {}", server.address());
        Terminal::start(dir.path(), &line)
    };
    for (keys, code, said) in [
        (&b"n\n"[..], 11, "nothing was sent"),
        (b"\n", 11, "nothing was sent"),
        (b"\x04", 11, "nothing was sent"), // the end of the input
        (b"\x03", INTERRUPTED, "interrupted; nothing was sent"), // Ctrl-C
    ] {
        let (found, shown) = asked().answer(keys);
        assert_eq!(found, Some(code), "{keys:?}: {shown}");
        assert!(shown.contains(said), "{keys:?}: {shown}");
        assert_eq!(records(&server), 0, "{keys:?}: {shown}");
    }
    let (found, shown) = asked().answer(b"y\n");
    assert!(matches!(found, Some(0 | 1)), "{found:?}: {shown}");
    assert!(records(&server) > 0, "{shown}");
    server.stop();
}
