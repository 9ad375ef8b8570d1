//! The file with the keys of gossip. It is looked at again every second while the node runs, on a thread of
//! its own: a file system that does not answer must not stop gossip.

use std::path::{Path, PathBuf};

use walengine_net::short_file::read_short;
use walengine_replication::gossip::GossipKeys;

use crate::fatal::{Fatal, Reason};
use crate::limits::{KEY_FILE_BYTES_MAX, KEY_FILE_LOOK_EVERY};
use crate::orders::ControlOrder;

/// A key file and what was last read of it.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    keys: GossipKeys,
    /// Why it could not be read at the last look.
    broken: Option<String>,
}

/// What a look at the file has shown.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Same,
    Other(GossipKeys),
    /// It can't be read; said once for each reason.
    Broken(String),
}

impl KeyFile {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// It can't be read, or holds no keys.
    pub fn open(path: PathBuf) -> Result<Self, Fatal> {
        let keys = read(&path).map_err(|why| {
            let make = "`walengine cert gossip-key FILE` makes one";
            let message = format!("key file {}: {why}; {make}", path.display());
            Fatal::new(Reason::File, message)
        })?;
        Ok(Self { path, keys, broken: None })
    }

    /// What it held last.
    pub fn keys(&self) -> &GossipKeys {
        &self.keys
    }

    /// Looks at the file from now on, and hands other keys to the control thread, until that has ended.
    pub fn watch(mut self, control: flume::Sender<ControlOrder>) {
        let watch = move || {
            while !control.is_disconnected() {
                std::thread::sleep(KEY_FILE_LOOK_EVERY);
                let path = self.path.display().to_string();
                match self.look() {
                    Look::Same => {}
                    Look::Other(keys) => {
                        tracing::info!("key file {path}: {keys:?} from now on");
                        let _ = control.send(ControlOrder::Keys(keys)); // it may have ended
                    }
                    Look::Broken(why) => tracing::error!(
                        "key file {path}: {why}; the keys that it held before stay in force until it \
                         is mended"
                    ),
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("keys".to_owned()).spawn(watch) {
            tracing::error!("cannot start a thread: {error}; another key needs a restart");
        }
    }

    fn look(&mut self) -> Look {
        match read(&self.path) {
            Err(why) if self.broken.as_ref() == Some(&why) => Look::Same,
            Err(why) => {
                self.broken = Some(why.clone());
                Look::Broken(why)
            }
            Ok(keys) => {
                self.broken = None;
                if keys == self.keys {
                    return Look::Same;
                }
                self.keys = keys.clone();
                Look::Other(keys)
            }
        }
    }
}

fn read(path: &Path) -> Result<GossipKeys, String> {
    let found = read_short(path, KEY_FILE_BYTES_MAX).map_err(|error| error.to_string())?;
    let bytes = found.ok_or_else(|| format!("it is longer than {KEY_FILE_BYTES_MAX} bytes"))?;
    GossipKeys::parse(&bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(byte: u8) -> String {
        format!("{byte:02x}").repeat(32)
    }

    #[test]
    fn other_keys_are_taken_and_a_broken_file_is_told_once_and_changes_nothing() {
        let dir = std::env::temp_dir().join(format!("walengine-keys-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("gossip.key");
        std::fs::write(&path, hex(1)).unwrap();

        let mut file = KeyFile::open(path.clone()).unwrap();
        let (old, both) = (GossipKeys::one([1; 32]), GossipKeys::two([1; 32], [2; 32]));
        assert_eq!(file.look(), Look::Same);
        assert_eq!(file.keys(), &old);
        for broken in ["", "xy", &"7".repeat(70_000)] {
            std::fs::write(&path, broken).unwrap();
            assert!(matches!(file.look(), Look::Broken(_)), "{broken:.9}");
            assert_eq!(file.look(), Look::Same, "it was told");
            assert_eq!(file.keys(), &old);
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(file.look(), Look::Broken(_)));
        std::fs::write(&path, hex(1)).unwrap();
        assert_eq!(file.look(), Look::Same, "it is as it was");
        std::fs::write(&path, format!("{}\n{}\n", hex(1), hex(2))).unwrap();
        assert_eq!(file.look(), Look::Other(both));
        assert_eq!(file.look(), Look::Same);
        let error = KeyFile::open(dir.join("none")).unwrap_err();
        assert!(error.message.contains("walengine cert gossip-key FILE"), "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
