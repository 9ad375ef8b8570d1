//! Do the scripts do what their first lines say?

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use walengine_tests::credentials::Credentials;
use walengine_tests::server::{TestDir, binary, text};

/// How long a cluster may take to have leaders again.
const PATIENCE: Duration = Duration::from_mins(1);

/// `scripts/cluster.sh` on a directory of the test's own; nothing of it is left at the end.
struct Script {
    dir: TestDir,
}

/// A file of the workspace.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

impl Script {
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(file("scripts/cluster.sh"));
        command.args(arguments).env("WALENGINE_CLUSTER_DIR", self.cluster());
        command.env("WALENGINE_BINARY", binary()).env_remove("NODES").env_remove("WALENGINE_TLS");
        command.output().unwrap()
    }

    fn cluster(&self) -> PathBuf {
        self.dir.path().join("cluster")
    }

    /// What it says; it must succeed.
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}{error}");
        said
    }

    /// Its status once nothing is wrong: for a moment after its nodes are back a partition has no
    /// leader, and the exit code says so.
    fn status_when_well(&self) -> String {
        let by = Instant::now() + PATIENCE;
        loop {
            let output = self.run(&["status"]);
            if output.status.success() {
                return String::from_utf8_lossy(&output.stdout).into_owned();
            }
            assert!(Instant::now() < by, "{}", text(&output));
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if self.cluster().exists() {
            let _ = self.run(&["down"]); // the test may have failed before it came to that
        }
    }
}

#[test]
fn a_local_cluster_goes_up_loses_nodes_heals_and_goes_down() {
    let script = Script { dir: TestDir::new("cluster-script") };
    assert!(!script.run(&["status"]).status.success(), "there is no cluster yet");
    assert!(script.says(&["up"]).contains("3 nodes serve"));
    let said = script.status_when_well();
    assert_eq!(said.matches(": runs, process").count(), 3, "{said}");
    assert_eq!(said.matches(" alive ").count(), 3, "{said}");

    script.says(&["kill", "1"]);
    let said = script.status_when_well();
    assert!(said.contains("node 1 ") && said.contains("does not run"), "{said}");
    script.says(&["pause", "2"]);
    // Of three nodes one is dead and one is paused: nobody leads, and the script says so.
    let paused = script.run(&["status"]);
    assert!(String::from_utf8_lossy(&paused.stdout).contains(": paused, process"), "{paused:?}");
    script.says(&["heal"]);
    let said = script.status_when_well();
    assert_eq!(said.matches(": runs, process").count(), 3, "{said}");
    script.says(&["partition", "3"]);
    let said = script.status_when_well();
    assert!(said.lines().any(|line| line.starts_with("node 3") && line.contains(", cut off")));
    script.says(&["heal"]);
    // The cluster may still say for a moment that a leader was "cut off".
    assert!(!script.status_when_well().contains(", cut off"));

    for wrong in [&["kill"][..], &["kill", "4"], &["pause", "x"], &["melt"]] {
        assert!(!script.run(wrong).status.success(), "{wrong:?}");
    }
    script.says(&["down"]);
    assert!(!script.cluster().exists());
}

