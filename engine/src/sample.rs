//! Transactions of a bank that does not exist, with the shape of a real one's: for a demonstration,
//! for tests and for benchmarks. Pure: a seed and sizes in, rows out. The same seed gives the same
//! rows on every machine.
//!
//! Employers pay salaries on a month's last day, tenants pay rents on its first and put something
//! aside on its second. People pay by card: at once, or with a hold that is posted, voided or left to
//! expire. Some of it is refunded, some reversed. A few accounts and shops have most of the traffic.
//! Rows are in order of time. As in real files, some rows stand there twice, and some are to be
//! refused: more than the account has, a closed account, another currency, a hold that is gone.

pub mod chance;
mod names;
mod rows;

use std::collections::BTreeMap;

use walengine_net::model::{AccountFlags, TransferFlags};

use chance::{Chance, Zipf, day_of_month};
pub use rows::{Currency, Party, Purpose, Row, Shape};

/// The bank: its accounts, and its rows as an iterator.
#[derive(Debug)]
pub struct Bank {
    accounts: Vec<Party>,
    balances: Vec<u64>,
    markets: Vec<Market>,
    chance: Chance,
    /// Rows of days that have begun, and what follows from them later.
    queue: BTreeMap<(u64, u64), Row>,
    next_id: u64,
    queued: u64,
    /// The next day, in days since 1970.
    day: u64,
    left: u64,
}

/// Those who use one currency.
#[derive(Debug)]
struct Market {
    currency: Currency,
    clearing: usize,
    fees: usize,
    employers: Vec<usize>,
    shops: Vec<usize>,
    shops_drawn: Zipf,
    people: Vec<Person>,
    people_drawn: Zipf,
    closed: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Person {
    account: usize,
    savings: Option<usize>,
    employer: usize,
    landlord: usize,
    salary: u64,
    rent: u64,
}

const CLEARING_CODE: u16 = 1;
const COMPANY_CODE: u16 = 2;
const PERSON_CODE: u16 = 3;
const SAVINGS_CODE: u16 = 4;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// 29 January 2026: two days before the first salaries.
const FIRST_DAY: u64 = 20_482;
const HOLD_SECONDS: u32 = 7 * DAY as u32;

/// Shares of a thousand: of customers, then of card payments, then of all rows.
const SAVERS: u64 = 300;
const CLOSED: u64 = 10;
const HOLDS: u64 = 250;
const HOLDS_VOIDED: u64 = 120;
const HOLDS_LEFT: u64 = 30;
const LATE_POSTS: u64 = 60;
const REFUNDS: u64 = 12;
const REVERSALS: u64 = 3;
const OVERDRAWN: u64 = 4;
const STRAYED: u64 = 1;
const REPEATS: u64 = 5;

impl Bank {
    /// The bank of a seed, before its first row.
    ///
    /// # Panics
    /// If there are fewer than ten accounts.
    pub fn new(shape: Shape) -> Self {
        assert!(shape.accounts >= 10, "a bank has at least ten customers");
        let mut bank = Self {
            accounts: Vec::new(),
            balances: Vec::new(),
            markets: Vec::new(),
            chance: Chance(u64::from(shape.seed)),
            queue: BTreeMap::new(),
            next_id: u64::from(shape.seed) * 1_000_000_000 + 1,
            queued: 0,
            day: FIRST_DAY,
            left: shape.transfers,
        };
        let (usd, jpy) = (shape.accounts / 5, shape.accounts / 20);
        let used = |accounts: usize| if accounts < 10 { 0 } else { accounts };
        let eur = shape.accounts - used(usd) - used(jpy);
        for (currency, accounts) in
            [(Currency::Eur, eur), (Currency::Usd, used(usd)), (Currency::Jpy, used(jpy))]
        {
            if accounts > 0 {
                bank.open(currency, accounts);
            }
        }
        bank
    }

    /// All accounts; rows name them by their places.
    pub fn accounts(&self) -> &[Party] {
        &self.accounts
    }

