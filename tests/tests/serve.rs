//! Does the program start, stop, refuse and go on as it says?

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use walengine_net::frame::Kind;
use walengine_net::message::{ErrorCode, LookupAccounts, LookupAccountsReply, NO_OFFSET, Submit};
use walengine_net::model::PartitionId;
use walengine_tests::crash_witness::Witness;
use walengine_tests::loop_disk::LoopDisk;
use walengine_tests::noted_writes::{Told, Writer, accounts_of, write_until_broken};
use walengine_tests::server::{Launch, Server, TestDir, binary};
use walengine_tests::sim::Rng;
use walengine_tests::wire::Wire;

use crate::kill::{create_accounts, launch, load};

const BLOCK_BYTES: usize = 4096;
const PATIENCE: Duration = Duration::from_mins(1);

/// The one line that it ended with, after checking the exit code.
fn refusal(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("walengine: ")).collect();
    assert_eq!(lines.len(), 1, "one line says why: {said}");
    assert!(!said.contains("panicked"), "{said}");
    lines[0].to_owned()
}

fn stop_cleanly(server: &mut Server) {
    server.stop();
}

#[test]
fn a_server_that_others_reach_needs_certificates_or_a_word_of_its_operator() {
    let dir = TestDir::new("reachable");
    let launch = || Launch::new(dir.path()).set("--cores", "1");
    for (flag, address) in [
        ("--listen", "0.0.0.0:0"),
        ("--listen", "[::]:0"),
        ("--listen", "192.0.2.1:7450"),
        ("--peer-listen", "0.0.0.0:0"),
    ] {
        let said = refusal(&launch().set(flag, address).set("--advertise", "localhost").fails(), 2);
        assert!(said.contains(flag) && said.contains("--tls DIR"), "{said}");
        assert!(!dir.path().join("superblock").exists(), "nothing is made before");
    }
    let server = launch().set("--listen", "0.0.0.0:0").set("--insecure", "true").serve();
    assert!(server.log().contains("may read and move money"), "{}", server.log());
}

#[test]
fn a_stop_answers_all_that_it_took_and_forgets_the_rest() {
    let seed = 0x5eed_0003;
    println!("seed {seed:#x}");
    let mut rng = Rng::new(seed);
    let dir = TestDir::new("stop");
    let launch = launch(dir.path());
    let mut witness = Witness::new(2);
    let mut server = launch.serve();
    let mut told = create_accounts(&server, 2);
    for _ in 0..10 {
        told.extend(load(&mut server, &mut rng, stop_cleanly));
        server = launch.serve();
        witness.check(&server, &told);
        told.clear();
    }
    println!("{}", witness.summary());
    assert_eq!(witness.survived(), 0, "taken and not answered: {}", witness.summary());
    server.stop();
}

/// The fault: a snapshot that a stop cut short counted as taken, and the next start replayed
/// everything after the one before it. Here that is more than 5 MiB, at which a stop takes another.
#[test]
fn a_stop_in_a_snapshot_leaves_little_to_replay() {
    const BATCH: usize = 8190;
    /// Batches in 5 MiB: a batch is more than 1 MiB in the log.
    const LITTLE: usize = 5 * BATCH;
    let dir = TestDir::new("replay");
    let launch = Launch::new(dir.path()).set("--snapshot-mib", "40");
    let mut server = launch.serve();
    create_accounts(&server, 1);
    let mut writer = Writer::new(0x5eed_0005, &accounts_of(PartitionId(0), 1));
    let mut wire = server.wire(0);
    let begins = |name: &str| {
        let snapshots = dir.path().join("data/p0000/snapshots");
        let mut names = fs::read_dir(snapshots).unwrap().map(|entry| entry.unwrap().file_name());
        names.any(|found| found.to_string_lossy().ends_with(name))
    };
    let by = Instant::now() + PATIENCE;
    while !begins(".new") {
        assert!(Instant::now() < by, "no snapshot begins");
        let events: Vec<_> = (0..BATCH).map(|_| writer.transfer().to_bytes()).collect();
        let reply = wire.call(&Submit { events: &events }).unwrap();
        assert_eq!(reply.error(), None);
    }
    server.stop();
    assert!(!begins(".new"), "it came to its end");
    server = launch.serve();
    let log = server.log();
    let replayed =
        log.split(" records replayed").next().and_then(|said| said.split(' ').next_back());
    let replayed: usize = replayed.unwrap().parse().unwrap();
    assert!(replayed <= LITTLE, "{log}");
    server.stop();
}

