//! `support-bundle`: what whoever helps from afar wants to know, in one file, without what is secret.

mod archive;
mod safe;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use walengine_net::client::{ClientError, ServerReport};
use walengine_net::model::PartitionId;
use walengine_net::say_aside;

use super::asking::Asking;
use super::cluster::flat_json;
use super::export::{digest_text, states};
use super::output::Output;
use crate::fatal::Fatal;
use crate::limits::{BUNDLE_FILES_MAX, BUNDLE_LOG_BYTES_MAX};
use crate::private_files::file_failed;
use crate::version::SERVER_VERSION;
use archive::Archive;
use safe::{safe_settings, safe_text};

const COLUMNS: &[(&str, usize)] = &[("name", 44), ("bytes", 0)];

/// Gather what whoever helps from afar wants to know, into FILE
///
/// An archive (tar, packed by gzip) with versions, the status of all nodes, the cluster, digests of the state
/// and, where they are named, the settings, the names and sizes of the files of a data directory, and the last
/// lines of a server's log. What can't be had is said in missing.txt: it is also made when nothing answers.
///
/// No ids, names or balances of accounts are in it, no transfers, no certificates, keys or passwords. What
/// looks like a key or a password in settings and log lines is left out. Look at it before you send it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  walengine support-bundle trouble.tar.gz --data ./data --log /var/log/walengine.log"
)]
pub struct Arguments {
    /// New file, such as trouble.tar.gz
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Settings file of the server
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Data directory on this machine: names and sizes of its files
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// File with the log lines of the server: the last of them
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,

    /// Leave out digests of the state, which take long where there are many accounts
    #[arg(long)]
    no_digest: bool,

    #[command(flatten)]
    asking: Asking,
}

/// What is gathered: files by name, and what could not be had.
#[derive(Default)]
struct Gathered {
    files: Vec<(String, String)>,
    missing: Vec<String>,
}

impl Gathered {
    fn put(&mut self, name: &str, content: Result<String, String>) {
        match content {
            Ok(content) => self.files.push((name.to_owned(), content)),
            Err(why) => self.missing.push(format!("{name}: {why}")),
        }
    }
}

/// Makes the bundle.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let failed = |error: io::Error| file_failed("write", &arguments.file, &error);
    let mut archive = Archive::create(&arguments.file, now).map_err(failed)?;
    let mut gathered = Gathered::default();
    ask(arguments, &mut gathered);
    if let Some(config) = &arguments.config {
        let text = std::fs::read_to_string(config).map_err(|error| error.to_string());
        gathered.put("settings.json", text.and_then(|text| safe_settings(&text)));
    }
    if let Some(data) = &arguments.data {
        gathered.put("files.csv", files(data).map_err(|error| error.to_string()));
    }
    if let Some(log) = &arguments.log {
        let text = last_lines(log).map(|text| safe_text(&text));
        gathered.put("server.log", text.map_err(|error| error.to_string()));
    }
    let missing = gathered.missing.iter().fold(String::new(), |all, one| all + &safe_text(one));
    gathered.files.push(("missing.txt".to_owned(), missing));
    for (name, content) in &gathered.files {
        archive.add(name, content).map_err(failed)?;
    }
    archive.finish().map_err(failed)?;
    for missing in &gathered.missing {
        say_aside!("left out: {missing}");
    }
    say_aside!("look at {} before you send it", arguments.file.display());
    let mut output = Output::new(arguments.asking.format, COLUMNS)?;
    for (name, content) in &gathered.files {
        output.row(&[name.clone(), content.len().to_string()])?;
    }
    output.flush()
}

fn ask(arguments: &Arguments, gathered: &mut Gathered) {
    let mut version = format!("this program: {SERVER_VERSION}\n");
    let client = match arguments.asking.connect() {
        Ok(client) => client,
        Err(error) => {
            gathered.put("version.txt", Ok(version));
            gathered.missing.push(format!("what servers know: {error}"));
            return;
        }
    };
    let info = client.info();
    // Writing to a string can't fail.
    let _ = write!(
        version,
        "server: {}\ncluster: {:032x}\npartitions: {}\n",
        info.server_version, info.cluster.0, info.partitions
    );
    gathered.put("version.txt", Ok(version));
    let cluster = client.cluster_status();
    let nodes: Vec<(String, String)> = cluster
        .iter()
        .flat_map(|cluster| {
            cluster.nodes.values().map(|node| (node.node.to_string(), node.client_address.clone()))
        })
        .filter(|(_, address)| !address.is_empty()) // a node alone does not say its own
        .collect();
    gathered.put(
        "cluster.jsonl",
        cluster.map(|cluster| flat_json(&cluster)).map_err(|error| error.to_string()),
    );
    if nodes.is_empty() {
        gathered.put("status.jsonl", status(&arguments.asking));
    }
    for (node, address) in nodes {
        let asking = Asking { server: address, ..arguments.asking.clone() };
        gathered.put(&format!("status-node-{node}.jsonl"), status(&asking));
    }
    if !arguments.no_digest {
        gathered.put("digest.txt", digests(&arguments.asking));
    }
}

