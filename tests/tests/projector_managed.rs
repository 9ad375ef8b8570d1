//! Does a managed PostgreSQL keep to the release that made its data, and does the projector touch no
//! file but its own?

use std::fs;
use std::os::unix::fs::symlink;

use walengine_tests::projector::Projecting;
use walengine_tests::server::{Launch, TestDir};

/// Exit codes; see [`walengine_net::cli::Reason`].
const FILE: i32 = 11;
const POSTGRES: i32 = 12;

#[test]
fn links_are_not_followed_and_another_release_is_not_started() {
    // Where PostgreSQL's user may enter, and the path of a socket fits.
    let dir = TestDir::new("managed");
    let home = std::env::temp_dir().join(format!("walengine-managed-{}", std::process::id()));
    let _ = fs::remove_dir_all(&home); // of an older process with this number
    fs::create_dir(&home).unwrap();
    let mut server = Launch::new(dir.path()).set("--partitions", "1").serve();
    let managed = Projecting::managed(dir.path(), &server.address().to_string(), &home);
    let mut projector = managed.spawn();
    projector.wait_to_say("projecting 1 partitions");
    projector.stop();

    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    for name in ["log", "lock", ".owner"] {
        let place = home.join(name);
        let _ = fs::remove_file(&place); // one of them does not exist
        symlink(&victim, &place).unwrap();
        if name == ".owner" {
            let mut projector = managed.clone().log_to(&dir.path().join("owner.log")).spawn();
            projector.wait_to_say("projecting 1 partitions");
            projector.stop();
        } else {
            let line = managed.fails_with(FILE);
            assert!(line.contains("is a link"), "{name}: {line}");
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{name}");
        fs::remove_file(&place).unwrap();
    }
    assert_eq!(victim.metadata().unwrap().len(), 8);

    fs::write(home.join("data/PG_VERSION"), "3\n").unwrap();
    let line = managed.fails_with(POSTGRES);
    assert!(line.contains("PostgreSQL 3 made the data") && line.contains("postgresql-3"), "{line}");
    fs::remove_dir_all(&home).unwrap();
    server.stop();
}
