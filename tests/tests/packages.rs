//! Does Debian's package install, start, upgrade, stop and go as its users expect, and does it leave the log alone?
//!
//! What is asked of it is in `packaging/inside.sh`, which a systemd of its own runs.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use walengine::fatal::Reason;
use walengine_tests::server::{TestDir, binary, text};

fn of_tree(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[test]
fn the_package_is_installed_started_upgraded_removed_and_purged() {
    let dir = TestDir::new("packages");
    let programs = binary();
    let debs = ["0.1.0-1", "0.1.0-2"].map(|version| {
        let mut package = Command::new(of_tree("scripts/package.sh"));
        package.args(["--fast", "--version", version, "--bin"]).arg(programs.parent().unwrap());
        let output = package.arg("--out").arg(dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let found = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let ending = format!("_{version}_");
        let mut found = found.filter(|path| path.to_string_lossy().contains(&ending));
        found.next().unwrap_or_else(|| panic!("no package {version}: {}", text(&output)))
    });
    let mut test = Command::new(of_tree("packaging/test.sh"));
    let output = test.arg(dir.path()).args(debs).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

/// Those by which a supervisor can tell that another start comes to the same.
#[test]
fn a_unit_is_not_started_again_after_what_a_start_cannot_help() {
    let server = [
        Reason::Usage,
        Reason::Preflight,
        Reason::DataDirectory,
        Reason::Damaged,
        Reason::Disagreement,
        Reason::File,
        Reason::Memory,
        Reason::SetBack,
    ];
    let projector = [
        Reason::Usage,
        Reason::DataDirectory,
        Reason::File,
        Reason::Postgres,
        Reason::Schema,
        Reason::OtherLog,
        Reason::DamagedFeed,
    ];
    for (unit, reasons) in [("walengine", &server[..]), ("walengine-projector", &projector[..])] {
        let path = of_tree(&format!("packaging/units/{unit}.service"));
        let text = std::fs::read_to_string(path).unwrap();
        let codes = text.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus="));
        let codes: BTreeSet<u8> =
            codes.unwrap().split(' ').map(|code| code.parse().unwrap()).collect();
        assert_eq!(codes, reasons.iter().map(|reason| *reason as u8).collect(), "{unit}");
    }
}
