//! Makes a new data directory of a backup: for a node that serves alone, or for the first node of a new
//! cluster. All that is wanted is checked before anything is made of any of it.

use std::collections::BTreeMap;
use std::path::Path;

use walengine_net::entry::{EntryError, EntryHeader};
use walengine_net::model::{PartitionId, Timestamp};

use super::inspect::Backup;
use super::room::{LogRoom, require_room};
use crate::across::ties::{Fitting, Ties, fit};
use crate::audit::Order;
use crate::executor::on_executor;
use crate::fatal::{Fatal, Reason};
use crate::rewrite::directory::{NewDirectory, require_free};
use crate::rewrite::writer::Writer;
use crate::rewrite::{Rewritten, cut};
use crate::storage::layout::Superblock;

/// What is restored, and for whom.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Records below these offsets; partitions that are not named are restored whole.
    pub to_offset: BTreeMap<PartitionId, u64>,
    /// Records up to this log time.
    pub to_time: Option<Timestamp>,
    /// The peer address of the node, if it is to be the first of a new cluster.
    pub peer_address: Option<String>,
    /// Length of a segment.
    pub segment_bytes: u64,
}

/// A partition that was restored.
#[derive(Clone, Copy, Debug)]
pub struct RestoredPartition {
    /// Its new log.
    pub log: Rewritten,
    /// It was asked for up to this offset, which is inside a chain that takes effect whole.
    pub cut_before_chain: Option<u64>,
}

/// What was made.
pub struct Made {
    /// The new directory's superblock.
    pub superblock: Superblock,
    /// Its partitions.
    pub partitions: Vec<RestoredPartition>,
    /// The partitions were copied at different moments, while money moved between them: they fit each other up to
    /// this log time, and end there.
    pub fitted_to: Option<Timestamp>,
}

/// What is wanted of the partitions, read and not yet made.
struct Survey {
    needed_bytes: u64,
    ties: Vec<Ties>,
    /// The offsets behind the last records.
    ends: Vec<u64>,
}

/// Restores a backup into the directory `data`, which is created if need be.
///
/// # Errors
/// The backup is damaged or incomplete, or `data` is not empty: nothing was changed. Or the disk's: then
/// `data` holds what an interrupted restore leaves, and can be restored into again.
pub fn restore(
    backup: &Backup<'_>,
    data: &Path,
    wanted: &Wanted,
    mut tell: impl FnMut(u64, u64),
) -> Result<Made, Fatal> {
    let partitions: Vec<_> = (0..backup.manifest.partitions()).map(PartitionId).collect();
    let unknown = wanted.to_offset.keys().find(|partition| !partitions.contains(partition));
    if let Some(partition) = unknown {
        let message = format!(
            "there is no partition {partition}: the backup has {}",
            backup.manifest.partitions()
        );
        return Err(Fatal::new(Reason::Usage, message));
    }
    let mut all = 0;
    for &partition in &partitions {
        let end = backup.end(partition)?.next_offset.0;
        if let Some(&to) = wanted.to_offset.get(&partition)
            && to > end
        {
            let message = format!(
                "partition {partition} of the backup ends at offset {end}, before {to}: name an \
                 earlier one"
            );
            return Err(Fatal::new(Reason::Usage, message));
        }
        all += 2 * wanted.offset(partition).min(end);
    }
    require_free(data)?;
    // All of it is read before anything is made of any of it.
    let mut done = 0;
    let mut survey = wanted.survey(backup, &partitions, |records| tell(records, all))?;
    let (mut fitted, mut fitted_to) = (wanted.clone(), None);
    if let Err(misfit) = fit(&survey.ties) {
        fitted_to = fitting(backup, &partitions, &survey)?;
        fitted.to_time = fitted_to.or(wanted.to_time);
        survey = fitted.survey(backup, &partitions, |records| tell(records, all))?;
        fit(&survey.ties).map_err(|_| {
            let message = format!("{misfit}: name offsets that fit, or a time with --to-time");
            Fatal::new(Reason::Usage, message)
        })?;
    }
    let wanted = &fitted;
    done += survey.ends.iter().sum::<u64>();
    require_room(data, survey.needed_bytes)?;
    let (count, is_group) = (backup.manifest.partitions(), wanted.peer_address.is_some());
    let order = wanted.order(backup);
    let directory = NewDirectory::begin(data, count, wanted.segment_bytes, is_group, order)?;
    let mut restored = Vec::new();
    for &partition in &partitions {
        let write = write_partition(backup, &directory, wanted, partition, |records| {
            done += records;
            tell(done, all);
        });
        restored.push(on_executor(write)??);
    }
    let superblock = directory.superblock();
    let logs: Vec<_> = restored.iter().map(|one| one.log).collect();
    directory.finish(backup.manifest.cluster(), &logs)?;
    Ok(Made { superblock, partitions: restored, fitted_to })
}

