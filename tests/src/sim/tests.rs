//! Facts about the simulated disk.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use walengine::runtime::Runtime;
use walengine::storage::disk::{BLOCK_BYTES, Disk, DiskFile};

use super::*;

const SEEDS: u64 = 300;
const FILE: &str = "/data/file";
const BLOCK: u64 = BLOCK_BYTES as u64;

/// Runs `life` on an empty disk with `/data`.
fn live<T, F: Future<Output = T>>(seed: u64, life: impl FnOnce(SimDisk) -> F) -> (SimDisk, T) {
    let executor = SimExecutor::new(seed, Order::Random);
    let disk = SimDisk::new(&executor.runtime(), seed);
    disk.install_dir(Path::new("/data"));
    let output = executor.block_on(life(disk.clone())).unwrap();
    (disk, output)
}

fn crash(disk: &SimDisk, seed: u64) -> SimDisk {
    disk.crash(&SimExecutor::new(seed, Order::Random).runtime(), seed)
}

fn filled(disk: &SimDisk, blocks: usize, byte: u8) -> Rc<SimBuffer> {
    let mut buffer = disk.buffer(blocks * BLOCK_BYTES);
    buffer.as_mut().fill(byte);
    Rc::new(buffer)
}

/// A file of 8 blocks of `1`, durable with its name.
async fn settled(disk: &SimDisk) -> SimFile {
    let file = disk.create(Path::new(FILE), 8 * BLOCK).await.unwrap();
    file.write_durable(filled(disk, 8, 1), 0).await.unwrap();
    disk.sync_dir(Path::new("/data")).await.unwrap();
    file
}

fn sectors(disk: &SimDisk) -> Vec<u8> {
    let bytes = disk.bytes(Path::new(FILE));
    let sectors = bytes.chunks(SECTOR_BYTES);
    sectors
        .map(|sector| if sector.iter().all(|byte| *byte == sector[0]) { sector[0] } else { 99 })
        .collect()
}

fn count(sectors: &[u8], byte: u8) -> usize {
    sectors.iter().map(|found| usize::from(*found == byte)).sum()
}