#[test]
fn a_second_server_is_told_who_has_the_directory_or_the_port() {
    let dir = TestDir::new("second");
    let mut first = Launch::new(dir.path()).serve();
    let port = first.address().port().to_string();

    let said = refusal(&Launch::new(dir.path()).fails(), 4);
    assert!(said.contains("in use by process"), "{said}");

    let elsewhere = Launch::new(dir.path()).data(&dir.path().join("other"));
    let said = refusal(&elsewhere.set("--listen", &first.address().to_string()).fails(), 8);
    assert!(said.contains(&port) && said.contains("another process has it"), "{said}");

    // An address of documentation, which no machine has.
    let reachable =
        |launch: Launch| launch.set("--listen", "192.0.2.1:7450").set("--insecure", "true");
    let said = refusal(&reachable(Launch::new(dir.path())).fails(), 4);
    assert!(said.contains("in use"), "the directory comes first: {said}");
    let elsewhere = Launch::new(dir.path()).data(&dir.path().join("other"));
    let said = refusal(&reachable(elsewhere).fails(), 8);
    assert!(said.contains("no such address"), "{said}");

    assert!(first.client().server_status(PartitionId(0)).is_ok(), "the first is unharmed");
    first.stop();
}

/// Changes a copy of the superblock, and corrects its checksum if `seals`.
fn change_superblock(data: &Path, copy: usize, seals: bool, change: impl FnOnce(&mut [u8])) {
    let path = data.join("superblock");
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let (mut block, at) = (vec![0; BLOCK_BYTES], (copy * BLOCK_BYTES) as u64);
    file.read_exact_at(&mut block, at).unwrap();
    change(&mut block);
    if seals {
        let crc = crc32c::crc32c(&block[8..]);
        block[4..8].copy_from_slice(&crc.to_le_bytes());
    }
    file.write_all_at(&block, at).unwrap();
}

#[test]
fn a_directory_of_another_version_is_refused_with_both_versions() {
    let dir = TestDir::new("version");
    let launch = Launch::new(dir.path());
    launch.serve().stop();
    for copy in 0..2 {
        change_superblock(&dir.path().join("data"), copy, true, |block| block[8] = 7);
    }
    let said = refusal(&launch.fails(), 5);
    assert!(said.contains("format version 7") && said.contains("reads version 1"), "{said}");
}

#[test]
fn one_damaged_superblock_is_survived_and_two_are_not() {
    let dir = TestDir::new("superblock");
    let launch = Launch::new(dir.path());
    launch.serve().stop();
    let data = dir.path().join("data");
    change_superblock(&data, 0, false, |block| block[40] ^= 1);
    launch.serve().stop();
    change_superblock(&data, 1, false, |block| block[40] ^= 1);
    let said = refusal(&launch.fails(), 6);
    assert!(said.contains("superblock") && said.contains("nothing was changed"), "{said}");
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    let dir = TestDir::new("foreign");
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("holiday.jpg"), b"precious").unwrap();
    let said = refusal(&Launch::new(dir.path()).fails(), 5);
    assert!(said.contains("holds holiday.jpg"), "{said}");
    let left: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [data.join("holiday.jpg")], "nothing was added");
}

/// Older kernels refuse direct I/O on tmpfs: there the message names the fix.
#[test]
fn a_file_system_without_direct_io_is_refused_with_a_fix() {
    use std::os::unix::fs::OpenOptionsExt;
    let dir = TestDir::new("tmpfs");
    let data = Path::new("/dev/shm").join(format!("walengine-{}", std::process::id()));
    fs::create_dir(&data).unwrap();
    let probe = data.join("probe");
    let takes_it = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_DIRECT)
        .open(&probe)
        .is_ok();
    fs::remove_file(&probe).unwrap();
    let launch = Launch::new(dir.path()).data(&data);
    if takes_it {
        launch.serve().stop();
    } else {
        let said = refusal(&launch.fails(), 3);
        assert!(said.contains("direct I/O") && said.contains("ext4 or XFS"), "{said}");
    }
    fs::remove_dir_all(&data).unwrap();
}