#[test]
fn a_secured_cluster_lets_in_only_who_has_a_certificate_of_its_own() {
    let script = Script { dir: TestDir::new("secured-script") };
    assert!(!script.run(&["up", "--sekure"]).status.success() && !script.cluster().exists());
    let said = script.says(&["up", "--secure"]);
    assert!(said.contains("3 nodes serve") && said.contains("certs/client-app"), "{said}");
    let servers = said.split_once("WALENGINE_SERVER=").unwrap().1.lines().next().unwrap();
    let credentials = Credentials::at(&script.cluster());
    let ask = |command: &str, tls: Option<&Path>| {
        let mut asking = Command::new(binary());
        asking.args([command, "--server", servers]).env_remove("WALENGINE_TLS");
        asking.args(tls.iter().flat_map(|dir| [Path::new("--tls"), dir]));
        let output = asking.output().unwrap();
        (output.status.success(), text(&output))
    };
    let (client, operator) = (credentials.of("client-app"), credentials.of("admin-operator"));
    let (is_in, said) = ask("accounts", Some(&client));
    assert!(is_in, "{said}");
    script.status_when_well();
    let (is_in, said) = ask("cluster", Some(&operator));
    assert!(is_in && said.matches(" alive ").count() == 3, "{said}");
    let (is_in, said) = ask("accounts", None);
    assert!(!is_in && said.contains("wants certificates"), "{said}");
    // Another authority, of a cluster of the same name.
    let other = script.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    let other = Credentials::at(&other);
    for command in ["ca --cluster local", "admin operator"] {
        other.cert(command);
    }
    let other = other.of("admin-operator");
    fs::copy(credentials.of("ca").join("ca.pem"), other.join("ca.pem")).unwrap();
    let (is_in, said) = ask("accounts", Some(&other));
    assert!(!is_in, "{said}");

    // The nodes read the directories in which these commands work.
    let stolen = script.dir.path().join("stolen");
    credentials.steal("client-app", &stolen);
    let (is_in, said) = ask("accounts", Some(&stolen));
    assert!(is_in, "{said}");
    let by = Instant::now() + PATIENCE;
    credentials.cert("revoke certs/client-app");
    while ask("accounts", Some(&stolen)).0 {
        assert!(Instant::now() < by, "a revoked client still gets in");
    }
    let (is_in, said) = ask("accounts", Some(&operator));
    assert!(is_in, "{said}");
    credentials.cert("client app --renew");
    let (is_in, said) = ask("accounts", Some(&client));
    assert!(is_in, "{said}");
    let (is_in, said) = ask("accounts", Some(&stolen));
    assert!(!is_in, "{said}");

    script.says(&["kill", "1"]);
    script.says(&["heal"]);
    script.says(&["up"]);
    assert!(!script.status_when_well().contains("does not run"));
    script.says(&["down"]);
    assert!(!script.cluster().exists());
}

