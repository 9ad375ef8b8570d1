//! A node that serves alone, with one partition, and a PostgreSQL that it is projected into.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use walengine_net::client::blocking::Client;
use walengine_net::model::PartitionId;

use crate::log_fold::Folded;
use crate::mixed_events::Mixed;
use crate::postgres::Postgres;
use crate::projector::{Projecting, Projector};
use crate::server::{Launch, Server, TestDir};

const PARTITION: PartitionId = PartitionId(0);
/// Pending transfers of a load expire within it.
const EXPIRED_WITHIN: Duration = Duration::from_millis(2_500);

/// See the module. No projector runs yet.
#[allow(missing_debug_implementations, reason = "tests print what is wrong in it, never all of it")]
pub struct ProjectedNode {
    /// The database.
    pub postgres: Postgres,
    /// The node.
    pub server: Server,
    /// Its client.
    pub client: Client,
    /// What is written next.
    pub mixed: Mixed,
    /// How to start a projector from the one to the other.
    pub projecting: Projecting,
}

impl ProjectedNode {
    /// A node that has accounts, and an empty database.
    pub fn start(dir: &TestDir, seed: u64) -> Self {
        Self::with(dir, seed, Postgres::start(&dir.path().join("pg")))
    }

    /// The same, with this database.
    pub fn with(dir: &TestDir, seed: u64, postgres: Postgres) -> Self {
        Self::at(Ipv4Addr::LOCALHOST, dir, seed, postgres)
    }

    /// The same, with a node that listens at this address.
    pub fn at(address: Ipv4Addr, dir: &TestDir, seed: u64, postgres: Postgres) -> Self {
        let launch = Launch::new(dir.path()).set("--partitions", "1");
        // Nobody else is on the networks of tests.
        let launch = launch.set("--insecure", "true");
        let server = launch.set("--listen", &format!("{address}:0")).serve();
        let client = server.client();
        let mixed = Mixed::new(seed, PARTITION, 1);
        client.submit(PARTITION, &mixed.accounts()).unwrap();
        let projecting =
            Projecting::new(dir.path(), &server.address().to_string(), &postgres.url());
        Self { postgres, server, client, mixed, projecting }
    }

    /// With a projector that has projected a load.
    pub fn projected(dir: &TestDir, seed: u64, batches: usize, events: usize) -> (Self, Projector) {
        let mut node = Self::start(dir, seed);
        let mut projector = node.projecting.spawn();
        node.load(batches, events);
        node.comes_to_the_end(&mut projector);
        (node, projector)
    }

    /// Stops the projector and the node.
    pub fn stop(&mut self, projector: &mut Projector) {
        projector.stop();
        self.server.stop();
    }

    /// Writes so many batches of so many events.
    pub fn load(&mut self, batches: usize, events: usize) {
        for _ in 0..batches {
            let batch = self.mixed.batch(events);
            self.client.submit(PARTITION, &batch).unwrap();
        }
    }

    /// Offset behind the newest record.
    pub fn end(&mut self) -> u64 {
        self.client.list_accounts(PARTITION, None, 1, &[]).unwrap().next_offset.0
    }

    /// Waits until all is projected, what expires included, and holds it against a fold of the log.
    pub fn comes_to_the_end(&mut self, projector: &mut Projector) {
        let end = self.end();
        projector.wait_until_at(&self.postgres, &[end]);
        thread::sleep(EXPIRED_WITHIN);
        let folded = Folded::read(&mut self.client);
        projector.wait_until_at(&self.postgres, &folded.ends);
        folded.agrees_with(&self.postgres);
    }
}
