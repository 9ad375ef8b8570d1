//! A process that is confined to some cores runs on those. The fault: shard n was pinned to core n
//! of the machine.

use std::fs;

use walengine_tests::server::{Launch, TestDir};

#[test]
fn shards_run_on_the_cores_that_the_process_may_use() {
    let dir = TestDir::new("confined");
    let confined = |launch: Launch| launch.through(&["taskset", "-c", "1"]);
    let mut server = confined(Launch::new(dir.path())).serve();
    let tasks = fs::read_dir(format!("/proc/{}/task", server.process_id())).unwrap();
    let mut shards = 0;
    for task in tasks {
        let task = task.unwrap().path();
        if fs::read_to_string(task.join("comm")).unwrap().starts_with("shard-") {
            let status = fs::read_to_string(task.join("status")).unwrap();
            let allowed =
                status.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap();
            assert_eq!(allowed.split_whitespace().last(), Some("1"));
            shards += 1;
        }
    }
    assert!(shards >= 1, "and those that help it");
    server.stop();

    let output = confined(Launch::new(dir.path()).set("--cores", "2")).fails();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--cores is 2") && said.contains("may use 1"), "{said}");
}
