//! The file that a node keeps before, and while, it becomes part of a cluster: its id, and what it
//! has promised. Written by the control thread; the superblock, written later, says the rest.
//!
//! Layout, little-endian: magic "WALN"; CRC-32C over what follows; node id u64; then nothing, or a
//! promise as `GOSSIP.md` has it.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use walengine_replication::gossip::{Founding, Promise, PromiseState};
use walengine_replication::types::NodeId;

use crate::fatal::{Fatal, Reason};
use crate::private_files::sync_dir;

/// Name of the file in the data directory.
pub const NAME: &str = "forming";
/// Name while it is being written.
pub const NAME_NEW: &str = "forming.new";
const MAGIC: [u8; 4] = *b"WALN";
const CRC_AT: usize = 4;
const NODE_AT: usize = 8;
const PROMISE_AT: usize = 16;

/// See the module.
pub struct FormingFile {
    dir: PathBuf,
    node: NodeId,
    promise: Option<Promise>,
}

impl FormingFile {
    /// Reads the file of a data directory; without one a new node id is chosen and saved, unless
    /// `known` is the node's id already.
    pub fn open(dir: &Path, known: Option<NodeId>) -> Result<Self, Fatal> {
        let path = dir.join(NAME);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let random = uuid::Uuid::new_v4().as_u128() as u64;
                let node = known.unwrap_or_else(|| random.max(1));
                let file = Self { dir: dir.to_owned(), node, promise: None };
                file.write()?;
                return Ok(file);
            }
            Err(error) => return Err(unreadable(&path, &error.to_string())),
        };
        let (node, promise) = decode(&bytes).map_err(|why| unreadable(&path, &why))?;
        if known.is_some_and(|known| known != node) {
            return Err(unreadable(&path, "it is another node's"));
        }
        Ok(Self { dir: dir.to_owned(), node, promise })
    }

    /// Checks that the file of a formatted directory, if there is one, is its node's. Changes nothing.
    ///
    /// # Errors
    /// It can't be read, or is another node's.
    pub fn check(dir: &Path, node: NodeId) -> Result<(), Fatal> {
        if dir.join(NAME).exists() { Self::open(dir, Some(node)).map(drop) } else { Ok(()) }
    }

    /// This node, for ever.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The last promise that was saved.
    pub fn promise(&self) -> Option<&Promise> {
        self.promise.as_ref()
    }

    /// How the cluster was formed, if this node was there.
    pub fn founding(&self) -> Option<&Founding> {
        let formed = |promise: &&Promise| promise.state == PromiseState::Formed;
        self.promise.as_ref().filter(formed).map(|promise| &promise.founding)
    }

    /// Makes a promise durable in place of any earlier one.
    pub fn save(&mut self, promise: Promise) -> Result<(), Fatal> {
        self.promise = Some(promise);
        self.write()
    }

    fn write(&self) -> Result<(), Fatal> {
        let (new, path) = (self.dir.join(NAME_NEW), self.dir.join(NAME));
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(&encode(self.node, self.promise.as_ref()))?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            sync_dir(&self.dir)
        };
        write().map_err(|error: std::io::Error| {
            Fatal::new(Reason::Disk, format!("writing {}: {error}", path.display()))
        })
    }
}

fn unreadable(path: &Path, why: &str) -> Fatal {
    let at = path.display();
    Fatal::new(
        Reason::DataDirectory,
        format!("{at} can't be read: {why}; a node that never served may start from an empty dir"),
    )
}

fn encode(node: NodeId, promise: Option<&Promise>) -> Vec<u8> {
    let mut bytes = vec![0; PROMISE_AT];
    bytes[..CRC_AT].copy_from_slice(&MAGIC);
    bytes[NODE_AT..PROMISE_AT].copy_from_slice(&node.to_le_bytes());
    bytes.extend(promise.map(Promise::encode).unwrap_or_default());
    let crc = crc32c::crc32c(&bytes[NODE_AT..]);
    bytes[CRC_AT..NODE_AT].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Result<(NodeId, Option<Promise>), String> {
    let (head, promise) = bytes.split_at_checked(PROMISE_AT).ok_or("it is too short")?;
    if head[..CRC_AT] != MAGIC {
        return Err("it is something else".to_owned());
    }
    let field =
        |at: usize| bytes[at..].first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    if crc32c::crc32c(&bytes[NODE_AT..]) != field(CRC_AT) as u32 {
        return Err("it is damaged".to_owned());
    }
    let node = field(NODE_AT);
    if promise.is_empty() {
        return Ok((node, None));
    }
    Promise::decode(promise).map(|promise| (node, Some(promise))).map_err(|why| why.to_string())
}
