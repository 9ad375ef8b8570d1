//! The corpus: one well-formed input of each kind, and whole conversations.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use walengine::ledger::{Draft, Ledger, RecordsDraft};
use walengine_net::entry::{ANY_OFFSET, ChainHash, EntryKind, EntryMeta, RecordHead};
use walengine_net::frame::{self, FrameHead, RequestId};
use walengine_net::message::{
    ActFor, Append, AppendHead, ClusterStatus, Credit, FindNames, Hello, IdNamespace, ListAccounts,
    ListLedgers, ListReservations, LookupAccounts, LookupNames, LookupTransfers, Message,
    NO_OFFSET, ReadEntries, ReadLog, ServerStatus, StateDigest, Status, Submit, Subscribe,
    Unsubscribe,
};
use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Close, CloseFlags, ClusterId, Code, EventBytes,
    EventId, Guard, GuardFlags, LedgerId, Offset, PartitionId, Timestamp, Transfer, TransferFlags,
};
use walengine_tests::log_oracle::encode;

const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);

/// Writes all of it.
pub fn write(directory: &Path) -> ExitCode {
    let targets = [("frame", frames()), ("entry", entries())];
    for (target, inputs) in targets {
        let directory = directory.join(target);
        fs::create_dir_all(&directory).expect("the directory can be made");
        for (name, bytes) in inputs {
            fs::write(directory.join(name), bytes).expect("the file can be written");
        }
    }
    ExitCode::SUCCESS
}

fn accounts() -> Vec<EventBytes> {
    let account = |id| Account {
        id: AccountId(id),
        ledger: LedgerId(1),
        code: Code(1),
        flags: if id == 2 {
            AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS
        } else {
            AccountFlags::default()
        },
        ..Account::default()
    };
    (1..=3).map(|id| account(id).to_bytes()).collect()
}

fn transfer(id: u128, flags: TransferFlags) -> Transfer {
    Transfer {
        id: EventId(id),
        debit_account_id: AccountId(1),
        credit_account_id: AccountId(2),
        amount: Amount(10),
        ledger: LedgerId(1),
        code: Code(1),
        flags,
        ..Transfer::default()
    }
}

fn resolution(id: u128, pending_id: u128, flags: TransferFlags) -> Transfer {
    let (id, pending_id) = (EventId(id), EventId(pending_id));
    Transfer { id, pending_id, flags, ..Transfer::default() }
}

/// Every kind of event, accepted and refused.
fn events() -> Vec<EventBytes> {
    let guard = Guard {
        id: EventId(20),
        account_id: AccountId(2),
        available: Amount(5),
        flags: GuardFlags::LINKED.with(GuardFlags::AVAILABLE_TO_DEBIT),
        ..Guard::default()
    };
    let back = Transfer {
        debit_account_id: AccountId(2),
        credit_account_id: AccountId(3),
        amount: Amount(1000),
        ..transfer(22, TransferFlags::BALANCING_DEBIT)
    };
    let close = |id, flags| Close { id: EventId(id), account_id: AccountId(3), flags };
    vec![
        transfer(10, TransferFlags::default()).to_bytes(),
        transfer(11, TransferFlags::PENDING).to_bytes(),
        transfer(12, TransferFlags::PENDING).to_bytes(),
        resolution(13, 11, TransferFlags::POST_PENDING).to_bytes(),
        resolution(14, 12, TransferFlags::VOID_PENDING).to_bytes(),
        resolution(15, 99, TransferFlags::POST_PENDING).to_bytes(),
        transfer(16, TransferFlags::LINKED).to_bytes(),
        transfer(17, TransferFlags::default()).to_bytes(),
        guard.to_bytes(),
        transfer(21, TransferFlags::default()).to_bytes(),
        back.to_bytes(),
        close(30, CloseFlags::default()).to_bytes(),
        close(31, CloseFlags::REOPEN).to_bytes(),
        transfer(10, TransferFlags::default()).to_bytes(),
        Transfer { amount: Amount(11), ..transfer(10, TransferFlags::default()) }.to_bytes(),
    ]
}

fn put<M: Message>(out: &mut Vec<u8>, request: u64, message: &M) {
    let head = FrameHead::reply(PartitionId(0), RequestId(request));
    frame::encode(out, head, message).expect("it is small");
}

