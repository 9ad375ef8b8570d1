//! Names of accounts, as the file has them. Each account that has none gets that by which the file names it, by an event
//! whose id follows from both: an import that is run again names nothing twice, and undoes no later renaming.

use walengine_net::cli::Fatal;
use walengine_net::client::ReadFrom;
use walengine_net::client::blocking::Client;
use walengine_net::client::operation::is_unknown_kind;
use walengine_net::limits::LOOKUP_NAMES_MAX;
use walengine_net::model::{AccountId, NameText};
use walengine_net::{names, say_aside};

use super::names::Names;
use super::summary::Summary;

/// Names the accounts that are used. What can't be a name, or is an id as it stands, is left out.
pub fn name(
    client: &Client,
    known: &Names,
    mut progress: impl FnMut(&dyn Fn(&mut Summary)),
) -> Result<(), Fatal> {
    let client = client.reading(ReadFrom::Linearizable);
    let wanted: Vec<(AccountId, NameText)> = known
        .texts_of_used()
        .filter(|(_, text)| names::is_hashed(text))
        .filter_map(|(id, text)| Some((id, NameText::new(text).ok()?)))
        .collect();
    for some in wanted.chunks(LOOKUP_NAMES_MAX) {
        let ids: Vec<AccountId> = some.iter().map(|(id, _)| *id).collect();
        let found = match client.lookup_names(&ids, &[]) {
            Err(error) if is_unknown_kind(&error) => {
                say_aside!("walengine: the server is of a release that keeps no names");
                return Ok(());
            }
            found => found?,
        };
        let nameless = some.iter().zip(found).filter(|(_, found)| found.is_none());
        let events: Vec<_> = nameless
            .map(|((account_id, name), _)| names::naming(*account_id, *name).to_bytes())
            .collect();
        if events.is_empty() {
            continue;
        }
        progress(&|summary| summary.has_sent = true);
        let submitted = client.submit_all(&events)?;
        let fresh = submitted.outcomes().filter(|one| one.fresh && one.verdict.is_ok()).count();
        progress(&|summary| {
            summary.names += fresh as u64;
            summary.add_tokens(&submitted.tokens);
        });
        if let Some(refused) = submitted.outcomes().find(|one| !one.verdict.is_ok()) {
            say_aside!("walengine: some accounts were not named: {}", refused.verdict.meaning());
        }
    }
    Ok(())
}
