//! The policy file of a running node, looked at again and again.

use std::io;
use std::path::{Path, PathBuf};

use walengine_net::short_file::read_short;

use super::{Policies, Policy};
use crate::limits::POLICY_BYTES_MAX;

/// See the module.
#[derive(Debug)]
pub struct PolicyFile {
    path: PathBuf,
    /// What was found there last, good or not.
    seen: Found,
}

/// What stands at the path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Text(String),
    /// Why it can't be read.
    Unreadable(String),
}

impl PolicyFile {
    /// Puts the policy of a file in force, before anybody is served. If it `may_be_missing` and is, the
    /// policy stays as it is until the file is there.
    ///
    /// # Errors
    /// Why it can't be, for people.
    pub fn open(path: &Path, may_be_missing: bool, policies: &Policies) -> Result<Self, String> {
        let (shown, found) = (path.display(), find(path));
        match &found {
            Found::Nothing if may_be_missing => {}
            Found::Nothing => return Err(format!("there is no policy {shown}")),
            Found::Unreadable(why) => return Err(format!("cannot read policy {shown}: {why}")),
            Found::Text(text) => {
                let policy = Policy::parse(text);
                policies.set(policy.map_err(|error| format!("policy {shown}, {error}"))?);
            }
        }
        Ok(Self { path: path.to_owned(), seen: found })
    }

    /// Puts what the file says in force if that has changed and `agrees` takes it, which is given the text.
    /// What is wrong is told once, and the policy stays as it was. True if something was told.
    pub fn look(
        &mut self,
        policies: &Policies,
        agrees: impl FnOnce(&str) -> Result<(), String>,
    ) -> bool {
        let (shown, found) = (self.path.display(), find(&self.path));
        if found == self.seen {
            return false;
        }
        match &found {
            Found::Text(text) => match Policy::parse(text) {
                Ok(policy) => match agrees(text) {
                    Ok(()) => {
                        tracing::info!("policy {shown} is in force: {} rules", policy.len());
                        policies.set(policy);
                    }
                    Err(why) => tracing::error!(
                        "the change of policy {shown} is not taken, the one before stays in force: {why}"
                    ),
                },
                Err(error) => tracing::error!(
                    "policy {shown}, {error}; the one before stays in force: mend the file, `walengine \
                     policy check` tells when it is right"
                ),
            },
            Found::Nothing => tracing::error!(
                "policy {shown} is gone; the one before stays in force until the node stops: put it back"
            ),
            Found::Unreadable(why) => {
                tracing::error!("cannot read policy {shown}: {why}; the one before stays in force");
            }
        }
        self.seen = found;
        true
    }
}

/// The text of a policy file.
///
/// # Errors
/// Why it can't be read, in words.
pub fn read_policy(path: &Path) -> Result<String, String> {
    match find(path) {
        Found::Text(text) => Ok(text),
        Found::Nothing => Err("it is not there".to_owned()),
        Found::Unreadable(why) => Err(why),
    }
}

/// Reads a policy, which is short.
fn find(path: &Path) -> Found {
    match read_short(path, POLICY_BYTES_MAX) {
        Ok(Some(bytes)) => match String::from_utf8(bytes) {
            Ok(text) => Found::Text(text),
            Err(error) => {
                let from = error.utf8_error().valid_up_to();
                Found::Unreadable(format!("it is not valid UTF-8 from byte {from} on"))
            }
        },
        Ok(None) => Found::Unreadable(format!("it has more than {POLICY_BYTES_MAX} bytes")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
        Err(error) => Found::Unreadable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use walengine_net::identity::{Identity, Role};

    use super::*;

    const GOOD: &str = "[[allow]]\nwho = \"admin/a\"\nmay = [\"admin\"]\n";

    fn may(policies: &Policies, name: &str) -> bool {
        policies.rights(&Identity::new("bank", Role::Admin, name).unwrap()).1.admin
    }

    #[test]
    fn a_broken_or_missing_file_leaves_the_policy_as_it_was() {
        let dir = std::env::temp_dir().join(format!("walengine-policy-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("policy.toml");
        let policies = Policies::default();
        let error = PolicyFile::open(&path, false, &policies).unwrap_err();
        assert!(error.contains("there is no policy"), "{error}");
        let mut file = PolicyFile::open(&path, true, &policies).unwrap();
        assert!(may(&policies, "b"), "without a file every operator may");

        std::fs::write(&path, GOOD).unwrap();
        assert!(file.look(&policies, |_| Ok(())));
        assert!(may(&policies, "a") && !may(&policies, "b"));
        let generation = policies.generation();
        assert!(!file.look(&policies, |_| Ok(())));
        assert_eq!(policies.generation(), generation, "nothing has changed");

        for broken in ["[[allow]]\nwho = 3\n", "\u{0}", &"#".repeat(POLICY_BYTES_MAX as usize + 1)]
        {
            std::fs::write(&path, broken).unwrap();
            assert!(
                file.look(&policies, |_| Ok(())) && !file.look(&policies, |_| Ok(())),
                "told once"
            );
            assert!(may(&policies, "a") && policies.generation() == generation);
            assert!(PolicyFile::open(&path, true, &policies).is_err());
        }
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(file.look(&policies, |_| Ok(())) && !file.look(&policies, |_| Ok(())), "told once");
        std::fs::remove_file(&path).unwrap();
        assert!(file.look(&policies, |_| Ok(())) && !file.look(&policies, |_| Ok(())), "told once");
        assert!(may(&policies, "a") && policies.generation() == generation);

        std::fs::write(&path, GOOD.replace("admin/a", "admin/c")).unwrap();
        let no = |_: &str| Err("it can't be written down".to_owned());
        assert!(file.look(&policies, no) && !file.look(&policies, no), "told once");
        assert!(may(&policies, "a") && policies.generation() == generation);

        std::fs::write(&path, GOOD.replace("admin/a", "admin/b")).unwrap();
        assert!(file.look(&policies, |_| Ok(())));
        assert!(may(&policies, "b") && !may(&policies, "a"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
