//! `post ID [AMOUNT]` and `void ID`: the end of a reservation.

use walengine_net::client::EventDecision;
use walengine_net::client::blocking::Client;
use walengine_net::model::{Amount, Event, Transfer, TransferFlags};
use walengine_net::names;

use super::{Known, send_transfer};
use crate::cli::amounts::Decimals;
use crate::cli::asking::Asking;
use crate::cli::called::Called;
use crate::cli::ids;
use crate::fatal::{Fatal, Reason};

/// Post a reservation: the money moves
///
/// Posts the pending transfer ID, whole or, with AMOUNT, that much of it; the rest is released. The
/// posting has an id of its own, which is printed before it is sent.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  walengine post stay-77\n  walengine post stay-77 11500")]
pub struct PostArguments {
    /// Id of the pending transfer: a name, a number or a UUID
    #[arg(value_name = "ID", value_parser = ids::name)]
    pending: String,

    /// Decimals, if the ledger was described or with --scale; or else minor units [default: all of it]
    #[arg(value_name = "AMOUNT")]
    amount: Option<String>,

    #[command(flatten)]
    decimals: Decimals,

    #[command(flatten)]
    known: Known,

    #[command(flatten)]
    asking: Asking,
}

/// Void a reservation: all of it is released
///
/// Voids the pending transfer ID. The voiding has an id of its own, which is printed before it is sent.
#[derive(Debug, clap::Args)]
pub struct VoidArguments {
    /// Id of the pending transfer: a name, a number or a UUID
    #[arg(value_name = "ID", value_parser = ids::name)]
    pending: String,

    #[command(flatten)]
    decimals: Decimals,

    #[command(flatten)]
    known: Known,

    #[command(flatten)]
    asking: Asking,
}

/// Posts a reservation.
pub fn run_post(arguments: &PostArguments) -> Result<(), Fatal> {
    let PostArguments { pending, amount, decimals, known, asking } = arguments;
    // What is no amount at any scale is told before anybody is asked.
    if let Some(amount) = amount {
        decimals.check(amount)?;
        if amount.trim_matches(['0', '.']).is_empty() {
            let message = "nothing to post: `walengine void` releases it";
            return Err(Fatal::new(Reason::Usage, message));
        }
    }
    end(asking, known, pending, amount.as_deref(), TransferFlags::POST_PENDING, *decimals)
}

/// Voids a reservation.
pub fn run_void(arguments: &VoidArguments) -> Result<(), Fatal> {
    let VoidArguments { pending, decimals, known, asking } = arguments;
    end(asking, known, pending, None, TransferFlags::VOID_PENDING, *decimals)
}

fn end(
    asking: &Asking,
    known: &Known,
    pending: &str,
    amount: Option<&str>,
    flags: TransferFlags,
    decimals: Decimals,
) -> Result<(), Fatal> {
    let client = asking.connect()?;
    let reservation = reservation(&client, pending)?;
    let decimals = Called::new(&client, decimals)?.decimals(reservation.ledger);
    let amount = amount.map_or(Ok(Amount(0)), |amount| decimals.read(amount))?;
    let end = ending(&reservation, amount, flags);
    send_transfer(&client, Transfer { id: known.id(), ..end }, asking.format, decimals)
}

/// The reservation as it was decided. Its accounts say which partition ends it.
fn reservation(client: &Client, pending: &str) -> Result<Transfer, Fatal> {
    let id = names::event_id(pending);
    let found = client.lookup_transfers(&[id], &[])?.into_iter().flatten().next();
    let nothing = |what: &str| {
        let message = format!("{pending} (id {}) {what}; nothing was sent", ids::whole(id.0));
        Err(Fatal::new(Reason::Findings, message))
    };
    match found {
        None => nothing("was never decided"),
        Some(EventDecision { event: Event::Transfer(transfer), .. })
            if transfer.flags.contains(TransferFlags::PENDING) =>
        {
            Ok(transfer)
        }
        Some(_) => nothing("is no reservation"),
    }
}

/// Names both accounts, so that it finds its way also where one of them is striped.
fn ending(reservation: &Transfer, amount: Amount, flags: TransferFlags) -> Transfer {
    Transfer {
        debit_account_id: reservation.debit_account_id,
        credit_account_id: reservation.credit_account_id,
        pending_id: reservation.id,
        amount,
        flags,
        ..Transfer::default()
    }
}

#[cfg(test)]
mod tests {
    use walengine_net::model::{AccountId, Code, EventId, LedgerId};

    use super::*;

    #[test]
    fn an_end_names_both_accounts_and_leaves_the_rest_to_the_reservation() {
        let reservation = Transfer {
            id: EventId(7),
            debit_account_id: AccountId(1),
            credit_account_id: AccountId(2),
            amount: Amount(100),
            ledger: LedgerId(3),
            code: Code(4),
            timeout_seconds: 60,
            flags: TransferFlags::PENDING,
            ..Transfer::default()
        };
        let end = ending(&reservation, Amount(0), TransferFlags::VOID_PENDING);
        let expected = Transfer {
            debit_account_id: AccountId(1),
            credit_account_id: AccountId(2),
            pending_id: EventId(7),
            flags: TransferFlags::VOID_PENDING,
            ..Transfer::default()
        };
        assert_eq!(end, expected);
    }
}