#[test]
fn synced_bytes_survive_and_others_may_in_any_part() {
    let (mut kept, mut lost, mut torn) = (0, 0, 0);
    for seed in 0..SEEDS {
        let (disk, ()) = live(seed, |disk| async move {
            disk.set_faults(|faults| faults.garbage = false);
            let file = settled(&disk).await;
            file.write(filled(&disk, 4, 2), 0).await.unwrap();
            file.sync().await.unwrap();
            file.write(filled(&disk, 4, 3), 4 * BLOCK).await.unwrap();
        });
        let found = sectors(&crash(&disk, seed));
        assert_eq!(found[..32], [2; 32], "seed {seed}");
        assert!(found[32..].iter().all(|byte| [1, 3].contains(byte)), "seed {seed}");
        match count(&found[32..], 3) {
            0 => lost += 1,
            32 => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(kept > 20 && lost > 20 && torn > 20, "kept {kept}, lost {lost}, torn {torn}");
}

#[test]
fn two_unsynced_writes_survive_in_either_order() {
    let mut seen = [false; 4];
    for seed in 0..SEEDS {
        let (disk, ()) = live(seed, |disk| async move {
            disk.set_faults(|faults| faults.garbage = false);
            let file = settled(&disk).await;
            file.write(filled(&disk, 1, 2), 0).await.unwrap();
            file.write(filled(&disk, 1, 3), 0).await.unwrap();
        });
        seen[sectors(&crash(&disk, seed))[0] as usize] = true;
    }
    assert_eq!(seen, [false, true, true, true]);
}

#[test]
fn durable_write_is_not_undone_by_an_older_unsynced_one() {
    for seed in 0..SEEDS {
        let (disk, ()) = live(seed, |disk| async move {
            let file = settled(&disk).await;
            file.write(filled(&disk, 2, 2), 0).await.unwrap();
            file.write_durable(filled(&disk, 1, 3), 0).await.unwrap();
        });
        assert_eq!(sectors(&crash(&disk, seed))[..8], [3; 8], "seed {seed}");
    }
}

#[test]
fn sync_covers_only_writes_that_had_completed_when_it_began() {
    let mut lost = 0;
    for seed in 0..SEEDS {
        let (disk, completed) = live(seed, |disk| async move {
            let file = Rc::new(settled(&disk).await);
            let completed = Rc::new(Cell::new(false));
            let (late, flag, buffer) = (file.clone(), completed.clone(), filled(&disk, 1, 2));
            disk.runtime().spawn(async move {
                late.write(buffer, 0).await.unwrap();
                flag.set(true);
            });
            disk.runtime().yield_now().await;
            file.sync().await.unwrap();
            completed.get()
        });
        let old = sectors(&crash(&disk, seed))[0] == 1;
        lost += u64::from(completed && old);
    }
    assert!(lost > 20, "{lost}");
}

#[test]
fn write_in_flight_at_the_crash_may_be_partly_there() {
    let mut torn = 0;
    for seed in 0..SEEDS {
        let executor = SimExecutor::new(seed, Order::Random);
        let disk = SimDisk::new(&executor.runtime(), seed);
        disk.install(Path::new(FILE), vec![1; 8 * BLOCK_BYTES]);
        disk.set_faults(|faults| faults.garbage = false);
        let life = async {
            let file = disk.open(Path::new(FILE)).await.unwrap();
            disk.crash_at(1);
            file.write_durable(filled(&disk, 8, 2), 0).await.unwrap();
        };
        assert_eq!(executor.block_on(life), Err(Stopped::Halted));
        let site = disk.crash_site().unwrap();
        assert_eq!((site.kind, site.phase), (OpKind::WriteDurable, Phase::Submitted));
        let found = sectors(&crash(&disk, seed));
        assert!(found.iter().all(|byte| [1, 2].contains(byte)));
        torn += u64::from(found.contains(&1) && found.contains(&2));
    }
    assert!(torn > 20, "{torn}");
}

#[test]
fn power_can_fail_after_a_write_is_durable_and_before_its_caller_knows() {
    let executor = SimExecutor::new(1, Order::Random);
    let disk = SimDisk::new(&executor.runtime(), 1);
    disk.install(Path::new(FILE), vec![1; BLOCK_BYTES]);
    let life = async {
        let file = disk.open(Path::new(FILE)).await.unwrap();
        disk.crash_at(2);
        file.write_durable(filled(&disk, 1, 2), 0).await.unwrap();
        unreachable!("the caller must not hear of it");
    };
    let stopped: Result<(), _> = executor.block_on(life);
    assert_eq!(stopped, Err(Stopped::Halted));
    assert_eq!(disk.crash_site().unwrap().phase, Phase::Completed);
    assert_eq!(sectors(&crash(&disk, 1)), [2; 8]);
}

#[test]
fn several_writes_in_flight_complete_out_of_order() {
    let (disk, ()) = live(5, |disk| async move {
        let file = Rc::new(settled(&disk).await);
        disk.record_ops();
        for block in 0..8 {
            let (file, buffer) = (file.clone(), filled(&disk, 1, block));
            disk.runtime().spawn(async move {
                file.write_durable(buffer, u64::from(block) * BLOCK).await.unwrap();
            });
        }
        // Each write tells its end by changing what a reader sees.
        disk.runtime().sleep(Duration::from_micros(120)).await;
    });
    let done: Vec<_> = disk.ops().iter().map(|op| op.completed).collect();
    let first_pending = done.iter().position(|done| !done).unwrap();
    assert!(done[first_pending..].contains(&true), "{done:?}");
}

#[test]
fn write_goes_on_when_its_caller_stops_waiting() {
    let (disk, ()) = live(5, |disk| async move {
        let file = settled(&disk).await;
        {
            let mut write = Box::pin(file.write_durable(filled(&disk, 1, 9), 0));
            let once = std::future::poll_fn(|context| {
                assert!(write.as_mut().poll(context).is_pending());
                std::task::Poll::Ready(())
            });
            once.await;
        }
        disk.runtime().sleep(Duration::from_secs(1)).await;
    });
    assert_eq!(sectors(&crash(&disk, 5))[0], 9);
}

#[test]
fn name_vanishes_without_a_directory_sync() {
    let mut found = [0; 2];
    for seed in 0..SEEDS {
        let (disk, ()) = live(seed, |disk| async move {
            let file = disk.create(Path::new(FILE), BLOCK).await.unwrap();
            file.write_durable(filled(&disk, 1, 1), 0).await.unwrap();
        });
        found[crash(&disk, seed).image().len()] += 1;
    }
    assert!(found[0] > 20 && found[1] > 20, "{found:?}");
}

#[test]
fn rename_is_undone_or_whole() {
    let mut renamed = 0;
    for seed in 0..SEEDS {
        let (disk, ()) = live(seed, |disk| async move {
            settled(&disk).await;
            disk.rename(Path::new(FILE), Path::new("/data/new")).await.unwrap();
        });
        let names: Vec<_> = crash(&disk, seed).image().into_iter().map(|(path, _)| path).collect();
        assert_eq!(names.len(), 1, "seed {seed}");
        renamed += u64::from(names == [PathBuf::from("/data/new")]);
    }
    assert!((20..SEEDS - 20).contains(&renamed), "{renamed}");
}

#[test]
fn removed_file_comes_back_without_a_directory_sync() {
    let mut back = 0;
    for seed in 0..SEEDS {
        let (disk, ()) = live(seed, |disk| async move {
            settled(&disk).await;
            disk.remove(Path::new(FILE)).await.unwrap();
        });
        back += crash(&disk, seed).image().len() as u64;
    }
    assert!((20..SEEDS - 20).contains(&back), "{back}");
}

#[test]
fn directory_takes_its_files_with_it() {
    let mut seen = [0; 2];
    for seed in 0..SEEDS {
        let (disk, ()) = live(seed, |disk| async move {
            disk.create_dir(Path::new("/data/a/b")).await.unwrap();
            let file = disk.create(Path::new("/data/a/b/file"), BLOCK).await.unwrap();
            file.sync().await.unwrap();
            disk.sync_dir(Path::new("/data/a/b")).await.unwrap();
        });
        seen[crash(&disk, seed).image().len()] += 1;
    }
    assert!(seen[0] > 20 && seen[1] > 20, "{seen:?}");
}

#[test]
fn length_vanishes_until_a_sync_of_the_file() {
    let mut shorter = 0;
    for seed in 0..SEEDS {
        let (disk, ()) = live(seed, |disk| async move {
            disk.create(Path::new(FILE), 8 * BLOCK).await.unwrap();
            disk.sync_dir(Path::new("/data")).await.unwrap();
        });
        let length = crash(&disk, seed).bytes(Path::new(FILE)).len();
        shorter += u64::from(length < 8 * BLOCK_BYTES);
        let (disk, ()) = live(seed, |disk| async move {
            drop(settled(&disk).await);
        });
        assert_eq!(crash(&disk, seed).bytes(Path::new(FILE)).len(), 8 * BLOCK_BYTES);
    }
    assert!(shorter > 20, "{shorter}");
}

#[test]
fn lying_disk_loses_what_it_called_durable() {
    let mut lost = [0; 2];
    for seed in 0..SEEDS {
        for (way, lost) in lost.iter_mut().enumerate() {
            let (disk, ()) = live(seed, |disk| async move {
                let file = settled(&disk).await;
                disk.set_faults(|faults| faults.lying = true);
                if way == 0 {
                    file.write_durable(filled(&disk, 1, 2), 0).await.unwrap();
                } else {
                    file.write(filled(&disk, 1, 2), 0).await.unwrap();
                    file.sync().await.unwrap();
                }
            });
            *lost += u64::from(sectors(&crash(&disk, seed))[0] != 2);
        }
    }
    assert!(lost[0] > 20 && lost[1] > 20, "{lost:?}");
}

#[test]
fn planned_failure_hits_the_nth_operation_of_its_class() {
    let errors = [(Effect::Eio, Some(5)), (Effect::Enospc, Some(28)), (Effect::Short, None)];
    for (effect, code) in errors {
        let (_, ()) = live(3, |disk| async move {
            let file = settled(&disk).await;
            disk.plan(OpClass::Writes, 2, effect);
            disk.plan(OpClass::Syncs, 1, effect);
            disk.plan(OpClass::Reads, 2, effect);
            file.write(filled(&disk, 1, 2), 0).await.unwrap();
            let error = file.write_durable(filled(&disk, 1, 2), 0).await.unwrap_err();
            assert_eq!(error.raw_os_error(), code);
            file.write(filled(&disk, 1, 2), 0).await.unwrap();
            assert_eq!(file.sync().await.unwrap_err().raw_os_error(), code);
            file.sync().await.unwrap();
            let buffer = file.read(disk.buffer(BLOCK_BYTES), 0).await.unwrap();
            assert_eq!(buffer.as_ref(), [2; BLOCK_BYTES]);
            assert!(file.read(disk.buffer(BLOCK_BYTES), 0).await.is_err());
        });
    }
}

#[test]
fn sync_after_a_failed_sync_does_not_help() {
    let mut lost = 0;
    for seed in 0..SEEDS {
        let (disk, ()) = live(seed, |disk| async move {
            let file = settled(&disk).await;
            file.write(filled(&disk, 1, 2), 0).await.unwrap();
            disk.plan(OpClass::Syncs, 1, Effect::Eio);
            file.sync().await.unwrap_err();
            file.sync().await.unwrap();
        });
        lost += u64::from(sectors(&crash(&disk, seed))[0] != 2);
    }
    assert!(lost > 20, "{lost}");
}

#[test]
fn lost_misdirected_and_flipped_writes_answer_ok() {
    let after = |effect| {
        let (disk, ()) = live(11, |disk| async move {
            let file = settled(&disk).await;
            disk.plan(OpClass::Writes, 1, effect);
            file.write_durable(filled(&disk, 1, 2), BLOCK).await.unwrap();
        });
        sectors(&crash(&disk, 1))
    };
    assert_eq!(after(Effect::Lose), [1; 64]);
    let misdirected = after(Effect::Misdirect);
    assert_eq!(count(&misdirected, 2), 8);
    assert_eq!(misdirected[8], 1);
    let flipped = after(Effect::Flip);
    assert_eq!(count(&flipped, 99), 1, "{flipped:?}");
}

#[test]
fn rot_flips_bits_that_stay_flipped() {
    let (disk, ()) = live(11, |disk| async move { drop(settled(&disk).await) });
    disk.rot(3, 1);
    let flipped = |disk: &SimDisk| -> u32 {
        disk.bytes(Path::new(FILE)).iter().map(|byte| (byte ^ 1).count_ones()).sum()
    };
    assert_eq!((flipped(&disk), flipped(&crash(&disk, 1))), (3, 3));
}

#[test]
fn full_disk_refuses_to_create_and_to_grow() {
    live(1, |disk| async move {
        disk.set_faults(|faults| faults.capacity_bytes = 10 * BLOCK);
        let file = settled(&disk).await;
        assert_eq!(disk.free_bytes().await.unwrap(), 2 * BLOCK);
        let full = |error: io::Error| assert_eq!(error.raw_os_error(), Some(28));
        full(disk.create(Path::new("/data/big"), 3 * BLOCK).await.map(|_| ()).unwrap_err());
        full(file.write(filled(&disk, 3, 2), 8 * BLOCK).await.unwrap_err());
        file.write(filled(&disk, 2, 2), 8 * BLOCK).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 10 * BLOCK);
        assert_eq!(disk.free_bytes().await.unwrap(), 0);
    });
}

#[test]
fn names_behave_like_a_file_system() {
    live(1, |disk| async move {
        let (file, data) = (Path::new(FILE), Path::new("/data"));
        let kind = |result: io::Result<()>| result.unwrap_err().kind();
        assert_eq!(kind(disk.open(file).await.map(|_| ())), io::ErrorKind::NotFound);
        assert_eq!(kind(disk.list(file).await.map(|_| ())), io::ErrorKind::NotFound);
        assert_eq!(kind(disk.sync_dir(file).await), io::ErrorKind::NotFound);
        drop(settled(&disk).await);
        assert_eq!(kind(disk.create(file, 0).await.map(|_| ())), io::ErrorKind::AlreadyExists);
        disk.create_dir(&data.join("a/b")).await.unwrap();
        disk.create_dir(&data.join("a/b")).await.unwrap();
        assert_eq!(disk.list(data).await.unwrap(), [PathBuf::from("a"), PathBuf::from("file")]);
        let open = disk.open(file).await.unwrap();
        disk.remove(file).await.unwrap();
        assert_eq!(open.read(disk.buffer(BLOCK_BYTES), 0).await.unwrap().as_ref()[0], 1);
        let past = open.read(disk.buffer(BLOCK_BYTES), 8 * BLOCK).await.map(|_| ());
        assert_eq!(kind(past), io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn same_seed_leaves_the_same_disk_and_trace() {
    let run = |seed| {
        let executor = SimExecutor::new(seed, Order::Random);
        let disk = SimDisk::new(&executor.runtime(), seed);
        disk.install_dir(Path::new("/data"));
        let life = async {
            let file = settled(&disk).await;
            disk.crash_at(seed % 7 + 1);
            for round in 0..10 {
                file.write(filled(&disk, 8, round), 0).await.unwrap();
                file.sync().await.unwrap();
            }
        };
        executor.block_on(life).unwrap_err();
        (executor.trace(), crash(&disk, seed).image())
    };
    for seed in 0..50 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(1).0, run(2).0);
}
