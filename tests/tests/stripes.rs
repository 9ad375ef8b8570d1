//! Is a striped account one account, wherever it is credited and debited?

use std::thread;

use walengine_net::client::Chain;
use walengine_net::client::blocking::Client;
use walengine_net::model::{
    Account, AccountFlags, AccountId, Close, CloseFlags, Code, EventId, Guard, GuardFlags,
    Transfer, TransferFlags, Verdict,
};
use walengine_tests::between::{LEDGER, account_of, between};
use walengine_tests::server::{Launch, TestDir};

const PARTITIONS: u16 = 3;

fn account_in(partition: u16) -> AccountId {
    account_of(PARTITIONS, partition, 1)
}

fn new(id: AccountId, flags: AccountFlags) -> Account {
    Account { id, ledger: LEDGER, code: Code(1), flags, ..Account::default() }
}

struct Bank {
    client: Client,
    next: u128,
}

impl Bank {
    fn verdicts(&self, events: &[[u8; 128]]) -> Vec<Verdict> {
        self.client.submit_all(events).unwrap().outcomes().map(|one| one.verdict).collect()
    }

    fn verdict(&self, event: [u8; 128]) -> Verdict {
        self.verdicts(&[event])[0]
    }

    fn pay(&mut self, debit: AccountId, credit: AccountId, amount: u128) -> Verdict {
        self.next += 1;
        self.verdict(between(self.next, debit, credit, amount).to_bytes())
    }

    /// Posted debits and credits; nothing is reserved.
    fn posted(&self, id: AccountId) -> (u128, u128) {
        let account = self.client.lookup_accounts(&[id], &[]).unwrap()[0].unwrap();
        assert_eq!((account.debits_pending.0, account.credits_pending.0), (0, 0), "{account:?}");
        (account.debits_posted.0, account.credits_posted.0)
    }
}

/// Fees come in on each partition; what is taken out at one of them is there, wherever it came in.
#[test]
fn a_striped_account_is_credited_anywhere_and_debited_by_all_that_it_has() {
    let dir = TestDir::new("stripes");
    let launch = Launch::new(dir.path()).set("--cores", "1").set("--partitions", "3");
    let mut server = launch.serve();
    let mut bank = Bank { client: server.client(), next: 0 };
    let (striped_flag, none) = (AccountFlags::STRIPED, AccountFlags::default());
    let limited = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
    let fees = AccountId::striped(1);
    let people = [0, 1, 2].map(account_in);
    // Of the first event of all partitions, too.
    assert_eq!(bank.verdict(new(fees, striped_flag.with(limited)).to_bytes()), Verdict::Ok);
    let made: Vec<_> = people.map(|id| new(id, none).to_bytes()).into();
    assert_eq!(bank.verdicts(&made), [Verdict::Ok; 3]);
    for (id, flags) in [(AccountId::striped(2), none), (AccountId(7), striped_flag)] {
        assert_eq!(bank.verdict(new(id, flags).to_bytes()), Verdict::StripedBookDiffers);
    }
    let both = striped_flag.with(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS);
    assert_eq!(bank.verdict(new(AccountId::striped(3), both).to_bytes()), Verdict::FlagsExclusive);
    for (debit, amount) in people.into_iter().zip([10, 200, 3000]) {
        assert_eq!(bank.pay(debit, fees, amount), Verdict::Ok);
    }
    assert_eq!(bank.posted(fees), (0, 3210));
    // More than any stripe has, and more than all have.
    assert_eq!(bank.pay(fees, people[0], 3211), Verdict::ExceedsCredits);
    assert_eq!(bank.pay(fees, people[0], 3205), Verdict::Ok);
    assert_eq!(bank.posted(fees), (3205, 3210));
    for credit in people {
        assert_eq!(bank.pay(fees, credit, 6), Verdict::ExceedsCredits);
    }
    // What is left is where it was taken last, and is found from elsewhere.
    assert_eq!(bank.pay(fees, people[1], 2), Verdict::Ok);
    assert_eq!(bank.pay(fees, people[2], 3), Verdict::Ok);
    assert_eq!(bank.posted(fees), (3210, 3210));
    server.kill();
    server = launch.serve();
    bank.client = server.client();
    assert_eq!(bank.posted(fees), (3210, 3210));
    // A balancing one takes all that there is.
    assert_eq!(bank.pay(people[0], fees, 40), Verdict::Ok);
    assert_eq!(bank.pay(people[1], fees, 50), Verdict::Ok);
    let flags = TransferFlags::BALANCING_DEBIT;
    let sweep = Transfer { flags, ..between(1000, fees, people[2], 1_000_000) };
    assert_eq!(bank.verdict(sweep.to_bytes()), Verdict::Ok);
    assert_eq!(bank.posted(fees), (3300, 3300));
    // As often as it likes: there is no more.
    let again = Transfer { id: EventId(999), ..sweep };
    assert_eq!(bank.verdict(again.to_bytes()), Verdict::ExceedsCredits);
    // A repeat is answered with what there was, and asks nobody.
    assert_eq!(bank.verdict(sweep.to_bytes()), Verdict::Ok);
    // A reservation, and its end.
    assert_eq!(bank.pay(people[2], fees, 70), Verdict::Ok);
    let pending = Transfer { flags: TransferFlags::PENDING, ..between(1001, fees, people[1], 60) };
    assert_eq!(bank.verdict(pending.to_bytes()), Verdict::Ok);
    assert_eq!(bank.pay(fees, people[0], 11), Verdict::ExceedsCredits);
    let flags = TransferFlags::POST_PENDING;
    let named = between(1002, fees, people[1], 45);
    let post = Transfer { flags, pending_id: EventId(1001), ..named };
    assert_eq!(bank.verdict(post.to_bytes()), Verdict::Ok);
    assert_eq!(bank.posted(fees), (3345, 3370));
    // In a chain: the fee goes where the payer lives, and a guard has nothing that it could look at.
    let chain = Chain::new()
        .transfer(between(1003, people[0], people[1], 5))
        .transfer(between(1004, people[0], fees, 1));
    assert_eq!(bank.verdicts(&chain.events()), [Verdict::Ok; 2]);
    let chain = Chain::new()
        .transfer(between(1005, fees, people[2], 20))
        .transfer(between(1006, people[2], people[1], 20));
    assert_eq!(bank.verdicts(&chain.events()), [Verdict::Ok; 2]);
    assert_eq!(bank.posted(fees), (3365, 3371));
    let guard = Guard {
        id: EventId(1007),
        account_id: fees,
        flags: GuardFlags::VERSION,
        ..Guard::default()
    };
    let chain = Chain::new().guard(guard).transfer(between(1008, people[0], people[1], 5));
    let verdicts = bank.verdicts(&chain.events());
    assert_eq!(verdicts, [Verdict::GuardElsewhere, Verdict::LinkedEventMalformed]);
    // Closed, it is closed everywhere; and open again.
    let close = |id, flags| Close { id: EventId(id), account_id: fees, flags }.to_bytes();
    assert_eq!(bank.verdict(close(2000, CloseFlags::default())), Verdict::Ok);
    for other in people {
        assert_eq!(bank.pay(other, fees, 1), Verdict::CreditAccountClosed);
        assert_eq!(bank.pay(fees, other, 1), Verdict::DebitAccountClosed);
    }
    assert_eq!(bank.verdict(close(2001, CloseFlags::REOPEN)), Verdict::Ok);
    for other in people {
        assert_eq!(bank.pay(other, fees, 1), Verdict::Ok);
    }
    assert_eq!(bank.posted(fees), (3365, 3374));
    // Between two of them.
    let settlement = AccountId::striped(9);
    assert_eq!(bank.verdict(new(settlement, striped_flag).to_bytes()), Verdict::Ok);
    assert_eq!(bank.pay(fees, settlement, 9), Verdict::Ok);
    assert_eq!(bank.posted(fees), (3374, 3374));
    assert_eq!(bank.posted(settlement), (0, 9));
    assert_eq!(bank.verdict(new(settlement, striped_flag).to_bytes()), Verdict::Ok, "a repeat");
}

