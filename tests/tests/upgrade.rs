//! Does a data directory of an earlier release open, with every record that it held?

use std::path::{Path, PathBuf};
use std::process::Command;

use walengine_tests::server::{Launch, TestDir, binary};

/// Unpacks a directory of an earlier release into `dir/data`.
pub fn unpack(name: &str, dir: &Path) -> PathBuf {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/directories").join(name);
    let unpacked = Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(dir).status();
    assert!(unpacked.unwrap().success(), "{} can't be unpacked", archive.display());
    dir.join("data")
}

/// What `verify` says of each partition, one line each.
fn verify(data: &Path) -> Vec<String> {
    let output = Command::new(binary()).arg("verify").arg(data).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said.lines().filter(|line| line.starts_with("partition ")).map(str::to_owned).collect()
}

fn holds(said: &[String], partition: usize, offset: u64, accounts: u64) {
    let line = &said[partition];
    let wanted = format!("next offset {offset}, ");
    assert!(line.contains(&wanted) && line.contains(&format!("{accounts} accounts")), "{line}");
}

#[test]
fn a_lone_node_of_release_0_1_goes_on() {
    let dir = TestDir::new("upgrade-alone");
    let data = unpack("alone-0.1.tar.gz", dir.path());
    for _ in 0..2 {
        let said = verify(&data);
        for (partition, offset, accounts) in [(0, 0, 0), (1, 460, 60), (2, 0, 0)] {
            holds(&said, partition, offset, accounts);
        }
        Launch::new(dir.path()).serve().stop();
    }
}

#[test]
fn a_node_of_a_group_of_release_0_1_goes_on() {
    let dir = TestDir::new("upgrade-group");
    let data = unpack("group-0.1.tar.gz", dir.path());
    let launch = Launch::new(dir.path()).set("--peer-listen", "127.0.0.1:0");
    for _ in 0..2 {
        let said = verify(&data);
        for (partition, offset, accounts) in [(0, 420, 20), (1, 420, 20)] {
            holds(&said, partition, offset, accounts);
        }
        launch.serve().stop();
    }
}