    /// Opens the accounts of one currency.
    fn open(&mut self, currency: Currency, accounts: usize) {
        let code = currency.code();
        let clearing = self.add(format!("Clearing {code}"), currency, CLEARING_CODE, 0);
        let fees = self.add(format!("Fees {code}"), currency, CLEARING_CODE, 0);
        let companies = (accounts / 20).max(3);
        let mut trade = |trades: &[&str], count: usize| -> Vec<usize> {
            let one = |number| names::company(currency, trades, number);
            (0..count.max(1)).map(|n| self.add(one(n), currency, COMPANY_CODE, 0)).collect()
        };
        let employers = trade(names::EMPLOYERS, companies / 3);
        let landlords = trade(names::LANDLORDS, companies / 6);
        let shops = trade(names::MERCHANTS, companies - companies / 3 - companies / 6);
        let mut left = accounts - employers.len() - landlords.len() - shops.len();
        let (mut people, mut closed) = (Vec::new(), Vec::new());
        for number in 0.. {
            if left == 0 {
                break;
            }
            let name = names::person(currency, number);
            let limited = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
            left -= 1;
            if self.chance.is(CLOSED) && !people.is_empty() {
                let flags = limited.with(AccountFlags::CLOSED);
                closed.push(self.add(name, currency, PERSON_CODE, flags.0));
                continue;
            }
            let savings = (left > 0 && self.chance.is(SAVERS)).then(|| {
                left -= 1;
                self.add(format!("{name} savings"), currency, SAVINGS_CODE, limited.0)
            });
            let salary =
                180_000 + self.chance.below(170_000) + self.chance.below(12) / 11 * 350_000;
            people.push(Person {
                account: self.add(name, currency, PERSON_CODE, limited.0),
                savings,
                employer: employers[self.chance.place(employers.len())],
                landlord: landlords[self.chance.place(landlords.len())],
                salary: currency.of_cents(salary),
                rent: currency.of_cents(salary * (25 + self.chance.below(15)) / 100 / 500 * 500),
            });
        }
        let (shops_drawn, people_drawn) = (Zipf::new(shops.len()), Zipf::new(people.len()));
        self.markets.push(Market {
            currency,
            clearing,
            fees,
            employers,
            shops,
            shops_drawn,
            people,
            people_drawn,
            closed,
        });
    }

    fn add(&mut self, name: String, currency: Currency, code: u16, flags: u16) -> usize {
        self.accounts.push(Party { name, currency, code, flags: AccountFlags(flags) });
        self.balances.push(0);
        self.accounts.len() - 1
    }

    /// Puts a row in its place in time; its id is the next.
    fn queue(&mut self, seconds: u64, row: Row) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.queued += 1;
        self.queue.insert((seconds, self.queued), Row { id, seconds, ..row });
        id
    }

    /// A row that moves money, as far as this keeps account of it.
    fn pay(&mut self, seconds: u64, row: Row) -> u64 {
        self.balances[row.debit] = self.balances[row.debit].saturating_sub(row.amount);
        self.balances[row.credit] += row.amount;
        self.queue(seconds, row)
    }

    /// Queues all that a day begins.
    fn begin_day(&mut self) {
        let start = self.day * DAY;
        let (day_of_month, is_last) = day_of_month(self.day);
        let is_first_ever = self.day == FIRST_DAY;
        let markets = std::mem::take(&mut self.markets);
        for market in &markets {
            if is_first_ever || day_of_month == 27 {
                self.fund(market, start);
            }
            if is_last {
                self.salaries_and_fees(market, start);
            }
            if day_of_month == 1 {
                self.rents(market, start);
            }
            if day_of_month == 2 {
                self.savings(market, start);
            }
            // At first nobody has anything to spend.
            for _ in 0..market.people.len().div_ceil(2) {
                self.card_payment(market, start, &markets);
            }
            for _ in 0..market.people.len() / 25 {
                self.gift(market, start);
            }
        }
        self.markets = markets;
        self.day += 1;
    }