/// Sends a fresh transfer until the server answers it as `wanted`.
fn transfer_until(
    server: &Server,
    wire: &mut Wire,
    writer: &mut Writer,
    wanted: Option<ErrorCode>,
) {
    let by = Instant::now() + PATIENCE;
    loop {
        let events = [writer.transfer().to_bytes()];
        let reply = wire.call(&Submit { events: &events }).unwrap();
        if reply.error() == wanted {
            return;
        }
        assert!(Instant::now() < by, "{:?}, not {wanted:?}:\n{}", reply.error(), server.log());
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_nearly_full_disk_refuses_writes_serves_reads_and_recovers_by_itself() {
    let dir = TestDir::new("nearly-full");
    let disk = LoopDisk::new(dir.path(), 300);
    let data = disk.path().join("data");
    let launch = Launch::new(dir.path()).data(&data).set("--reserve-mib", "64");
    let mut server = launch.serve();
    let told = create_accounts(&server, 1);
    let accounts = accounts_of(PartitionId(0), 1);
    let mut writer = Writer::new(1, &accounts);
    let mut wire = server.wire(0);
    transfer_until(&server, &mut wire, &mut writer, None);

    disk.fill(32 << 20);
    transfer_until(&server, &mut wire, &mut writer, Some(ErrorCode::StorageFull));
    let ids: Vec<u128> = accounts.iter().map(|account| account.id.0).collect();
    let reply = wire.call(&LookupAccounts { at_least: NO_OFFSET, ids: &ids }).unwrap();
    let found = reply.open::<LookupAccountsReply<'_>>().accounts().count();
    assert_eq!(found, accounts.len(), "reads go on");

    disk.make_room();
    transfer_until(&server, &mut wire, &mut writer, None);
    server.stop();
    drop(server);
    let mut server = launch.serve();
    let mut witness = Witness::new(1);
    witness.check(&server, &told);
    witness.check_all(&server);
    server.stop();
}

#[test]
fn a_full_disk_under_load_loses_nothing() {
    let seed = 0x5eed_0004;
    let dir = TestDir::new("full");
    let disk = LoopDisk::new(dir.path(), 160);
    let data = disk.path().join("data");
    let launch =
        Launch::new(dir.path()).data(&data).set("--reserve-mib", "0").set("--snapshot-mib", "1");
    let mut server = launch.serve();
    let mut witness = Witness::new(1);
    let mut told = create_accounts(&server, 1);
    let accounts = accounts_of(PartitionId(0), 1);
    let address = server.address();
    for round in 0..2 {
        let ended: Vec<Told> = thread::scope(|scope| {
            // Each client ends when it is refused: the disk is full.
            let clients: Vec<_> = (0..4)
                .map(|number| {
                    let writer = Writer::new(seed + round * 10 + number, &accounts);
                    scope
                        .spawn(move || write_until_broken(address, PartitionId(0), writer, || true))
                })
                .collect();
            disk.fill(0);
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        told.extend(ended);
        let mut wire = server.wire(0);
        let ids = [accounts[0].id.0];
        let reply = wire.call(&LookupAccounts { at_least: NO_OFFSET, ids: &ids }).unwrap();
        assert_eq!(reply.kind, Kind::LookupAccountsReply, "reads go on");
        disk.make_room();
        let mut writer = Writer::new(seed + 100 + round, &accounts);
        transfer_until(&server, &mut wire, &mut writer, None);
    }
    disk.fill(0);
    server.kill();
    disk.make_room();
    server = launch.serve();
    witness.check(&server, &told);
    witness.check_all(&server);
    println!("{}", witness.summary());
    server.stop();
}

fn format(dir: &Path, configure: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(binary());
    command.arg("format").args(["--cores", "1", "--segment-mib", "8", "--reserve-mib", "16"]);
    command.arg("--data").arg(dir);
    configure(&mut command);
    command.output().unwrap()
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let dir = TestDir::new("settings");
    let file = dir.path().join("settings.toml");
    fs::write(&file, "partitions = 3\n").unwrap();
    let partitions = |name: &str, configure: &dyn Fn(&mut Command)| {
        let output = format(&dir.path().join(name), |command| {
            command.arg("--config").arg(&file);
            configure(command);
        });
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let (before, _) = said.split_once(" partitions").unwrap();
        before.rsplit(' ').next().unwrap().parse::<u16>().unwrap()
    };
    assert_eq!(partitions("file", &|_| {}), 3);
    let environment = |command: &mut Command| {
        command.env("WALENGINE_PARTITIONS", "4");
    };
    assert_eq!(partitions("environment", &environment), 4);
    let flag = |command: &mut Command| {
        command.env("WALENGINE_PARTITIONS", "4").args(["--partitions", "5"]);
    };
    assert_eq!(partitions("flag", &flag), 5);
}

#[test]
fn a_typo_is_one_line_with_what_was_meant() {
    let typos = [("--coers", "--cores"), ("statsu", "status"), ("--dta", "--data")];
    for (typo, meant) in typos {
        let output = Command::new(binary()).arg(typo).output().unwrap();
        let said = refusal(&output, 2);
        assert!(said.contains(typo) && said.contains(meant), "{said}");
        assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{said}");
    }
}

#[test]
fn a_mistake_in_the_settings_is_one_line_with_its_place() {
    let dir = TestDir::new("mistakes");
    let file = dir.path().join("settings.toml");
    fs::write(&file, "cores = 1\nsegmnt-mib = 3\n").unwrap();
    let configure = |command: &mut Command| {
        command.arg("--config").arg(&file);
    };
    let said = refusal(&format(&dir.path().join("data"), configure), 2);
    assert!(said.contains("line 2") && said.contains("segmnt-mib"), "{said}");

    let missing = |command: &mut Command| {
        command.args(["--config", "/nowhere/settings.toml"]);
    };
    let said = refusal(&format(&dir.path().join("data"), missing), 11);
    assert!(said.contains("/nowhere/settings.toml"), "{said}");

    let output = Launch::new(dir.path()).set("--segmnt-mib", "8").fails();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("'--segment-mib'"), "it suggests the right one: {said}");
    assert!(!dir.path().join("data").exists(), "nothing was made");
}
