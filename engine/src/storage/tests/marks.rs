//! Files that say where entries stand: spare reading, and are never believed against the log.

use std::path::PathBuf;

use super::some_log::{SomeLog, some_config};
use super::*;
use crate::storage::index::Mark;
use crate::storage::layout::MarksFile;
use crate::storage::marks_file;

fn marks_path(some: &SomeLog, sequence: u64) -> PathBuf {
    marks_file::path(&some.dir.partition(), sequence)
}

/// A log over several segments, the last record of each full segment, and a record of each.
async fn whole(seed: u64) -> (SomeLog, Vec<Offset>) {
    let config = LogConfig { entries_on_blocks: seed % 2 == 1, ..some_config() };
    let mut some = SomeLog::new(seed, config).await;
    let mut offsets = Vec::new();
    let mut last = 1;
    while offsets.len() < 4 {
        for _ in 0..5 {
            some.append_events(20).await;
        }
        some.append_events(700).await;
        if some.log.last_segment() > last {
            last = some.log.last_segment();
            // The last one of the segment before, most likely: far behind.
            offsets.push(Offset(some.records.len() as u64 - 1000));
        }
    }
    some.rest().await;
    (some, offsets)
}

/// Bytes that were read of segments, and of files of marks.
fn read_bytes(some: &SomeLog) -> (usize, usize) {
    let reads = some.disk.take_reads();
    let sum = |end: &str| {
        let of = reads.iter().filter(|(name, _)| name.ends_with(end));
        of.map(|(_, bytes)| bytes).sum()
    };
    (sum(".seg"), sum(".marks"))
}

#[test]
fn a_read_in_an_old_segment_reads_its_marks_once_and_not_the_segment() {
    run(async {
        let (mut some, offsets) = whole(1).await;
        for sequence in 1..=4 {
            assert!(marks_path(&some, sequence).exists(), "marks of {sequence}");
        }
        some.reopen().await;
        some.check(&offsets, "marks are loaded").await;
        let (segments, marks) = read_bytes(&some);
        assert!(segments <= offsets.len() * (80 << 10), "{segments} bytes of segments");
        assert!(marks > 0 && marks <= offsets.len() * 8192, "{marks} bytes of marks");
        some.check(&offsets, "marks are known").await;
        assert_eq!(read_bytes(&some).1, 0, "marks are read again");
        // Reads of whole entries find their place by the same marks.
        some.reopen().await;
        some.log.read_holding(offsets[0], 0).await.unwrap();
        let (segments, marks) = read_bytes(&some);
        assert!(segments <= 256 << 10 && marks == 8192, "{segments}, {marks}");

        // Without them each segment is read once, and they are there again.
        for sequence in 1..=4 {
            std::fs::remove_file(marks_path(&some, sequence)).unwrap();
        }
        some.reopen().await;
        some.check(&offsets, "without marks").await;
        let (segments, _) = read_bytes(&some);
        assert!(segments > 3 * (400 << 10), "{segments} bytes of segments");
        some.rest().await;
        some.reopen().await;
        some.check(&offsets, "marks were saved").await;
        let (segments, _) = read_bytes(&some);
        assert!(segments <= offsets.len() * (80 << 10), "{segments} bytes of segments");
        some.log.close().await.unwrap();
    });
}

#[test]
fn marks_are_forgotten_within_their_bound_and_loaded_again() {
    run(async {
        let (mut some, offsets) = whole(2).await;
        some.config.marks_max = 1;
        some.reopen().await;
        for _ in 0..3 {
            for offset in &offsets {
                some.check(&[*offset], "one segment after the other").await;
                assert_eq!(some.log.inner.state.borrow().marked.len(), 1, "more than the bound");
            }
            assert!(read_bytes(&some).1 > 0, "loaded again");
        }
        some.config.marks_max = 1000;
        some.reopen().await;
        some.check(&offsets, "all").await;
        assert!(some.log.inner.state.borrow().marked.len() > 2);
        some.log.close().await.unwrap();
    });
}

type Harm = fn(&SomeLog, &Path);