impl Wanted {
    fn order(&self, backup: &Backup<'_>) -> Order {
        let offsets =
            self.to_offset.iter().map(|(partition, offset)| format!("{partition}:{offset}"));
        Order::new("restore")
            .with("from", backup.dir.display().to_string())
            .with("source_cluster", format!("{:032x}", backup.manifest.cluster().0))
            .with("to_offset", offsets.collect::<Vec<_>>())
            .with("to_time", self.to_time.map(|time| time.0))
            .with("peer_address", self.peer_address.clone())
    }

    /// Reads what is wanted. `tell` hears of the records.
    fn survey(
        &self,
        backup: &Backup<'_>,
        partitions: &[PartitionId],
        mut tell: impl FnMut(u64),
    ) -> Result<Survey, Fatal> {
        let count = partitions.len() as u16;
        let (mut needed_bytes, mut done) = (0, 0);
        let (mut all_ties, mut ends) = (Vec::new(), Vec::new());
        for &partition in partitions {
            let mut room = LogRoom::new(self.segment_bytes, self.peer_address.is_some());
            let (mut ties, mut end) = (Ties::new(partition, count), 0);
            let (mut entries, mut next) = (backup.entries(partition)?, 0);
            while next < self.offset(partition)
                && let Some((header, body)) = entries.next_entry()?
            {
                let records = self.records(partition, &header, body)?;
                let taken = ties.take_entry(&header, body, records);
                taken.map_err(|error| unreadable(partition, &header, &error))?;
                room.add(body.len());
                (next, done) = (header.next_offset().0, done + u64::from(records));
                end = header.meta.base_offset.0 + u64::from(records);
                tell(done);
                if records < header.meta.records {
                    break;
                }
            }
            needed_bytes += room.bytes();
            all_ties.push(ties);
            ends.push(end);
        }
        Ok(Survey { needed_bytes, ties: all_ties, ends })
    }

    fn offset(&self, partition: PartitionId) -> u64 {
        self.to_offset.get(&partition).copied().unwrap_or(u64::MAX)
    }

    /// How many of an entry's records are wanted.
    fn records(
        &self,
        partition: PartitionId,
        header: &EntryHeader,
        body: &[u8],
    ) -> Result<u32, Fatal> {
        let time = self.to_time.map_or(u64::MAX, |time| time.0);
        cut::wanted(header, body, self.offset(partition), time)
            .map_err(|error| unreadable(partition, header, &error))
    }
}

/// Up to which log time the partitions fit that do not fit as they are wanted.
fn fitting(
    backup: &Backup<'_>,
    partitions: &[PartitionId],
    survey: &Survey,
) -> Result<Option<Timestamp>, Fatal> {
    let mut fitting = Fitting::new(&survey.ties, &survey.ends);
    for (&partition, end) in partitions.iter().zip(&survey.ends) {
        let mut entries = backup.entries(partition)?;
        while let Some((header, body)) = entries.next_entry()?
            && header.meta.base_offset.0 < *end
        {
            let taken = fitting.take_entry(partition, &header, body);
            taken.map_err(|error| unreadable(partition, &header, &error))?;
        }
    }
    Ok(fitting.time())
}

fn unreadable(partition: PartitionId, header: &EntryHeader, error: &EntryError) -> Fatal {
    let index = header.meta.index;
    let message = format!("partition {partition}: entry {index} of the backup: {error}");
    Fatal::new(Reason::Damaged, message)
}

/// Writes the log of one partition.
async fn write_partition(
    backup: &Backup<'_>,
    directory: &NewDirectory,
    wanted: &Wanted,
    partition: PartitionId,
    mut tell: impl FnMut(u64),
) -> Result<RestoredPartition, Fatal> {
    let mut writer = Writer::begin(directory, partition, wanted.peer_address.as_deref()).await?;
    let (mut entries, to) = (backup.entries(partition)?, wanted.offset(partition));
    let mut cut_before_chain = None;
    // What is behind the last record wanted is not looked at: it may be damaged.
    while writer.next_offset().0 < to
        && let Some((header, body)) = entries.next_entry()?
    {
        let meta = &header.meta;
        let records = wanted.records(partition, &header, body)?;
        writer.write_first(&header, body, records).await?;
        tell(records.into());
        if records < meta.records {
            let (first, end) = (meta.base_offset.0, header.next_offset().0);
            let is_inside = first < to && to < end;
            cut_before_chain = (is_inside && writer.next_offset().0 < to).then_some(to);
            break;
        }
    }
    Ok(RestoredPartition { log: writer.finish().await?, cut_before_chain })
}
