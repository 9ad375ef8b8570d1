//! Directory entries: what a name means now, and what it would mean after power loss.
//!
//! A change survives power loss once its directory was synced; before that, any subset of the
//! changes may. A rename happens whole or not at all. What lies in a vanished directory vanishes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::rng::Rng;

/// Names one file's content, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inode(pub u64);

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Dir,
    /// A file.
    File(Inode),
}

/// One not yet durable change.
#[derive(Clone, Debug)]
enum Change {
    Link(PathBuf, Node),
    Unlink(PathBuf, Node),
    Rename(PathBuf, PathBuf, Node),
}

impl Change {
    fn dir(&self) -> &Path {
        match self {
            Self::Link(path, _) | Self::Unlink(path, _) | Self::Rename(path, _, _) => parent(path),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Link(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Unlink(path, node) => {
                if names.get(path) == Some(node) {
                    names.remove(path);
                }
            }
            Self::Rename(from, to, node) => {
                if names.get(from) == Some(node) {
                    names.remove(from);
                }
                names.insert(to.clone(), *node);
            }
        }
    }
}

/// The directory tree of one disk.
#[derive(Clone, Debug, Default)]
pub struct Names {
    now: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// Changes since, oldest first, with their number.
    pending: Vec<(u64, Change)>,
    changes: u64,
}

impl Names {
    /// What `path` stands for now.
    pub fn get(&self, path: &Path) -> Option<Node> {
        if is_root(path) { Some(Node::Dir) } else { self.now.get(path).copied() }
    }

    /// The file at `path` now.
    pub fn file(&self, path: &Path) -> io::Result<Inode> {
        match self.get(path) {
            Some(Node::File(inode)) => Ok(inode),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Every file that has a name now.
    pub fn files(&self) -> impl Iterator<Item = (&Path, Inode)> {
        self.now.iter().filter_map(|(path, node)| match node {
            Node::File(inode) => Some((path.as_path(), *inode)),
            Node::Dir => None,
        })
    }

    /// Gives a new file its name.
    pub fn link(&mut self, path: &Path, inode: Inode) -> io::Result<()> {
        self.require_dir(parent(path))?;
        if self.get(path).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change(Change::Link(path.into(), Node::File(inode)));
        Ok(())
    }

    /// Makes a directory and those above it.
    pub fn link_dir(&mut self, path: &Path) -> io::Result<()> {
        match self.get(path) {
            Some(Node::Dir) => return Ok(()),
            Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            None => {}
        }
        self.link_dir(parent(path))?;
        self.change(Change::Link(path.into(), Node::Dir));
        Ok(())
    }

    /// Renames a file inside its directory, replacing what `to` was.
    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(parent(from), parent(to), "the simulated disk renames inside a directory only");
        let inode = self.file(from)?;
        self.change(Change::Rename(from.into(), to.into(), Node::File(inode)));
        Ok(())
    }

    /// Gives durable names to a directory (`None`) or file and to those above it.
    pub fn install(&mut self, path: &Path, file: Option<Inode>) {
        let mut above: Vec<_> = path.ancestors().skip(1).filter(|path| !is_root(path)).collect();
        above.reverse();
        let nodes = above.into_iter().map(|path| (path, Node::Dir));
        for (path, node) in nodes.chain([(path, file.map_or(Node::Dir, Node::File))]) {
            self.now.insert(path.into(), node);
            self.durable.insert(path.into(), node);
        }
    }

    /// Takes a file's name away.
    pub fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let inode = self.file(path)?;
        self.change(Change::Unlink(path.into(), Node::File(inode)));
        Ok(())
    }

    /// Number of the next change: what a sync that starts now does not cover.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Makes the changes to `dir` durable that came before number `before`.
    pub fn sync(&mut self, dir: &Path, before: u64) -> io::Result<()> {
        self.require_dir(dir)?;
        let durable = &mut self.durable;
        self.pending.retain(|(number, change)| {
            let covered = *number < before && change.dir() == dir;
            if covered {
                change.apply(durable);
            }
            !covered
        });
        Ok(())
    }

    /// Names in `dir`, sorted.
    pub fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.require_dir(dir)?;
        let inside = self.now.keys().filter(|path| parent(path) == dir);
        Ok(inside.filter_map(|path| path.file_name().map(PathBuf::from)).collect())
    }

    /// The tree after power loss: durable changes, and of the others those that luck kept.
    /// `keep_percent` is the chance of each.
    pub fn after_crash(&self, rng: &mut Rng, keep_percent: u64) -> Self {
        let mut names = self.durable.clone();
        for (_, change) in &self.pending {
            if rng.percent(keep_percent) {
                change.apply(&mut names);
            }
        }
        // Parents sort before their children, so one pass prunes whole subtrees.
        let mut kept = BTreeMap::new();
        for (path, node) in names {
            if is_root(parent(&path)) || kept.get(parent(&path)) == Some(&Node::Dir) {
                kept.insert(path, node);
            }
        }
        Self { now: kept.clone(), durable: kept, pending: Vec::new(), changes: self.changes }
    }

    fn require_dir(&self, path: &Path) -> io::Result<()> {
        match self.get(path) {
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.pending.push((self.changes, change));
        self.changes += 1;
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn is_root(path: &Path) -> bool {
    path.parent().is_none() || path == Path::new("")
}