/// Frames of a client: a greeting and one request each, and one long conversation.
fn frames() -> Vec<(String, Vec<u8>)> {
    let (accounts, events) = (accounts(), events());
    let ids = [1, 2, 10, 11, 99];
    let heads = [AppendHead { id: 50, bytes: 3 }, AppendHead { id: 51, bytes: 2 }];
    let append = Append { expected_offset: ANY_OFFSET, heads: &heads, blob: b"hello" };
    let namespace = IdNamespace::Event as u8;
    let mut requests: Vec<(&str, Vec<u8>)> = Vec::new();
    macro_rules! requests {
        ($($name:literal $message:expr,)*) => {
            $(
                let mut bytes = Vec::new();
                put(&mut bytes, requests.len() as u64 + 2, &$message);
                requests.push(($name, bytes));
            )*
        };
    }
    requests! {
        "submit-accounts" Submit { events: &accounts },
        "submit-events" Submit { events: &events },
        "append" append,
        "lookup-accounts" LookupAccounts { at_least: NO_OFFSET, ids: &ids },
        "lookup-ahead" LookupAccounts { at_least: 1 << 40, ids: &ids },
        "list-accounts" ListAccounts { at_least: 0, after: 0, limit: 2 },
        "lookup-names" LookupNames { at_least: NO_OFFSET, ids: &ids },
        "find-names" FindNames { at_least: NO_OFFSET, after: 0, limit: 2, prefix: b"an" },
        "list-ledgers" ListLedgers { at_least: 0 },
        "list-reservations" ListReservations { at_least: 0, after: 0, limit: 2 },
        "lookup-transfers" LookupTransfers { at_least: NO_OFFSET, ids: &ids },
        "status" Status { at_least: NO_OFFSET, namespace, ids: &ids },
        "read-log" ReadLog { at_least: NO_OFFSET, from: 0, bytes_max: 4096 },
        "read-entries" ReadEntries { at_least: NO_OFFSET, from_index: 1, bytes_max: 4096 },
        "subscribe" Subscribe { from: 0, credit_bytes: 1 << 20 },
        "credit" Credit { bytes: 4096 },
        "unsubscribe" Unsubscribe::default(),
        "server-status" ServerStatus::default(),
        "cluster-status" ClusterStatus::default(),
        "state-digest" StateDigest::default(),
        "act-for" ActFor { identity: "spiffe://bank/client/payments" },
    }
    let mut hello = Vec::new();
    put(&mut hello, 1, &Hello { partition: 0, client_name: "fuzz" });
    let mut all = hello.clone();
    let mut inputs = vec![("hello".to_owned(), hello.clone())];
    for (name, bytes) in requests {
        all.extend_from_slice(&bytes);
        inputs.push((name.to_owned(), [hello.clone(), bytes].concat()));
    }
    inputs.push(("conversation".to_owned(), all.clone()));
    put(&mut all, 90, &Subscribe { from: 0, credit_bytes: 4096 });
    put(&mut all, 90, &Credit { bytes: 4096 });
    put(&mut all, 90, &Unsubscribe::default());
    inputs.push(("subscription".to_owned(), all));
    inputs
}

/// Entries as a leader writes them: single ones and a whole log.
fn entries() -> Vec<(String, Vec<u8>)> {
    let mut ledger = Ledger::new(PartitionId(0), 1);
    let (mut log, mut inputs) = (Log::default(), Vec::new());
    let blank = log.append(EntryKind::Blank, Offset(0), 0, Timestamp(0), &[]);
    inputs.push(("blank".to_owned(), blank));
    for (name, events) in [("accounts", accounts()), ("events", events())] {
        let (mut draft, mut outcomes) = (Draft::new(), Vec::new());
        ledger.submit(&events, &mut draft, NOW, &mut outcomes);
        let (offset, time, records) = (draft.base_offset, draft.timestamp, draft.len());
        let body = encode(&draft.take());
        inputs.push((name.to_owned(), log.append(EntryKind::Events, offset, records, time, &body)));
    }
    let head = |id, bytes| RecordHead { id, expected_offset: ANY_OFFSET, bytes };
    let (mut draft, mut outcomes) = (RecordsDraft::new(), Vec::new());
    ledger.append_records(&[head(60, 3), head(61, 2)], b"hello", &mut draft, NOW, &mut outcomes);
    let (offset, time, records) = (draft.base_offset, draft.timestamp, draft.len());
    let body = encode(&draft.take());
    inputs
        .push(("records".to_owned(), log.append(EntryKind::Records, offset, records, time, &body)));
    inputs.push(("log".to_owned(), log.bytes));
    inputs
}

#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    index: u64,
    chain: ChainHash,
}

impl Log {
    fn append(
        &mut self,
        kind: EntryKind,
        base_offset: Offset,
        records: usize,
        timestamp: Timestamp,
        body: &[u8],
    ) -> Vec<u8> {
        self.index += 1;
        let meta = EntryMeta {
            cluster: ClusterId(0xc1),
            partition: PartitionId(0),
            kind,
            term: 1,
            leader_node: 1,
            index: self.index,
            base_offset,
            records: records as u32,
            timestamp,
        };
        let header = meta.encode(body, self.index - 1, self.chain);
        self.chain = header.chain;
        let entry = [&header.to_bytes(), body].concat();
        self.bytes.extend_from_slice(&entry);
        entry
    }
}