/// While some take from a striped account at each partition, its credits move between stripes all the time. Nobody is refused
/// before the last of it is gone.
#[test]
fn nobody_is_refused_while_something_is_left() {
    const EACH: u128 = 150;
    let dir = TestDir::new("stripes-emptied");
    let launch = Launch::new(dir.path()).set("--cores", "2").set("--partitions", "3");
    let server = launch.serve();
    let bank = Bank { client: server.client(), next: 0 };
    let limited = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
    let pot = AccountId::striped(5);
    let people = [0, 1, 2].map(account_in);
    assert_eq!(bank.verdict(new(pot, limited.with(AccountFlags::STRIPED)).to_bytes()), Verdict::Ok);
    for (number, id) in (1..).zip(people) {
        assert_eq!(bank.verdict(new(id, AccountFlags::default()).to_bytes()), Verdict::Ok);
        assert_eq!(bank.verdict(between(number, id, pot, EACH).to_bytes()), Verdict::Ok);
    }
    let taken: u128 = thread::scope(|scope| {
        let takers: Vec<_> = (1u128..)
            .zip([0, 1, 2, 0])
            .map(|(series, partition)| {
                let (client, credit) = (server.client(), people[partition]);
                scope.spawn(move || {
                    let (mut taken, mut refused) = (0, 0);
                    for number in 1.. {
                        let one = between(series << 64 | number, pot, credit, 1).to_bytes();
                        match client.submit_all(&[one]).unwrap().outcomes().next().unwrap().verdict
                        {
                            Verdict::Ok => taken += 1,
                            Verdict::ExceedsCredits => refused += 1,
                            other => panic!("{other:?}"),
                        }
                        if refused == 3 {
                            break;
                        }
                    }
                    taken
                })
            })
            .collect();
        takers.into_iter().map(|taker| taker.join().unwrap()).sum()
    });
    assert_eq!(taken, 3 * EACH);
    assert_eq!(bank.posted(pot), (3 * EACH, 3 * EACH));
}
