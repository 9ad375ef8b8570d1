//! Do both clients keep their promises over a real socket?

mod fake;

use std::time::Duration;

use fake::{CLUSTER, Fake, PARTITIONS};
use walengine_net::client::{
    Batch, Chain, ClientError, Config, Submitted, blocking, tokio as on_tokio,
};
use walengine_net::message::IdNamespace;
use walengine_net::model::{
    Account, AccountId, Amount, Book, ClusterId, Code, EventBytes, EventId, LedgerId, Offset,
    PartitionId, Transfer, Verdict,
};
use walengine_net::{names, partition};

fn config(fake: &Fake) -> Config {
    Config { deadline: Duration::from_secs(20), ..Config::new(fake.address.to_string()) }
}

fn account(book: u32, name: &str) -> Account {
    Account {
        id: names::account_id(Book(book), name),
        ledger: LedgerId(203),
        code: Code(1),
        ..Account::default()
    }
}

fn transfer(book: u32, id: u128) -> Transfer {
    Transfer {
        id: EventId(id),
        debit_account_id: names::account_id(Book(book), "alice"),
        credit_account_id: names::account_id(Book(book), "bob"),
        amount: Amount(5),
        ledger: LedgerId(203),
        code: Code(1),
        ..Transfer::default()
    }
}

fn home(book: u32) -> PartitionId {
    partition::of_book(Book(book), PARTITIONS)
}

