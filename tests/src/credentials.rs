//! Certificates of a cluster for tests, made by the program's own command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use walengine_net::client::Config;
use walengine_net::tls::{CA_FILE, CERTIFICATE_FILE, KEY_FILE, Tls};

use crate::server::{run_command, text};

/// An authority, and a directory for each of those that it knows.
#[derive(Clone, Debug)]
pub struct Credentials {
    dir: PathBuf,
}

impl Credentials {
    /// What is made below `dir`, which exists: nothing yet, unless somebody else has.
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Of the nodes 1 to 3, the clients `payments` and `reports`, the projector `p` and the operator `ops`,
    /// below `dir`. By the policy of all nodes clients may write, and read everything.
    ///
    /// # Panics
    /// If they can't be made.
    pub fn make(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        let credentials = Self::at(dir);
        for command in ["ca --cluster bank", "client payments reports", "projector p", "admin ops"]
        {
            credentials.cert(command);
        }
        let policy = "[[allow]]\nwho = [\"client/*\", \"projector/*\", \"admin/*\"]\n\
                      may = [\"write\", \"read\", \"read-log\", \"admin\"]\n\
                      books = \"all\"\nledgers = \"all\"\n";
        fs::write(credentials.dir.join("certs/ca/policy.toml"), policy).unwrap();
        credentials.cert("node 1 2 3");
        credentials
    }

    /// Runs `walengine cert`, whatever comes of it.
    pub fn run(&self, command: &str) -> Output {
        let arguments: Vec<&str> = ["cert"].into_iter().chain(command.split(' ')).collect();
        run_command(None, &self.dir, &arguments)
    }

    /// Runs `walengine cert`.
    ///
    /// # Panics
    /// If it fails.
    pub fn cert(&self, command: &str) -> String {
        let output = self.run(command);
        assert!(output.status.success(), "cert {command}: {}", text(&output));
        text(&output)
    }

    /// What `--tls` takes: of `node-1`, `client-payments` and so on.
    pub fn of(&self, who: &str) -> PathBuf {
        self.dir.join("certs").join(who)
    }

    /// Makes what a thief has: a copy without the list that his own program would look at.
    ///
    /// # Panics
    /// If there is something at `to`, or it can't be made.
    pub fn steal(&self, who: &str, to: &Path) {
        fs::create_dir(to).unwrap();
        for file in [CA_FILE, CERTIFICATE_FILE, KEY_FILE] {
            fs::copy(self.of(who).join(file), to.join(file)).unwrap();
        }
    }

    /// For connections of the test itself.
    ///
    /// # Panics
    /// If they can't be read.
    pub fn open(&self, who: &str) -> Arc<Tls> {
        Arc::new(Tls::open(&self.of(who)).unwrap())
    }

    /// Settings of a client.
    ///
    /// # Panics
    /// If its credentials can't be read.
    pub fn config(&self, who: &str, addresses: &str) -> Config {
        Config::new(addresses).secured(&self.of(who)).unwrap()
    }
}
