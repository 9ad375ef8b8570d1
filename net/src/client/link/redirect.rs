//! A leader that another node has named, and that may not be reachable by the address named.

use std::time::Duration;

use crate::client::ClientError;
use crate::model::PartitionId;

/// Who named whom, and why that leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Redirect {
    by: String,
    leader: String,
    why_not: Option<String>,
}

impl Redirect {
    /// The node at `by` names `leader`. What is known of that address from before stays.
    pub fn note(known: &mut Option<Self>, by: &str, leader: &str) {
        if leader.is_empty() {
            return;
        }
        let why_not = known.take().filter(|known| known.leader == leader);
        let why_not = why_not.and_then(|known| known.why_not);
        *known = Some(Self { by: by.to_owned(), leader: leader.to_owned(), why_not });
    }

    /// The node at `address` could not be talked to.
    pub fn failed(&mut self, address: &str, trouble: &ClientError) {
        if address == self.leader
            && let ClientError::Unreachable { reason, .. } = trouble
        {
            self.why_not = Some(reason.clone());
        }
    }

    /// The error of a request, in the place of one that names an address which the caller never gave.
    pub fn explain(
        &self,
        partition: PartitionId,
        waited: Duration,
        error: ClientError,
    ) -> ClientError {
        let Some(why_not) = &self.why_not else { return error };
        match error {
            ClientError::NoLeader { .. }
            | ClientError::Unreachable { .. }
            | ClientError::Deadline { .. } => {
                let Self { by, leader, .. } = self;
                let reason = format!(
                    "it names {leader} as the leader, which does not answer here ({why_not}): that node \
                     must --advertise an address that its clients reach"
                );
                ClientError::NoLeader { partition, address: by.clone(), reason, waited }
            }
            other => other,
        }
    }
}