fn changed(some: &SomeLog, path: &Path, change: impl FnOnce(&mut MarksFile)) {
    let bytes = std::fs::read(path).unwrap();
    let mut file = MarksFile::get(&bytes, some.config.segment_bytes).unwrap();
    change(&mut file);
    let mut bytes = vec![0; MarksFile::bytes(file.marks.len())];
    file.put(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

#[rustfmt::skip]
const HARMS: &[(&str, bool, Harm)] = &[
    ("missing", true, |_, path| std::fs::remove_file(path).unwrap()),
    ("empty", true, |_, path| std::fs::write(path, []).unwrap()),
    ("zeros", true, |_, path| std::fs::write(path, [0; 8192]).unwrap()),
    ("cut short", true, |_, path| overwrite_short(path)),
    ("torn", true, |_, path| overwrite(path, 4096, &[0; 512])),
    ("a bit flipped", true, |_, path| flip(path, 4100)),
    ("a bit flipped in front", true, |_, path| flip(path, 50)),
    ("of another segment", true, |some, path| {
        std::fs::copy(marks_path(some, 2), path).unwrap();
    }),
    ("of another cluster", true, |some, path| {
        changed(some, path, |file| file.cluster = ClusterId(5));
    }),
    ("of another moment", true, |some, path| {
        changed(some, path, |file| file.last.chain.0[3] ^= 1);
    }),
    ("positions a little off", true, |some, path| {
        changed(some, path, |file| file.marks.iter_mut().skip(1).for_each(|mark| mark.position += 8));
    }),
    ("positions of the next ones", true, |some, path| {
        changed(some, path, |file| shift(&mut file.marks, |mark, next| mark.position = next.position));
    }),
    ("offsets of the next ones", true, |some, path| {
        changed(some, path, |file| shift(&mut file.marks, |mark, next| mark.offset = next.offset));
    }),
    ("indices a little off", true, |some, path| {
        changed(some, path, |file| file.marks.iter_mut().skip(1).for_each(|mark| mark.index -= 1));
    }),
    ("no marks at all", false, |some, path| changed(some, path, |file| file.marks.clear())),
    ("few marks", false, |some, path| changed(some, path, |file| file.marks.truncate(2))),
];

fn overwrite_short(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..4096]).unwrap();
}

fn shift(marks: &mut Vec<Mark>, take: fn(&mut Mark, &Mark)) {
    for at in 1..marks.len() - 1 {
        let next = marks[at + 1];
        take(&mut marks[at], &next);
    }
    marks.pop();
}

#[test]
fn whatever_is_in_the_files_the_log_gives_what_it_holds() {
    run(async {
        let (mut some, _) = whole(3).await;
        let good = std::fs::read(marks_path(&some, 1)).unwrap();
        let end = some.log.last();
        some.log.clone().close().await.unwrap();
        let in_first = (0..12).map(|at| Offset(at * 100)).collect::<Vec<_>>();
        let marks = MarksFile::get(&good, some.config.segment_bytes).unwrap().marks;
        assert!(marks.len() >= 4 && marks[3].offset < Offset(3000), "{marks:?}");
        for (what, is_made_again, harm) in HARMS {
            for single in [true, false] {
                let path = marks_path(&some, 1);
                std::fs::write(&path, &good).unwrap();
                harm(&some, &path);
                some.open_behind(end).await;
                if single {
                    let offset = Offset(marks[2].offset.0 + 3);
                    let page = some.log.read_holding(offset, 0).await.unwrap();
                    let (header, _) = decode_entry(&page).unwrap();
                    let base = header.meta.base_offset;
                    assert!(base <= offset && offset < header.next_offset(), "{what}");
                } else {
                    some.check(&in_first, what).await;
                    some.check(&some.all_offsets(), what).await;
                }
                some.rest().await;
                let made = std::fs::read(&path).unwrap();
                assert_eq!(made == good, *is_made_again, "{what}: what is in the file now");
                some.log.clone().close().await.unwrap();
            }
        }
    });
}

