//! What a statement is made of, however it is ordered.

use walengine_net::client::ReadFrom;
use walengine_net::client::blocking::Client;
use walengine_net::model::{Account, Offset, PartitionId};

use super::backwards::Line;
use crate::effect::Whose;
use crate::fatal::Fatal;

/// What part of a partition's log was read.
pub struct Covered {
    /// Whose.
    pub partition: PartitionId,
    /// The first offset, and behind the last.
    pub offsets: [Offset; 2],
    /// Its state there.
    pub account: Account,
}

/// What was found.
#[derive(Default)]
pub struct Found {
    /// In their order.
    pub lines: Vec<Line>,
    /// A partition that has no such account is not in it.
    pub covered: Vec<Covered>,
    /// There are older rows.
    pub is_cut: bool,
}

/// The account in a partition, and what that state includes: everything below an offset.
///
/// # Errors
/// The server does not answer.
pub fn now(client: &Client, whose: Whose) -> Result<Option<(Account, Offset)>, Fatal> {
    let sure = client.reading(ReadFrom::Linearizable);
    let found = sure.accounts_of_partition(whose.here, &[whose.account], &[])?;
    let account = found.accounts.into_iter().flatten().next();
    Ok(account.map(|account| (account, found.next_offset)))
}