/// One test body for both faces: `$wait` is `.await` for the one and nothing for the other.
macro_rules! conversation {
    ($client:ident, $wait:tt) => {{
        let accounts: Vec<_> =
            (0..20).flat_map(|book| [account(book, "alice"), account(book, "bob")]).collect();
        let created = conversation!(@ $wait $client.create_accounts(&accounts)).unwrap();
        assert_eq!(created.outcomes().count(), 40);
        assert!(created.all_ok() && created.outcomes().all(|outcome| outcome.fresh));
        assert_eq!(created.tokens.len(), usize::from(PARTITIONS));
        assert!(created.tokens.iter().all(|token| token.cluster == ClusterId(CLUSTER)));
        let again = conversation!(@ $wait $client.create_accounts(&accounts)).unwrap();
        assert!(again.all_ok() && again.outcomes().all(|outcome| !outcome.fresh));

        let ids: Vec<_> = accounts.iter().map(|account| account.id).chain([AccountId(9)]).collect();
        let found =
            conversation!(@ $wait $client.lookup_accounts(&ids, &created.tokens)).unwrap();
        assert_eq!(found[..40].iter().map(|found| found.unwrap()).collect::<Vec<_>>(), accounts);
        assert_eq!(found[40], None);

        let chain = Chain::new().transfer(transfer(7, 1)).transfer(transfer(7, 2)).events();
        let submitted = conversation!(@ $wait $client.submit(home(7), &chain)).unwrap();
        assert!(submitted.all_ok());
        let malformed = [transfer(7, 0).to_bytes()];
        let refused = conversation!(@ $wait $client.submit(home(7), &malformed)).unwrap();
        assert_eq!(refused.outcomes().next().unwrap().verdict, Verdict::IdZero);
        assert!(refused.tokens.is_empty());

        let decisions = conversation!(@ $wait
            $client.lookup_transfers(&[EventId(2), EventId(77)], &submitted.tokens)).unwrap();
        assert_eq!(decisions[0].as_ref().unwrap().partition, home(7));
        assert_eq!(decisions[1], None);
        let verdicts =
            conversation!(@ $wait $client.status(IdNamespace::Event, &[77, 1], &[])).unwrap();
        assert_eq!(verdicts[0], None);
        assert_eq!(verdicts[1].unwrap().verdict, Verdict::Ok);

        let mut listed = 0;
        for number in 0..PARTITIONS {
            let mut cursor = None;
            loop {
                let page = conversation!(@ $wait
                    $client.list_accounts(PartitionId(number), cursor, 3, &[])).unwrap();
                listed += page.accounts.len();
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
        }
        assert_eq!(listed, 40);

        let page = conversation!(@ $wait
            $client.read_log(home(7), Offset(0), 1 << 20, &[])).unwrap();
        let records: u64 =
            page.entries().map(|entry| u64::from(entry.unwrap().0.meta.records)).sum();
        assert_eq!(Offset(records), page.next_offset);

        let records: Vec<(EventId, &[u8])> = vec![(EventId(500), b"one"), (EventId(501), b"two")];
        let appended = conversation!(@ $wait
            $client.append_records(PartitionId(1), &records, None)).unwrap();
        assert_eq!(appended.outcomes().count(), 2);

        let report = conversation!(@ $wait $client.server_status(PartitionId(0))).unwrap();
        assert_eq!(report.texts, [(None, "version".to_owned(), "fake 1".to_owned())]);

        let other = conversation!(@ $wait $client.submit(PartitionId(99), &[])).unwrap_err();
        assert!(matches!(other, ClientError::TooMany { .. }), "{other}");
    }};
    (@ async $call:expr) => { $call.await };
    (@ sync $call:expr) => { $call };
}

#[test]
fn a_server_that_names_no_other_partitions_is_written_to_all_the_same() {
    let fake = Fake::start();
    let client = blocking::Client::connect(config(&fake)).unwrap();
    let elsewhere = (0..100).find(|book| home(*book) != home(7)).unwrap();
    let credit_account_id = names::account_id(Book(elsewhere), "bob");
    let spans = |id| Transfer { credit_account_id, ..transfer(7, id) }.to_bytes();
    for id in 1..4 {
        let submitted = client.submit_all(&[spans(id)]).unwrap();
        assert!(submitted.all_ok());
        assert_eq!(submitted.tokens.len(), 1, "this server knows no other");
        assert_eq!(submitted.tokens[0].partition, home(7));
    }
    // The leader of the other one is asked for its token of what was accepted before.
    assert!(client.create_accounts(&[account(elsewhere, "bob")]).unwrap().all_ok());
    let again = client.submit_all(&[spans(1)]).unwrap();
    assert!(again.all_ok() && again.outcomes().all(|outcome| !outcome.fresh));
    let mut of: Vec<_> = again.tokens.iter().map(|token| token.partition).collect();
    of.sort_unstable();
    let mut both = [home(7), home(elsewhere)];
    both.sort_unstable();
    assert_eq!(of, both);
}

#[test]
fn the_blocking_client_converses() {
    let fake = Fake::start();
    let client = blocking::Client::connect(config(&fake)).unwrap();
    conversation!(client, sync);
}

#[tokio::test]
async fn the_tokio_client_converses() {
    let fake = Fake::start();
    let client = on_tokio::Client::connect(config(&fake)).await.unwrap();
    conversation!(client, async);
}

fn batches(count: u128) -> Vec<Batch> {
    let batch = |number: u128| {
        let events: Vec<EventBytes> =
            (0..50).map(|event| transfer(7, 1 + number * 50 + event).to_bytes()).collect();
        Batch { partition: home(7), events }
    };
    (0..count).map(batch).collect()
}

fn check_all(results: &[(usize, Submitted)], count: usize) {
    assert_eq!(results.len(), count);
    let mut offsets: Vec<_> = results
        .iter()
        .enumerate()
        .flat_map(|(place, (index, submitted))| {
            assert_eq!(place, *index, "results come in order");
            submitted.outcomes().map(|outcome| outcome.offset.unwrap().0).collect::<Vec<_>>()
        })
        .collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..count as u64 * 50).collect::<Vec<_>>(), "each event exactly once");
}

#[test]
fn lost_replies_and_busy_servers_cost_nothing_but_time_blocking() {
    let fake = Fake::start();
    fake.mischief(|mischief| (mischief.drop_replies, mischief.busy) = (3, 5));
    let client = blocking::Client::connect(config(&fake)).unwrap();
    let mut results = Vec::new();
    client.submit_pipelined(batches(40), 8, |index, result| results.push((index, result.unwrap())));
    check_all(&results, 40);
    assert!(fake.state.lock().unwrap().connections >= 4);
}