    /// Employers get what their customers elsewhere pay: the month's salaries, and something more.
    fn fund(&mut self, market: &Market, start: u64) {
        for (place, employer) in market.employers.iter().enumerate() {
            let employed = market.people.iter().filter(|person| person.employer == *employer);
            let salaries: u64 = employed.map(|person| person.salary).sum();
            let amount = salaries + salaries / 8 + market.currency.of_cents(1_000_000);
            let row = market.row(market.clearing, *employer, amount, Purpose::Deposit);
            self.pay(start + 4 * HOUR + place as u64, row);
        }
    }

    fn salaries_and_fees(&mut self, market: &Market, start: u64) {
        for (place, person) in market.people.iter().enumerate() {
            let row = market.row(person.employer, person.account, person.salary, Purpose::Salary);
            self.pay(start + 5 * HOUR + place as u64 % HOUR, row);
            let fee = market.currency.of_cents(250);
            let row = market.row(person.account, market.fees, fee, Purpose::Fee);
            self.pay(start + 23 * HOUR + place as u64 % HOUR, row);
        }
    }

    fn rents(&mut self, market: &Market, start: u64) {
        for (place, person) in market.people.iter().enumerate() {
            let row = market.row(person.account, person.landlord, person.rent, Purpose::Rent);
            self.pay(start + 6 * HOUR + place as u64 % HOUR, row);
        }
    }

    fn savings(&mut self, market: &Market, start: u64) {
        for (place, person) in market.people.iter().enumerate() {
            let Some(savings) = person.savings else { continue };
            let amount = (self.balances[person.account] / 10).max(1);
            let row = market.row(person.account, savings, amount, Purpose::Savings);
            self.pay(start + 6 * HOUR + place as u64 % HOUR, row);
        }
    }

    fn gift(&mut self, market: &Market, start: u64) {
        let from = market.people[market.people_drawn.draw(&mut self.chance)].account;
        let to = market.people[self.chance.place(market.people.len())].account;
        let amount = market.currency.of_cents((1 + self.chance.below(20)) * 500);
        if from != to && self.balances[from] >= amount {
            let at = start + 18 * HOUR + self.chance.below(4 * HOUR);
            self.pay(at, market.row(from, to, amount, Purpose::Gift));
        }
    }

    /// Something bought, with what follows from it in the days after.
    fn card_payment(&mut self, market: &Market, start: u64, markets: &[Market]) {
        let chance = &mut self.chance;
        let person = market.people[market.people_drawn.draw(chance)];
        let shop = market.shops[market.shops_drawn.draw(chance)];
        let at = start + 7 * HOUR + chance.below(15 * HOUR);
        let cents =
            if chance.is(60) { 8_000 + chance.below(52_000) } else { 150 + chance.below(7_900) };
        let mut amount = market.currency.of_cents(cents);
        let strays = chance.is(STRAYED) && markets.len() > 1;
        if chance.is(OVERDRAWN) {
            // More than there is; nothing follows from it.
            amount += self.balances[person.account];
            self.queue(at, market.row(person.account, shop, amount, Purpose::Card));
            return;
        }
        if self.balances[person.account] < amount {
            return;
        }
        if strays {
            let other = markets.iter().find(|other| other.currency != market.currency);
            let shop = other.map_or(shop, |other| other.shops[0]);
            self.queue(at, market.row(person.account, shop, amount, Purpose::Card));
            return;
        }
        let row = market.row(person.account, shop, amount, Purpose::Card);
        if self.chance.is(HOLDS) {
            self.hold(at, row);
            return;
        }
        let id = self.pay(at, row);
        let back = Row { debit: row.credit, credit: row.debit, about: id, ..row };
        if self.chance.is(REVERSALS) {
            self.pay(at + HOUR, Row { purpose: Purpose::Reversal, ..back });
        } else if self.chance.is(REFUNDS) {
            let after = (2 + self.chance.below(8)) * DAY;
            let amount = if self.chance.is(500) { amount } else { amount.div_ceil(2) };
            // Some are refunded to who is no customer any more.
            let former = market.closed.first().copied().filter(|_| self.chance.is(30));
            let credit = former.unwrap_or(back.credit);
            self.pay(at + after, Row { purpose: Purpose::Refund, amount, credit, ..back });
        }
    }