#[test]
fn a_damaged_segment_is_not_taken_for_a_damaged_file() {
    run(async {
        let (mut some, _) = whole(4).await;
        let path = marks_path(&some, 1);
        let good = std::fs::read(&path).unwrap();
        let marks = MarksFile::get(&good, some.config.segment_bytes).unwrap().marks;
        some.reopen().await;
        flip(&some.dir.segment(1), marks[2].position + 200);
        let bad = Offset(marks[2].offset.0);
        for _ in 0..3 {
            some.disk.take_reads();
            assert!(some.log.read_holding(bad, 0).await.is_err());
        }
        let (segments, _) = read_bytes(&some);
        assert!(segments <= 256 << 10, "the segment is read for each record in it: {segments}");
        some.check(&[Offset(marks[1].offset.0), Offset(marks[3].offset.0)], "the others").await;
        some.rest().await;
        assert_eq!(std::fs::read(&path).unwrap(), good);
        flip(&some.dir.segment(1), marks[2].position + 200);
        some.log.close().await.unwrap();
    });
}

#[test]
fn after_a_truncation_the_old_marks_count_no_more() {
    run(async {
        for reopen in [false, true] {
            let (mut some, _) = whole(5).await;
            (some.config.open_segments_max, some.config.marks_max) = (1, 1);
            some.reopen().await;
            some.check(&some.all_offsets(), "before").await;
            let old = std::fs::read(marks_path(&some, 2)).unwrap();
            let before = some.log.inner.state.borrow().segments[1].before;
            // Used last, so that reads of the first one would close it if it still counted as full.
            some.check(&[before.next_offset], "before").await;
            // Into the second segment, behind its first entry.
            some.log.truncate_after(before.index + 1).await.unwrap();
            let keep = some.log.last().next_offset.0 as usize;
            some.records.truncate(keep);
            some.entry_bytes.truncate(keep);
            some.check(&some.all_offsets(), "cut").await;
            if reopen {
                some.reopen().await;
                some.check(&some.all_offsets(), "cut, reopened").await;
            }
            while some.log.last_segment() < 4 {
                some.append_events(600).await;
                some.append_events(3).await;
            }
            some.check(&some.all_offsets(), "filled again").await;
            some.rest().await;
            assert_ne!(std::fs::read(marks_path(&some, 2)).unwrap(), old);
            // As if the power had failed before the new ones were there.
            std::fs::write(marks_path(&some, 2), &old).unwrap();
            some.reopen().await;
            some.check(&some.all_offsets(), "with the old marks").await;
            some.rest().await;
            assert_ne!(std::fs::read(marks_path(&some, 2)).unwrap(), old);
            some.log.close().await.unwrap();
        }
    });
}

#[test]
fn marks_of_a_segment_are_not_saved_before_it_is_durable() {
    run(async {
        let mut some = SomeLog::new(6, some_config()).await;
        some.append_events(500).await;
        some.log.inner.prepare();
        loop {
            let changed = some.log.changed().changed();
            if !some.log.inner.state.borrow().prepared.is_empty() {
                break; // the second segment
            }
            changed.await;
        }
        while some.log.last_segment() < 2 {
            some.append_events(500).await; // there is room, so nothing is flushed
        }
        some.log.inner.save_marks();
        {
            let state = some.log.inner.state.borrow();
            assert!(state.durable == 0 && !state.unsaved.is_empty() && !state.saving_marks);
        }
        some.rest().await;
        assert!(marks_path(&some, 1).exists());
        some.log.close().await.unwrap();
    });
}

#[test]
fn marks_that_cannot_be_written_stop_nothing() {
    run(async {
        let mut some = SomeLog::new(7, some_config()).await;
        std::fs::create_dir(marks_path(&some, 1)).unwrap();
        while some.log.last_segment() < 3 {
            some.append_events(700).await;
        }
        some.rest().await;
        assert!(some.log.stopped().is_none() && marks_path(&some, 2).exists());
        some.reopen().await;
        some.check(&some.all_offsets(), "with a directory in the place of the file").await;
        some.rest().await;
        let new = marks_path(&some, 1).with_extension("marks.new");
        assert!(!new.exists(), "what could not be named is removed");
        some.log.close().await.unwrap();
    });
}