#[tokio::test]
async fn lost_replies_and_busy_servers_cost_nothing_but_time_tokio() {
    let fake = Fake::start();
    fake.mischief(|mischief| (mischief.drop_replies, mischief.busy) = (3, 5));
    let client = on_tokio::Client::connect(config(&fake)).await.unwrap();
    let mut results = Vec::new();
    client
        .submit_pipelined(batches(40), 8, |index, result| results.push((index, result.unwrap())))
        .await;
    check_all(&results, 40);
    assert!(fake.state.lock().unwrap().connections >= 4);
}

#[test]
fn an_answer_that_never_comes_is_asked_for_blocking() {
    let fake = Fake::start();
    fake.mischief(|mischief| mischief.swallow_replies = 1);
    let config = Config { deadline: Duration::from_millis(500), ..config(&fake) };
    let client = blocking::Client::connect(config).unwrap();
    let submitted = client.submit(home(7), &[transfer(7, 1).to_bytes()]).unwrap();
    let outcome = submitted.outcomes().next().unwrap();
    assert_eq!(
        (outcome.verdict, outcome.offset, outcome.fresh),
        (Verdict::Ok, Some(Offset(0)), false)
    );
}

#[tokio::test]
async fn an_answer_that_never_comes_is_asked_for_tokio() {
    let fake = Fake::start();
    fake.mischief(|mischief| mischief.swallow_replies = 1);
    let config = Config { deadline: Duration::from_millis(500), ..config(&fake) };
    let client = on_tokio::Client::connect(config).await.unwrap();
    let submitted = client.submit(home(7), &[transfer(7, 1).to_bytes()]).await.unwrap();
    let outcome = submitted.outcomes().next().unwrap();
    assert_eq!(
        (outcome.verdict, outcome.offset, outcome.fresh),
        (Verdict::Ok, Some(Offset(0)), false)
    );
}

#[test]
fn a_subscription_goes_on_after_a_lost_connection_blocking() {
    let fake = Fake::start();
    let client = blocking::Client::connect(config(&fake)).unwrap();
    client.submit(home(7), &batches(1)[0].events).unwrap();
    fake.mischief(|mischief| mischief.drop_after_page = 1);
    let mut log = client.subscribe(home(7), Offset(0));
    let page = log.next_within(Duration::from_secs(10)).unwrap().unwrap();
    assert_eq!(page.next_offset, Offset(50));
    assert_eq!(log.next_within(Duration::from_millis(50)).unwrap(), None);
    drop(log);
    client.submit(home(7), &batches(2)[1].events).unwrap();
    let page = client.subscribe(home(7), Offset(50)).next_within(Duration::from_secs(10)).unwrap();
    assert_eq!(page.unwrap().entries().count(), 1);
}

#[tokio::test]
async fn a_subscription_goes_on_after_a_lost_connection_tokio() {
    let fake = Fake::start();
    let client = on_tokio::Client::connect(config(&fake)).await.unwrap();
    client.submit(home(7), &batches(1)[0].events).await.unwrap();
    fake.mischief(|mischief| mischief.drop_after_page = 1);
    let mut log = client.subscribe(home(7), Offset(0));
    assert_eq!(log.next().await.unwrap().next_offset, Offset(50));
    // The log grows before the subscription returns, which then resumes where it was.
    client.submit(home(7), &batches(2)[1].events).await.unwrap();
    let page = log.next().await.unwrap();
    assert_eq!((page.next_offset, page.entries().count()), (Offset(100), 1));
}

#[test]
fn no_server_is_told_with_what_to_do() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = blocking::Client::connect(Config::new(free.to_string())).err().unwrap();
    let expected = format!(
        "no server at {free} (connection refused): start one with `walengine --data DIR`, or name \
         another with --server"
    );
    assert_eq!(error.to_string(), expected);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let connecting = on_tokio::Client::connect(Config::new(free.to_string()));
    assert_eq!(runtime.block_on(connecting).err().unwrap().to_string(), expected);
}

#[test]
fn a_stranger_is_told_apart_from_a_server() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let error = blocking::Client::connect(Config::new(address)).err().unwrap();
    assert!(matches!(error, ClientError::NotWalengine { .. }), "{error}");
}
