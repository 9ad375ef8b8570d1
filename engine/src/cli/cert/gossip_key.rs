//! `cert gossip-key`: the key that seals the nodes' gossip, and its three steps to another one. The file
//! holds one key or two, a line of 64 hexadecimal digits each: the first seals, both open.

use std::path::{Path, PathBuf};

use walengine_net::say;
use walengine_replication::gossip::GossipKeys;

use super::directory::{self, AUTHORITY, Place, Staged};
use super::read::unreadable;
use crate::config::GOSSIP_KEY_FILE;
use crate::fatal::{Fatal, Reason};
use crate::private_files::{hex, parent_of};

/// Make a key that seals the gossip of nodes, or pass to another one
///
/// Makes a file with a new random key; without FILE it is that of the authority, `DIR/ca/gossip.key`.
///
/// The first key in a file seals, and a second one only opens. So a cluster passes to another key while it
/// runs, in three steps: --next, --use-next, --drop-old. Each changes the file, and its copies in the
/// directories of nodes in DIR if it is the authority's. Copy them to all nodes after each step, and go on
/// when every node has them: a running node reads its file again by itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  walengine cert gossip-key gossip.key\n  \
    walengine cert gossip-key --next        # then copy certs/node-N/gossip.key to node N, each N\n  \
    walengine cert gossip-key --use-next    # and copy again\n  \
    walengine cert gossip-key --drop-old    # and copy again")]
pub struct Arguments {
    /// The file, instead of the authority's
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Put a new key behind the one that seals: nodes that have both open both
    #[arg(long, group = "step")]
    next: bool,

    /// Seal with the second key, and still open with the first
    #[arg(long, group = "step")]
    use_next: bool,

    /// Take out the key that no longer seals
    #[arg(long, group = "step")]
    drop_old: bool,

    #[command(flatten)]
    place: Place,
}

/// The keys of a file, as it writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Keys(Vec<String>);

const KEY_BYTES: usize = 32;

/// Makes a key, or takes a step.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let place = &arguments.place.dir;
    let own = place.join(AUTHORITY).join(GOSSIP_KEY_FILE);
    let path = arguments.file.as_ref().unwrap_or(&own);
    let step: Option<fn(Keys) -> Result<Keys, String>> =
        match (arguments.next, arguments.use_next, arguments.drop_old) {
            (true, ..) => Some(Keys::with_next),
            (_, true, _) => Some(Keys::using_next),
            (.., true) => Some(Keys::without_old),
            _ => None,
        };
    let dir = parent_of(path);
    if !dir.is_dir() {
        let make = "`walengine cert ca` makes the authority's, and a path to a file names another";
        let message = format!("there is no directory {}: {make}", dir.display());
        return Err(Fatal::new(Reason::File, message));
    }
    let Some(step) = step else {
        if directory::exists(path) {
            let message = format!(
                "{} exists already, and is left as it is: --next puts a second key into it",
                path.display()
            );
            return Err(Fatal::new(Reason::File, message));
        }
        directory::make_file(path, new_line()?.as_bytes())?;
        say!("made {}: give it to every node, and to nobody else", path.display());
        return Ok(());
    };
    let _lock = directory::lock(dir)?;
    let before = Keys::read(path)?;
    let after = step(before.clone()).map_err(|why| unreadable(path, &why))?;
    replace(path, &after.to_text())?;
    say!("{} has {} now", path.display(), after.in_words());
    if path == &own {
        copy(place, &before, &after)?;
    }
    Ok(())
}

/// Puts the keys into the directories of nodes which have one of them.
fn copy(place: &Path, before: &Keys, after: &Keys) -> Result<(), Fatal> {
    let mut copied = Vec::new();
    for dir in directory::within(place)? {
        let path = dir.join(GOSSIP_KEY_FILE);
        if dir == place.join(AUTHORITY) || !path.exists() {
            continue;
        }
        let its = Keys::read(&path)?;
        if its.0.iter().any(|key| before.0.contains(key) || after.0.contains(key)) {
            replace(&path, &after.to_text())?;
            copied.push(dir.file_name().unwrap_or_default().to_string_lossy().into_owned());
        } else {
            say!("{} has other keys, and is left as it is", path.display());
        }
    }
    if !copied.is_empty() {
        say!("and in {}: copy {GOSSIP_KEY_FILE} from there to each node", copied.join(", "));
    }
    Ok(())
}

