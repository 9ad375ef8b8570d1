//! Do the scripts do what their first lines say?

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use walengine_tests::server::{TestDir, binary};

/// How long a cluster may take to have leaders again.
const PATIENCE: Duration = Duration::from_mins(1);

/// `scripts/cluster.sh` on a directory of the test's own; nothing of it is left at the end.
struct Script {
    dir: TestDir,
}

impl Script {
    fn run(&self, arguments: &[&str]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/cluster.sh");
        let mut command = Command::new(script);
        command.args(arguments).env("WALENGINE_CLUSTER_DIR", self.cluster());
        command.env("WALENGINE_BINARY", binary()).env_remove("NODES");
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
        while !self.run(&["status"]).status.success() && Instant::now() < by {
            thread::sleep(Duration::from_millis(100));
        }
        self.says(&["status"])
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
    assert!(said.lines().any(|line| line.starts_with("node 3") && line.contains("cut off")));
    script.says(&["heal"]);
    assert!(!script.status_when_well().contains("cut off"));

    for wrong in [&["kill"][..], &["kill", "4"], &["pause", "x"], &["melt"]] {
        assert!(!script.run(wrong).status.success(), "{wrong:?}");
    }
    script.says(&["down"]);
    assert!(!script.cluster().exists());
}
