//! Every method of the clients that asks a server for something, written once.
//!
//! [`methods`] hands the table to a face. [`tokio`](super::tokio) takes it as it stands;
//! [`blocking`](super::blocking) makes a function of each method that waits for its end. What a
//! method asks, and what the answers mean, is an [`operation`](super::operation).

macro_rules! methods {
    ($face:ident) => { $face! {

impl Client {
    /// Submits one batch to one partition. Sent again with the same ids when a connection is
    /// lost; a repeat gets the first verdict. There are tokens of all partitions that have a part in it:
    /// of what was accepted before, of those whose leaders answer now; of the voiding of a reservation, of its home only.
    pub async fn submit(
        &self,
        partition: PartitionId,
        events: &[EventBytes],
    ) -> Result<Submitted, ClientError> {
        let (since, flight) = (Instant::now(), self.launch_events(partition, events).await);
        self.land_events(partition, events, flight, since).await
    }

    /// Submits events of any partitions, and any number of them. They are split at partitions and
    /// limits, never inside a chain, and the batches are sent at once. An error says nothing about
    /// the other batches.
    pub async fn submit_all(&self, events: &[EventBytes]) -> Result<Submitted, ClientError> {
        let split = operation::split_by_partition(self.info(), events)?;
        let mut results = vec![Submitted::default(); split.batches.len()];
        let mut failed = None;
        let batches = split.batches.iter().cloned();
        let done = |index: usize, result| match result {
            Ok(result) => results[index] = result,
            Err(error) => failed = Some(error),
        };
        self.submit_pipelined(batches, PIPELINE_DEPTH_DEFAULT, done).await;
        match failed {
            Some(error) => Err(error),
            None => Ok(operation::merge(&split, &results)),
        }
    }

    /// Creates accounts. An account that exists with the same fields is a repeat.
    pub async fn create_accounts(&self, accounts: &[Account]) -> Result<Submitted, ClientError> {
        let events: Vec<_> = accounts.iter().map(Account::to_bytes).collect();
        self.submit_all(&events).await
    }

    /// Submits many batches with up to `depth` in flight, and calls `done` for each in order.
    /// Batches of a partition are decided in order, unless the server was busy in between.
    pub async fn submit_pipelined(
        &self,
        batches: impl IntoIterator<Item = Batch>,
        depth: usize,
        done: impl FnMut(usize, Result<Submitted, ClientError>),
    ) {
        let mut done = done;
        let mut flying = VecDeque::new();
        for (index, batch) in batches.into_iter().enumerate() {
            if flying.len() >= depth.max(1)
                && let Some((index, batch, flight, since)) = flying.pop_front()
            {
                let Batch { partition, events } = &batch;
                done(index, self.land_events(*partition, events, flight, since).await);
            }
            let since = Instant::now();
            let flight = self.launch_events(batch.partition, &batch.events).await;
            flying.push_back((index, batch, flight, since));
        }
        for (index, batch, flight, since) in flying {
            let Batch { partition, events } = &batch;
            done(index, self.land_events(*partition, events, flight, since).await);
        }
    }

    /// Appends opaque records to one partition. With `expected`, the first must get that offset,
    /// the second the next, and so on.
    pub async fn append_records(
        &self,
        partition: PartitionId,
        records: &[(EventId, &[u8])],
        expected: Option<Offset>,
    ) -> Result<Submitted, ClientError> {
        let plan = operation::append_records(self.info(), partition, records, expected)?;
        self.write(plan, || WriteIds::of_records(partition, records)).await
    }

    /// Accounts by id, in the order of `ids`. The state includes `tokens`. An id that is not found is
    /// asked of the leader: there was no such account when this was called.
    pub async fn lookup_accounts(
        &self,
        ids: &[AccountId],
        tokens: &[Token],
    ) -> Result<Vec<Option<Account>>, ClientError> {
        let since = Instant::now();
        let plan = operation::lookup_accounts(self.info(), ids, self.wants(tokens))?;
        let mut found = self.run(plan).await?;
        let missing = operation::missing(ids, &found);
        if let (false, Some(reading)) = (missing.is_empty(), self.confirming(tokens)) {
            let plan = operation::lookup_accounts(self.info(), &missing, reading)?;
            operation::fill(&mut found, self.run_since(since, plan).await?);
        }
        Ok(found)
    }

    /// Accounts by id as one partition has them, in the order of `ids`: of a striped one, its stripe there. With the
    /// offset that says which state that is.
    pub async fn accounts_of_partition(
        &self,
        partition: PartitionId,
        ids: &[AccountId],
        tokens: &[Token],
    ) -> Result<AccountsAt, ClientError> {
        let reading = self.wants(tokens);
        self.run(operation::accounts_of_partition(self.info(), partition, ids, reading)?).await
    }

    /// Transfers, guards and closes by id, in the order of `ids`. Asks every partition. An id that is
    /// not found is asked of the leaders: it was not decided when this was called.
    pub async fn lookup_transfers(
        &self,
        ids: &[EventId],
        tokens: &[Token],
    ) -> Result<Vec<Option<EventDecision>>, ClientError> {
        let since = Instant::now();
        let plan = operation::lookup_transfers(self.info(), ids, self.wants(tokens))?;
        let mut found = self.run(plan).await?;
        let missing = operation::missing(ids, &found);
        if let (false, Some(reading)) = (missing.is_empty(), self.confirming(tokens)) {
            let plan = operation::lookup_transfers(self.info(), &missing, reading)?;
            operation::fill(&mut found, self.run_since(since, plan).await?);
        }
        Ok(found)
    }

    /// Verdicts by id, in the order of `ids`. `None`, which is asked of the leaders, says that the id
    /// was not decided when this was called. A request in flight may decide it yet.
    pub async fn status(
        &self,
        namespace: IdNamespace,
        ids: &[u128],
        tokens: &[Token],
    ) -> Result<Vec<Option<IdVerdict>>, ClientError> {
        let since = Instant::now();
        let plan = operation::status(self.info(), namespace, ids, self.wants(tokens))?;
        let mut found = self.run(plan).await?;
        let missing = operation::missing(ids, &found);
        if let (false, Some(reading)) = (missing.is_empty(), self.confirming(tokens)) {
            let plan = operation::status(self.info(), namespace, &missing, reading)?;
            operation::fill(&mut found, self.run_since(since, plan).await?);
        }
        Ok(found)
    }

    /// A page of a partition's accounts. `after` is `None` for the first page.
    pub async fn list_accounts(
        &self,
        partition: PartitionId,
        after: Option<u64>,
        limit: usize,
        tokens: &[Token],
    ) -> Result<AccountsPage, ClientError> {
        let reading = self.wants(tokens);
        self.run(operation::list_accounts(self.info(), partition, after, limit, reading)?).await
    }

    /// A page of a partition's open reservations, and of those that wait for another partition's word. `after` is `None`
    /// for the first page. What begins or ends between two pages may be on one or not.
    pub async fn list_reservations(
        &self,
        partition: PartitionId,
        after: Option<u64>,
        limit: usize,
        tokens: &[Token],
    ) -> Result<ReservationsPage, ClientError> {
        let reading = self.wants(tokens);
        self.run(operation::list_reservations(self.info(), partition, after, limit, reading)?).await
    }

    /// What accounts are called, in the order of `ids`; `None` for those without a name.
    pub async fn lookup_names(
        &self,
        ids: &[AccountId],
        tokens: &[Token],
    ) -> Result<Vec<Option<NameText>>, ClientError> {
        self.run(operation::lookup_names(self.info(), ids, self.wants(tokens))?).await
    }

    /// A page of a partition's accounts whose names begin so, whatever is in capitals; empty: of all that have one.
    /// `after` is `None` for the first page.
    pub async fn find_names(
        &self,
        partition: PartitionId,
        prefix: &str,
        after: Option<u128>,
        limit: usize,
        tokens: &[Token],
    ) -> Result<NamesPage, ClientError> {
        let reading = self.wants(tokens);
        self.run(operation::find_names(self.info(), partition, prefix, after, limit, reading)?)
            .await
    }

    /// The ledgers that were described, ascending: what their amounts are.
    pub async fn ledgers(&self, tokens: &[Token]) -> Result<Vec<DescribedLedger>, ClientError> {
        self.run(operation::ledgers(self.info(), self.wants(tokens))?).await
    }

    /// A page of a partition's log: the entry that holds `from`, and those after it.
    pub async fn read_log(
        &self,
        partition: PartitionId,
        from: Offset,
        bytes_max: usize,
        tokens: &[Token],
    ) -> Result<Page, ClientError> {
        let reading = self.wants(tokens);
        self.run(operation::read_log(self.info(), partition, from, bytes_max, reading)?).await
    }

    /// The state of a partition at the end of its log, with a digest to compare: that of the leader,
    /// which includes everything that was acknowledged before.
    pub async fn state_digest(&self, partition: PartitionId) -> Result<StateSummary, ClientError> {
        self.state_digest_holding(partition, Duration::ZERO).await
    }

    /// As [`Self::state_digest`], and for a while after that moment, at most [`crate::limits::HOLD_MILLIS_MAX`],
    /// the partition exchanges nothing with others: states that are asked for at once then fit each other.
    pub async fn state_digest_holding(
        &self,
        partition: PartitionId,
        hold: Duration,
    ) -> Result<StateSummary, ClientError> {
        self.run(operation::state_digest(self.info(), partition, hold)?).await
    }

    /// Has a partition take entries of another cluster's log, with their log times and verdicts. Sent
    /// again when a connection is lost; the state then says that they are there.
    pub async fn import_log(
        &self,
        partition: PartitionId,
        entries: &EntriesToImport,
    ) -> Result<ImportedSome, ClientError> {
        self.run(operation::import_log(self.info(), partition, entries)?).await
    }

    /// A page of a partition's log by index: the entry at `from_index`, counted from 1, and those after
    /// it, also those without records. Every hash of the chain can be checked on them. Empty behind the
    /// last one.
    pub async fn read_entries(
        &self,
        partition: PartitionId,
        from_index: u64,
        bytes_max: usize,
        tokens: &[Token],
    ) -> Result<Page, ClientError> {
        let reading = self.wants(tokens);
        let plan =
            operation::read_entries(self.info(), partition, from_index, bytes_max, reading)?;
        self.run(plan).await
    }

    /// Status of the server, from the shard that serves `partition`.
    pub async fn server_status(&self, partition: PartitionId) -> Result<ServerReport, ClientError> {
        self.run(operation::server_status(partition)?).await
    }

    /// The cluster as the nodes at all of the caller's addresses and all leaders report it; as all
    /// nodes do, if a leader is not found otherwise. Of each partition the highest term counts. Fails
    /// only if none of the caller's addresses answers.
    pub async fn cluster_status(&self) -> Result<ClusterReport, ClientError> {
        let mut views = Views::default();
        self.ask_nodes(&operation::named_routes(self.info(), self.addresses()), &mut views).await;
        if views.found.is_empty() {
            return Err(views.failed.unwrap_or(ClientError::Closed));
        }
        let leaders = operation::unasked_leaders(&views.found);
        let leaders: Vec<_> = leaders.into_iter().map(|one| (one, Route::Leader)).collect();
        self.ask_nodes(&leaders, &mut views).await;
        // A leader that is cut off names none, or itself, and takes the others for dead.
        let unasked = operation::unasked_nodes(&views.found);
        self.know(&unasked.nodes);
        self.ask_nodes(&unasked.routes, &mut views).await;
        Ok(operation::merge_views(&views.found))
    }

    /// Asks the partition's leader to hand leadership to `to`, or to the node that it prefers.
    pub async fn transfer_leadership(
        &self,
        partition: PartitionId,
        to: Option<u64>,
    ) -> Result<AdminOutcome, ClientError> {
        self.run(operation::transfer_leadership(partition, to)?).await
    }

    /// Asks the partition's leader to remove a node's replica from the group.
    pub async fn remove_node(
        &self,
        partition: PartitionId,
        node: u64,
    ) -> Result<AdminOutcome, ClientError> {
        self.run(operation::remove_node(partition, node)?).await
    }

    /// Asks the partition's leader to take a node into the group, where nothing else proves that it belongs to
    /// the cluster.
    pub async fn admit_node(
        &self,
        partition: PartitionId,
        node: u64,
    ) -> Result<AdminOutcome, ClientError> {
        self.run(operation::admit_node(partition, node)?).await
    }

    /// Asks the caller's node to leave the cluster. Refused if its id is not `node`, or if a partition would
    /// be left without a majority.
    pub async fn leave(&self, node: u64) -> Result<AdminOutcome, ClientError> {
        self.run(operation::leave(node)?).await
    }

    /// The id of the node at the caller's address.
    pub async fn home_node(&self) -> Result<u64, ClientError> {
        self.run(operation::home_node()?).await
    }
}

impl Subscription {
    /// Waits for the next page; for ever if the log does not grow.
    #[allow(clippy::should_implement_trait, reason = "an error ends no iteration")]
    pub async fn next(&mut self) -> Result<Page, ClientError> {
        self.next_page().await
    }

    /// Waits for the next page, at most for `wait`. `None` if the log did not grow.
    pub async fn next_within(&mut self, wait: Duration) -> Result<Option<Page>, ClientError> {
        match timeout(wait, self.next_page()).await {
            Ok(page) => page.map(Some),
            Err(_) => Ok(None),
        }
    }
}

    }};
}