fn replace(path: &Path, text: &str) -> Result<(), Fatal> {
    Staged::of_file(path, text.as_bytes())?.commit()
}

/// A file with a new key.
pub fn new_line() -> Result<String, Fatal> {
    Ok(format!("{}\n", new_key()?))
}

/// The keys in a file, in words.
///
/// # Errors
/// Why it is no file of keys.
pub fn in_words(bytes: &[u8]) -> Result<String, String> {
    Keys::parse(bytes).map(|keys| keys.in_words())
}

fn new_key() -> Result<String, Fatal> {
    Ok(hex(&random::<KEY_BYTES>()?))
}

/// Bytes that nobody can guess.
pub fn random<const BYTES: usize>() -> Result<[u8; BYTES], Fatal> {
    let mut bytes = [0; BYTES];
    let mut filled = 0;
    while filled < BYTES {
        let got =
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty());
        match got {
            Ok(more) => filled += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                let message = format!("this machine gives no random numbers: {error}");
                return Err(Fatal::new(Reason::Preflight, message));
            }
        }
    }
    Ok(bytes)
}

impl Keys {
    fn read(path: &Path) -> Result<Self, Fatal> {
        directory::require_private(path)?;
        Self::parse(&directory::read(path)?).map_err(|why| unreadable(path, &why))
    }

    /// As a node reads it.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let keys = GossipKeys::parse(bytes).map_err(|error| error.to_string())?;
        Ok(Self(keys.all().map(|key| hex(key)).collect()))
    }

    fn to_text(&self) -> String {
        self.0.iter().flat_map(|key| [key.as_str(), "\n"]).collect()
    }

    fn with_next(mut self) -> Result<Self, String> {
        if self.0.len() > 1 {
            return Err(
                "it has a second key already: --use-next seals with it, --drop-old takes it \
                        out"
                .to_owned(),
            );
        }
        self.0.push(new_key().map_err(|error| error.message)?);
        Ok(self)
    }

    fn using_next(mut self) -> Result<Self, String> {
        if self.0.len() < 2 {
            return Err("it has no second key: --next puts one into it".to_owned());
        }
        self.0.swap(0, 1);
        Ok(self)
    }

    fn without_old(mut self) -> Result<Self, String> {
        if self.0.len() < 2 {
            return Err(
                "it has one key only, which is in use: there is none to take out".to_owned()
            );
        }
        self.0.truncate(1);
        Ok(self)
    }

    fn in_words(&self) -> String {
        match self.0.len() {
            1 => "one key".to_owned(),
            _ => "two keys: the first seals, both open".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_steps_pass_from_one_key_to_another() {
        let old = Keys(vec!["5a".repeat(32)]);
        let both = old.clone().with_next().unwrap();
        assert_eq!((both.0.len(), &both.0[0]), (2, &old.0[0]), "the old one still seals");
        let new = both.0[1].clone();
        assert!(both.clone().with_next().unwrap_err().contains("second key already"));
        let used = both.using_next().unwrap();
        assert_eq!(used.0, [new.clone(), old.0[0].clone()]);
        assert_eq!(Keys::parse(used.to_text().as_bytes()), Ok(used.clone()));
        assert_eq!(used.without_old().unwrap().0, [new]);
        assert!(old.clone().using_next().unwrap_err().contains("--next"));
        assert!(old.without_old().unwrap_err().contains("in use"));
    }

    #[test]
    fn a_file_of_keys_is_read_strictly() {
        let key = "5A".repeat(32);
        let parse = |text: &str| Keys::parse(text.as_bytes());
        assert_eq!(parse(&format!("# ours\n\n {key}\r\n")).unwrap().0, [key.to_lowercase()]);
        assert_eq!(Keys::parse(&[0x5a; 32]).unwrap().0, [key.to_lowercase()], "of release 0.1");
        for wrong in ["", "# none\n", &key[1..], &format!("{key}0"), &format!("{key}\n").repeat(3)]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