    /// A reservation, and how it ends.
    fn hold(&mut self, at: u64, row: Row) {
        let pending = TransferFlags::PENDING;
        let id = self.pay(at, Row { flags: pending, timeout_seconds: HOLD_SECONDS, ..row });
        let after = DAY + self.chance.below(2 * DAY);
        let post = Row { pending: id, flags: TransferFlags::POST_PENDING, ..row };
        if self.chance.is(HOLDS_LEFT) {
            return;
        }
        if !self.chance.is(HOLDS_VOIDED) {
            // A pump reserves a round sum and posts what was filled.
            let amount = if self.chance.is(200) { row.amount.div_ceil(2) } else { row.amount };
            self.queue(at + after, Row { amount, ..post });
            return;
        }
        self.queue(at + after, Row { flags: TransferFlags::VOID_PENDING, ..post });
        self.balances[row.debit] += row.amount;
        self.balances[row.credit] -= row.amount.min(self.balances[row.credit]);
        if self.chance.is(LATE_POSTS) {
            self.queue(at + after + HOUR, post);
        }
    }
}

impl Iterator for Bank {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        self.left = self.left.checked_sub(1)?;
        loop {
            let next = self.queue.first_entry();
            if let Some(next) = next.filter(|next| next.key().0 < self.day * DAY) {
                let row = next.remove();
                if self.chance.is(REPEATS) {
                    let later = row.seconds + 1 + self.chance.below(90);
                    self.queued += 1;
                    self.queue.insert((later, self.queued), row);
                }
                return Some(row);
            }
            self.begin_day();
        }
    }
}

impl Market {
    fn row(&self, debit: usize, credit: usize, amount: u64, purpose: Purpose) -> Row {
        Row {
            id: 0,
            debit,
            credit,
            amount,
            currency: self.currency,
            purpose,
            pending: 0,
            about: 0,
            seconds: 0,
            timeout_seconds: 0,
            flags: TransferFlags::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use walengine_net::model::{Book, PartitionId, Timestamp, Verdict};

    use super::*;
    use crate::ledger::{Draft, Ledger, Outcomes};

    const SHAPE: Shape = Shape { seed: 7, accounts: 500, transfers: 20_000 };

    #[test]
    fn rows_are_in_order_of_time_and_as_many_as_asked_for() {
        let rows: Vec<Row> = Bank::new(SHAPE).collect();
        assert_eq!(rows.len() as u64, SHAPE.transfers);
        assert!(rows.iter().all(|row| row.amount > 0 && row.debit != row.credit));
        let bank = Bank::new(SHAPE);
        let names: HashSet<&str> = bank.accounts().iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names.len(), bank.accounts().len(), "no name twice");
        assert_eq!(names.len(), SHAPE.accounts + 2 * 3);
        // A repeat stands where it was sent again, with the time of the first.
        let mut seen = HashSet::new();
        let first: Vec<u64> =
            rows.iter().filter(|row| seen.insert(row.id)).map(|row| row.seconds).collect();
        assert!(first.is_sorted());
    }

    #[test]
    fn a_bank_has_all_that_banks_have() {
        let bank = Bank::new(SHAPE);
        let accounts = bank.accounts().to_vec();
        let rows: Vec<Row> = bank.collect();
        let count = |wanted: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| wanted(row)).count();
        for purpose in [
            Purpose::Deposit,
            Purpose::Salary,
            Purpose::Rent,
            Purpose::Fee,
            Purpose::Card,
            Purpose::Refund,
            Purpose::Reversal,
            Purpose::Savings,
            Purpose::Gift,
        ] {
            assert!(count(&|row| row.purpose == purpose) > 5, "{purpose:?}");
        }
        for flag in
            [TransferFlags::PENDING, TransferFlags::POST_PENDING, TransferFlags::VOID_PENDING]
        {
            assert!(count(&|row| row.flags == flag) > 50, "{flag:?}");
        }
        for currency in [Currency::Eur, Currency::Usd, Currency::Jpy] {
            assert!(count(&|row| row.currency == currency) > 100, "{currency:?}");
        }
        let strays = |row: &Row| accounts[row.debit].currency != accounts[row.credit].currency;
        assert!(count(&strays) > 0, "a payment in another currency");
        let closed = |row: &Row| accounts[row.credit].flags.contains(AccountFlags::CLOSED);
        assert!(count(&closed) > 0, "a refund to a closed account");
        let ids: HashSet<u64> = rows.iter().map(|row| row.id).collect();
        let repeats = rows.len() - ids.len();
        assert!((50..400).contains(&repeats), "{repeats} repeats");
        let mut paid = HashMap::<usize, usize>::new();
        for row in &rows {
            *paid.entry(row.credit).or_default() += 1;
        }
        let most = paid.values().max().copied().unwrap();
        assert!(most > rows.len() / 20, "somebody has much of the traffic: {most}");
    }