pub(super) use methods;

/// The two faces are the same: this does not compile if one lacks a row of the table or gives it
/// another signature, and the test looks at what stands beside the table.
#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::client::{
        AccountsAt, AccountsPage, AdminOutcome, Batch, ClientError, ClusterReport, DescribedLedger,
        EntriesToImport, EventDecision, IdVerdict, ImportedSome, NamesPage, Page, ReservationsPage,
        ServerReport, StateSummary, Submitted, blocking, tokio as on_tokio,
    };
    use crate::message::IdNamespace;
    use crate::model::{
        Account, AccountId, EventBytes, EventId, NameText, Offset, PartitionId, Token,
    };

    macro_rules! calls {
        ($(impl $type:ident {
            $(
                $(#[$attribute:meta])*
                pub async fn $name:ident(
                    &$($receiver:ident)+ $(, $argument:ident: $class:ty)* $(,)?
                ) $(-> $output:ty)? $body:block
            )*
        })*) => {
            mod of_tokio {
                use super::*;
                $($(
                    pub async fn $name(
                        face: &mut on_tokio::$type, $($argument: $class),*
                    ) $(-> $output)? {
                        face.$name($($argument),*).await
                    }
                )*)*
            }
            mod of_blocking {
                use super::*;
                $($(
                    pub fn $name(
                        face: &mut blocking::$type, $($argument: $class),*
                    ) $(-> $output)? {
                        face.$name($($argument),*)
                    }
                )*)*
            }
        };
    }

    #[expect(dead_code, reason = "that it compiles is the test")]
    mod rows {
        use super::*;
        super::super::methods!(calls);
    }

    /// Signatures of public functions in a source file, without `async`, in order of name.
    fn signatures(source: &str) -> Vec<String> {
        let starts = source.match_indices("\n    pub ").map(|(at, _)| at);
        let signature = |at: usize| {
            let words: Vec<_> = source[at..].split_whitespace().collect();
            let words = words.into_iter().take_while(|&word| word != "{");
            words.filter(|&word| word != "async").collect::<Vec<_>>().join(" ")
        };
        let mut signatures: Vec<_> = starts.map(signature).collect();
        signatures.sort_unstable();
        signatures
    }

    #[test]
    fn the_faces_are_the_same_beside_the_table() {
        let on_tokio = signatures(include_str!("tokio.rs"));
        assert_eq!(on_tokio, signatures(include_str!("blocking.rs")));
        let names = ["connect", "info", "next_offset", "reading", "subscribe", "trouble"];
        assert_eq!(on_tokio.len(), names.len(), "a method that asks belongs into the table");
        for (signature, name) in on_tokio.iter().zip(names) {
            assert!(signature.starts_with(&format!("pub fn {name}(")), "{signature}");
        }
    }
}