/// The status of one node, a row a line.
fn status(asking: &Asking) -> Result<String, String> {
    let client = asking.connect().map_err(|error| error.to_string())?;
    let mut text = String::new();
    for partition in client.info().partitions() {
        let report = client.server_status(partition);
        let report = report.map_err(|error: ClientError| error.to_string())?;
        status_rows(partition, &report, &mut text);
    }
    Ok(text)
}

/// Rows about the node come with its first partition only.
fn status_rows(partition: PartitionId, report: &ServerReport, text: &mut String) {
    let is_wanted = |of: Option<PartitionId>| of.map_or(partition.0 == 0, |of| of == partition);
    let scope =
        |of: Option<PartitionId>| of.map_or("node".to_owned(), |of| format!("partition {of}"));
    let mut put = |of, name: &str, value: serde_json::Value| {
        let row = serde_json::json!({ "scope": scope(of), "name": name, "value": value });
        let _ = writeln!(text, "{row}"); // as above
    };
    for (of, name, value) in report.numbers.iter().filter(|(of, ..)| is_wanted(*of)) {
        put(*of, name, (*value).into());
    }
    for (of, name, value) in report.texts.iter().filter(|(of, ..)| is_wanted(*of)) {
        put(*of, name, safe_text(value).trim_end().into());
    }
}

fn digests(asking: &Asking) -> Result<String, String> {
    let states = states(asking).map_err(|error| error.to_string())?;
    let line = |(partition, state): (usize, &walengine_net::client::StateSummary)| {
        let digest = digest_text(&state.digest);
        format!("partition {partition}, next offset {}: {digest}\n", state.next_offset)
    };
    Ok(states.iter().enumerate().map(line).collect())
}

/// Names and sizes of the files under a directory. Links are not followed.
fn files(dir: &Path) -> io::Result<String> {
    let mut text = "bytes,name\n".to_owned();
    let (mut open, mut left) = (vec![dir.to_owned()], BUNDLE_FILES_MAX);
    while let Some(at) = open.pop() {
        let mut names: Vec<_> = std::fs::read_dir(&at)?.collect::<io::Result<_>>()?;
        names.sort_by_key(std::fs::DirEntry::file_name);
        for name in names {
            let about = name.metadata()?;
            if about.is_dir() {
                open.push(name.path());
                continue;
            }
            if left == 0 {
                text.push_str("and more\n");
                return Ok(text);
            }
            left -= 1;
            let path = name.path();
            let shown = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
            text.push_str(&safe_text(&format!("{},{shown}", about.len())));
        }
    }
    Ok(text)
}

/// The end of a file, from a line's beginning.
fn last_lines(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let skipped = file.metadata()?.len().saturating_sub(BUNDLE_LOG_BYTES_MAX);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(BUNDLE_LOG_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match text.split_once('\n') {
        Some((_, rest)) if skipped > 0 => Ok(rest.to_owned()),
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_log_is_taken_and_files_are_named_with_sizes() {
        let dir = std::env::temp_dir().join(format!("walengine-last-lines-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("p0000")).unwrap();
        let log = dir.join("p0000/log");
        let line = "x".repeat(99) + "\n";
        std::fs::write(&log, line.repeat(BUNDLE_LOG_BYTES_MAX as usize / 100 + 50)).unwrap();
        let text = last_lines(&log).unwrap();
        assert!(text.len() <= BUNDLE_LOG_BYTES_MAX as usize && text.starts_with(&line));
        std::fs::write(&log, "one\n").unwrap();
        assert_eq!(last_lines(&log).unwrap(), "one\n");
        assert_eq!(files(&dir).unwrap(), "bytes,name\n4,p0000/log\n");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_row_about_the_node_is_there_once() {
        let numbers = vec![
            (None, "cores".to_owned(), 2),
            (Some(PartitionId(0)), "term".to_owned(), 1),
            (Some(PartitionId(1)), "term".to_owned(), 3),
        ];
        let report = ServerReport { numbers, texts: Vec::new() };
        let mut text = String::new();
        for partition in [0, 1] {
            status_rows(PartitionId(partition), &report, &mut text);
        }
        assert_eq!(text.lines().count(), 3, "{text}");
    }
}
