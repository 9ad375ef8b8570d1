//! Does a power cut under load lose anything acknowledged? On a real ext4, cut off below the server.

use std::thread;
use std::time::Duration;

use walengine_tests::crash_witness::Witness;
use walengine_tests::loop_disk::LoopDisk;
use walengine_tests::server::TestDir;
use walengine_tests::sim::Rng;

use crate::kill::{create_accounts, launch, load};

const CUTS: u64 = 20;
const PARTITIONS: u16 = 2;
const DISK_MIB: u64 = 768;

#[test]
fn nothing_acknowledged_is_lost_repeated_or_reordered_by_twenty_power_cuts() {
    let seed = 0x5eed_0002;
    println!("seed {seed:#x}");
    let mut rng = Rng::new(seed);
    let dir = TestDir::new("power");
    let mut disk = LoopDisk::new(dir.path(), DISK_MIB);
    let launch = launch(dir.path()).data(&disk.path().join("data"));
    let mut witness = Witness::new(PARTITIONS);
    let mut server = launch.serve();
    let mut told = create_accounts(&server, PARTITIONS);
    for cut in 1..=CUTS {
        told.extend(load(&mut server, &mut rng, |server| {
            disk.cut_power();
            if cut % 2 == 0 {
                // What it acknowledges now would be lost, and found missing below.
                thread::sleep(Duration::from_millis(20));
            }
            server.kill();
        }));
        disk.unmount();
        disk.mount();
        server = launch.serve();
        witness.check(&server, &told);
        told.clear();
    }
    witness.check_all(&server);
    println!("{}", witness.summary());
    assert!(witness.acknowledged() > 100 * CUTS, "there was load: {}", witness.summary());
    server.stop();
}
