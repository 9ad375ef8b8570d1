//! Looking ahead: starts to load what deciding an event will read before its turn comes. Waiting
//! for memory at each event would take longer than deciding it.
//!
//! Events are grouped into windows. While one window is decided, each of the next ones is one step
//! behind the one before it: a step only starts loads whose addresses the step before has loaded.
//!
//! | step | reads | starts to load |
//! |---|---|---|
//! | 1 | the event | where its id would be, and where the table has its two accounts |
//! | 2 | that | the accounts' tags |
//! | 3 | tags | the accounts' index entries |
//! | 4 | index entries | the accounts |

use walengine_net::model::{EventBytes, Transfer};

use super::Ledger;
use super::accounts::Accounts;
use super::decide::key_of;
use super::ids::Ids;
use crate::ids::key::{Space, hash_of_id};

/// Events in a window. With 8 or 16, loaded lines are often evicted before they are used
/// (measured).
const WINDOW: usize = 4;
/// See the module.
const STEPS: usize = 4;
/// The current window, and one for each step.
const WINDOWS: usize = STEPS + 1;

/// Likely slots of the debit and the credit account of a transfer: a hint, not a promise.
pub(super) type Near = (u32, u32);
/// No hint.
pub(super) const NOWHERE: Near = (u32::MAX, u32::MAX);

/// What is known about an event that is not decided yet.
#[derive(Clone, Copy)]
struct Hint {
    id: u64,
    debit: u64,
    credit: u64,
    near: Near,
}

/// Progress through the events of one call.
pub(super) struct Ahead {
    /// Windows that are through each step.
    done: [usize; STEPS],
    hints: [[Hint; WINDOW]; WINDOWS],
    /// First event after the current window.
    end: usize,
}

impl Default for Ahead {
    fn default() -> Self {
        let hint = Hint { id: 0, debit: 0, credit: 0, near: NOWHERE };
        Self { done: [0; STEPS], hints: [[hint; WINDOW]; WINDOWS], end: 0 }
    }
}

impl Ledger {
    /// Forgets the events of the last call.
    pub(super) fn look_ahead_anew(&mut self) {
        (self.ahead.done, self.ahead.end) = ([0; STEPS], 0);
    }

    /// Hints for the event at `next`, which never decreases. Starts loads for the events after it.
    #[inline]
    pub(super) fn near(&mut self, events: &[EventBytes], next: usize) -> Near {
        if next >= self.ahead.end {
            self.look_ahead(events, next / WINDOW);
        }
        self.ahead.hints[next / WINDOW % WINDOWS][next % WINDOW].near
    }

    fn look_ahead(&mut self, events: &[EventBytes], current: usize) {
        self.ahead.end = (current + 1) * WINDOW;
        for step in 0..STEPS {
            // A long chain skips windows; they need no step any more.
            let from = self.ahead.done[step].max(current);
            let to = current + WINDOWS - step;
            for window in from..to {
                let start = (window * WINDOW).min(events.len());
                let events = &events[start..events.len().min(start + WINDOW)];
                let hints = &mut self.ahead.hints[window % WINDOWS][..events.len()];
                match step {
                    0 => begin(&self.ids, &self.accounts, events, hints),
                    1 => find_tags(&self.accounts, hints),
                    2 => find_entries(&self.accounts, hints),
                    _ => find_accounts(&self.accounts, hints),
                }
            }
            self.ahead.done[step] = to;
        }
    }
}

fn begin(ids: &Ids, accounts: &Accounts, events: &[EventBytes], hints: &mut [Hint]) {
    for (bytes, hint) in events.iter().zip(&mut *hints) {
        let transfer = Transfer::from_bytes(bytes);
        let debit = hash_of_id(transfer.debit_account_id.0, Space::Account);
        let credit = hash_of_id(transfer.credit_account_id.0, Space::Account);
        *hint = Hint { id: key_of(bytes).hash, debit, credit, near: NOWHERE };
    }
    for hint in hints {
        ids.prefetch(hint.id);
        accounts.prefetch_block(hint.debit);
        accounts.prefetch_block(hint.credit);
    }
}

fn find_tags(accounts: &Accounts, hints: &[Hint]) {
    for hint in hints {
        accounts.prefetch_tags(hint.debit);
        accounts.prefetch_tags(hint.credit);
    }
}

fn find_entries(accounts: &Accounts, hints: &[Hint]) {
    for hint in hints {
        accounts.prefetch_entry(hint.debit);
        accounts.prefetch_entry(hint.credit);
    }
}

fn find_accounts(accounts: &Accounts, hints: &mut [Hint]) {
    for hint in &mut *hints {
        hint.near = (accounts.likely_slot(hint.debit), accounts.likely_slot(hint.credit));
    }
    // Together: that a prefetch has to find its page keeps what comes after it waiting, but for other
    // prefetches right behind it.
    for hint in hints {
        accounts.prefetch(hint.near.0);
        accounts.prefetch(hint.near.1);
    }
}