/// `scripts/bench.sh` with the benchmark of this profile.
fn bench(arguments: &[&str]) -> Output {
    let built = binary().with_file_name("walengine-bench");
    let missing = "walengine-bench is missing: run `cargo build -p walengine-benches` first";
    assert!(built.exists(), "{missing}, as scripts/test.sh does");
    let mut command = Command::new(file("scripts/bench.sh"));
    command.args(arguments).env("WALENGINE_BENCH", built).output().unwrap()
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Few transfers; what the figures are does not matter here.
#[test]
fn growth_is_measured_to_its_end_with_a_table_a_file_and_a_plot() {
    let dir = TestDir::new("growth-script");
    let out = dir.path().join("out");
    let place = ["--growth", "--dir", dir.path().to_str().unwrap(), "--out", out.to_str().unwrap()];
    let extent = "--transfers 100k --steps 4 --accounts 100 --restarts 1 --restart-batches 1 \
                  --old-batches 2 --pairs 1 --pair-batches 2";
    let extent: Vec<&str> = extent.split_whitespace().collect();
    let output = bench(&[&place[..], &extent].concat());
    let said = text(&output);
    assert!(output.status.success(), "{said}");

    let rows = |line: &&str| line.starts_with("| ") && !line.contains("transfers/s");
    assert_eq!(said.lines().filter(rows).count(), 8, "{said}");
    for told in [
        "## random ids",
        "## ordered ids",
        "rate: ",
        "CPU a transfer: ",
        "memory: ",
        "runs of ids: ",
        "restart after SIGTERM",
        "restart after kill -9",
        "all with their first verdicts",
        "1 % repeats",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    assert_eq!(names_in(dir.path()), ["out"], "the data is removed");
    let file = |extension: &str| {
        let names = names_in(&out);
        let name = names.iter().find(|name| name.ends_with(extension));
        fs::read_to_string(out.join(name.unwrap_or_else(|| panic!("{extension}: {names:?}"))))
            .unwrap()
    };
    let svg = file(".svg");
    for part in ["<svg", "random ids", "ordered ids", "million transfers/s", "resident memory"] {
        assert!(svg.contains(part), "{part}");
    }
    let lines: Vec<Value> =
        file(".jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for order in ["random", "ordered"] {
        let of = |kind: &str| -> Vec<&Value> {
            let wanted = |line: &&Value| line["kind"] == kind && line["ids"] == order;
            lines.iter().filter(wanted).collect()
        };
        let steps = of("step");
        let transfers: Vec<_> = steps.iter().map(|step| step["transfers"].as_u64()).collect();
        assert_eq!(transfers, [3, 6, 9, 13].map(|batches: u64| Some(8190 * batches)), "{lines:?}");
        for step in steps {
            for positive in [
                "transfers_per_second",
                "resident_bytes",
                "process_written_bytes",
                "log_disk_bytes",
                "log_written_bytes",
                "filter_bytes",
                "p50_micros",
                "p99_micros",
            ] {
                assert!(step[positive].as_f64().unwrap() > 0.0, "{positive}: {step}");
            }
            let [memory, disk, transfers] = ["ids_in_memory", "ids_on_disk", "transfers"]
                .map(|name| step[name].as_u64().unwrap());
            // The others may have been in flight, and a key that is on its way is in both.
            assert!(memory + disk >= transfers, "every id is somewhere: {step}");
            for number in
                ["cpu_micros_per_transfer", "fences_bytes", "runs_disk_bytes", "runs_written_bytes"]
            {
                assert!(step[number].is_number(), "{number}: {step}");
            }
        }
        let killed: Vec<_> = of("restart").iter().map(|line| line["killed"].as_bool()).collect();
        assert_eq!(killed, [Some(false), Some(true)]);
        assert!(of("restart").iter().all(|line| line["seconds"].as_f64().unwrap() > 0.0));
        assert_eq!(of("old")[0]["batch_micros"].as_array().unwrap().len(), 2);
        let pairs = of("pair");
        assert!(pairs.len() == 1 && pairs[0]["repeats_per_second"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn growth_that_has_no_room_or_a_typo_is_told_before_anything_starts() {
    let dir = TestDir::new("growth-typos");
    let at = dir.path().to_str().unwrap();
    let place = ["--dir", at, "--out", at];
    for (arguments, meant) in [
        (&["--growht"][..], "did you mean --growth?"),
        (&["--growth", "--transfer", "3M"], "'--transfers'"),
        (&["--growth", "--ids", "sorted"], "ordered"),
        (&["--growth", "--transfers", "many"], "3_000_000 or 3M"),
        (&["--growth", "--steps", "2"], "--steps must be from 3 to 367"),
        (&["--growth", "--transfers", "99_999_999M"], "Nothing was started. Choose another place"),
    ] {
        let output = bench(&[arguments, &place].concat());
        let said = text(&output);
        assert!(!output.status.success() && said.contains(meant), "{arguments:?}: {said}");
        assert!(said.lines().count() < 9 && !said.contains("panicked"), "{said}");
        assert_eq!(names_in(dir.path()), [""; 0], "{arguments:?}");
    }
    let help = text(&bench(&["--help"]));
    assert!(help.contains("scripts/bench.sh --growth [OPTIONS]"), "{help}");
    let help = text(&bench(&["--growth", "--help"]));
    assert!(help.contains("--transfers <N>") && help.contains("ordered"), "{help}");
}

#[test]
fn data_that_is_not_where_it_should_be_ends_the_tests_before_they_begin() {
    let dir = TestDir::new("no-data");
    let mut command = Command::new(file("scripts/test.sh"));
    let output = command.env("WALENGINE_TEST_DATA", dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("berka/transfers.csv.gz cannot be read"), "{said}");
}

/// A test that needs the data fails without it, so the script must know each of them.
#[test]
fn whatever_needs_the_data_is_left_out_by_name() {
    let script = fs::read_to_string(file("scripts/test.sh")).unwrap();
    let list = script.lines().find(|line| line.starts_with("needs_data=")).unwrap();
    for entry in fs::read_dir(file("tests/tests")).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap();
        let is_other = path.is_dir() || module == "scripts";
        if !is_other && fs::read_to_string(&path).unwrap().contains("WALENGINE_TEST_DATA") {
            assert!(list.contains(&format!("{module}::")), "{module} is not in {list}");
        }
    }
}

#[test]
fn each_script_says_what_it_is_for() {
    for script in [
        "check.sh",
        "cluster.sh",
        "console.sh",
        "demo.sh",
        "deny.sh",
        "sbom.sh",
        "test.sh",
        "tour.sh",
    ] {
        let mut command = Command::new(file("scripts").join(script));
        let output = command.arg("--help").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.lines().count() >= 2 && !said.contains("set -euo"), "{script}: {said}");
        assert!(said.lines().all(|line| !line.starts_with('#')), "{script}: {said}");
    }
}