    #[test]
    fn a_ledger_takes_nearly_all_of_it_and_refuses_what_a_bank_would() {
        let (book, now) = (Book(0), Timestamp(1));
        let mut ledger = Ledger::new(PartitionId(0), 1);
        let (mut draft, mut outcomes) = (Draft::new(), Outcomes::new());
        let bank = Bank::new(SHAPE);
        let accounts = bank.accounts().to_vec();
        let created: Vec<_> = accounts.iter().map(|one| one.account(book).to_bytes()).collect();
        ledger.submit(&created, &mut draft, now, &mut outcomes);
        assert!(outcomes.iter().all(|one| one.verdict.is_ok()));
        outcomes.clear();
        let rows: Vec<_> = bank.map(|row| row.transfer(book, &accounts).to_bytes()).collect();
        for rows in rows.chunks(1000) {
            draft.clear();
            ledger.submit(rows, &mut draft, now, &mut outcomes);
        }
        let mut refused = HashMap::<&str, usize>::new();
        for outcome in outcomes.iter().filter(|one| !one.verdict.is_ok()) {
            *refused.entry(outcome.verdict.name()).or_default() += 1;
        }
        let count: usize = refused.values().sum();
        assert!(count < rows.len() / 25, "{refused:?}");
        for verdict in [
            Verdict::ExceedsCredits,
            Verdict::CreditAccountClosed,
            Verdict::AccountsOnDifferentLedgers,
            Verdict::PendingAlreadyVoided,
        ] {
            assert!(refused.contains_key(verdict.name()), "{verdict:?}: {refused:?}");
        }
    }

    #[test]
    fn another_seed_is_another_bank_and_ids_do_not_meet() {
        let other = Shape { seed: 8, ..SHAPE };
        let ids: HashSet<u64> = Bank::new(SHAPE).map(|row| row.id).collect();
        assert!(Bank::new(other).all(|row| !ids.contains(&row.id)));
        let smallest = Shape { seed: 0, accounts: 10, transfers: 3_000 };
        assert_eq!(Bank::new(smallest).count(), 3_000);
    }

    #[test]
    fn months_end_where_they_end() {
        // 29 January, 31 January, 28 February 2026, 29 February 2028.
        assert_eq!(day_of_month(FIRST_DAY), (29, false));
        assert_eq!(day_of_month(FIRST_DAY + 2), (31, true));
        assert_eq!(day_of_month(FIRST_DAY + 30), (28, true));
        assert_eq!(day_of_month(21_243), (29, true));
    }
}
