//! The client without `async`: the [`tokio`](super::tokio) client on a runtime of its own, on the
//! thread that calls. Bytes move while a method is being called, and only then.
//!
//! # Panics
//! Its methods panic on a thread that is inside a tokio runtime, and so in the callback of
//! [`Client::submit_pipelined`].

use std::sync::Arc;
use std::time::Duration;

use ::tokio::runtime::{Builder, Runtime};

use crate::message::IdNamespace;
use crate::model::{Account, AccountId, EventBytes, EventId, NameText, Offset, PartitionId, Token};

use super::methods::methods;
use super::{
    AccountsAt, AccountsPage, AdminOutcome, Batch, ClientError, ClusterInfo, ClusterReport, Config,
    DescribedLedger, EntriesToImport, EventDecision, IdVerdict, ImportedSome, NamesPage, Page,
    ReadFrom, ReservationsPage, ServerReport, StateSummary, Submitted, tokio as on_tokio,
};

/// Handle to a cluster. Clones share its connections; the last one closes them.
#[derive(Clone)]
pub struct Client {
    inner: on_tokio::Client,
    runtime: Arc<Runtime>,
}

impl Client {
    /// Connects and learns what the cluster is. Fails at once if there is no server. A connection
    /// that is lost later is made again, until a call's deadline.
    pub fn connect(config: Config) -> Result<Self, ClientError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime
            .map_err(|error| ClientError::unreachable(&config.addresses.join(","), &error))?;
        let inner = runtime.block_on(on_tokio::Client::connect(config))?;
        Ok(Self { inner, runtime: Arc::new(runtime) })
    }

    /// What the cluster is.
    pub fn info(&self) -> &ClusterInfo {
        self.inner.info()
    }

    /// A client over the same connections, whose reads and subscriptions are answered elsewhere.
    #[must_use]
    pub fn reading(&self, read_from: ReadFrom) -> Self {
        Self { inner: self.inner.reading(read_from), runtime: self.runtime.clone() }
    }

    /// The log from `from` on, as it grows, from where reads are answered. Nothing is sent before
    /// the first [`Subscription::next`].
    pub fn subscribe(&self, partition: PartitionId, from: Offset) -> Subscription {
        let inner = self.inner.subscribe(partition, from);
        Subscription { inner, runtime: self.runtime.clone() }
    }
}

/// The log of a partition as it grows. A lost connection or node does not end it: it resumes where
/// it was, so that pages neither repeat nor leave out a record. Ends when it is dropped.
pub struct Subscription {
    inner: on_tokio::Subscription,
    runtime: Arc<Runtime>,
}

impl Subscription {
    /// Where the next page starts.
    pub fn next_offset(&self) -> Offset {
        self.inner.next_offset()
    }

    /// Why there is no connection now. It is made anew all the time; `None` while it is open.
    pub fn trouble(&self) -> Option<ClientError> {
        self.inner.trouble()
    }
}

/// Each method as a function that waits for its end.
macro_rules! waiting {
    ($(impl $type:ident {
        $(
            $(#[$attribute:meta])*
            pub async fn $name:ident(
                &$($receiver:ident)+ $(, $argument:ident: $class:ty)* $(,)?
            ) $(-> $output:ty)? $body:block
        )*
    })*) => {
        $(impl $type {
            $(
                $(#[$attribute])*
                pub fn $name(&$($receiver)+, $($argument: $class),*) $(-> $output)? {
                    let face = waiting!(@self $($receiver)+);
                    face.runtime.block_on(face.inner.$name($($argument),*))
                }
            )*
        })*
    };
    (@self mut $receiver:ident) => { $receiver };
    (@self $receiver:ident) => { $receiver };
}

methods!(waiting);
