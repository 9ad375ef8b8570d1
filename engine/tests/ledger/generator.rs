//! Random requests that exercise every rule: few accounts and small numbers, so that events collide.

use walengine_net::entry::{ANY_OFFSET, RecordHead};
use walengine_net::model::{
    Account, AccountFlags, AccountId, Amount, Book, Close, CloseFlags, Code, Describe,
    DescribeFlags, EventBytes, EventId, Expire, Guard, GuardFlags, LedgerId, Name, NameFlags,
    NameText, PartitionId, Transfer, TransferFlags,
};
use walengine_net::partition;

use walengine::ledger::RECORD_BYTES_MAX;

use crate::Random;
use crate::model::Model;
use crate::reserved::Fate;

/// Bodies that can be sent again.
const REMEMBERED_MAX: usize = 400;

pub struct Generator {
    pub random: Random,
    here: u128,
    elsewhere: [u128; 2],
    accounts: u64,
    limited_per_mille: u64,
    huge_per_mille: u64,
    linked_per_mille: u64,
    malformed_per_mille: u64,
    sent: Vec<EventBytes>,
    sent_records: Vec<(RecordHead, Vec<u8>)>,
    next_id: u128,
}

/// A book of this partition, and books of two others.
fn books(own: PartitionId, partitions: u16) -> (u128, [u128; 2]) {
    let book_of = |wanted: PartitionId| {
        (1..1000).map(Book).find(|&book| partition::of_book(book, partitions) == wanted)
    };
    let others = (0..partitions).map(PartitionId).filter(|&other| other != own);
    let mut others = others.map(|other| u128::from(book_of(other).unwrap().0) << 96);
    let others = [others.next().unwrap(), others.next().unwrap()];
    (u128::from(book_of(own).unwrap().0) << 96, others)
}

impl Generator {
    pub fn new(seed: u64, own: PartitionId, partitions: u16) -> Self {
        let mut random = Random::new(seed);
        let (here, elsewhere) = books(own, partitions);
        Self {
            here,
            elsewhere,
            accounts: random.pick(&[4, 12, 40]),
            limited_per_mille: random.pick(&[0, 300, 800]),
            huge_per_mille: random.pick(&[0, 0, 30, 300]),
            linked_per_mille: random.pick(&[50, 200, 500]),
            malformed_per_mille: random.pick(&[0, 20, 60]),
            sent: Vec::new(),
            sent_records: Vec::new(),
            next_id: u128::from(random.next()) << 64,
            random,
        }
    }

    pub fn batch(&mut self, length: usize, model: &Model) -> Vec<EventBytes> {
        let first = self.next_id;
        let mut events = Vec::with_capacity(length);
        while events.len() < length {
            if self.random.chance(28) {
                self.chain(model, first, &mut events);
                continue;
            }
            let mut bytes = self.event(model, first);
            if self.random.chance(self.linked_per_mille) {
                bytes[118] |= 1;
            }
            if self.random.chance(self.malformed_per_mille) {
                self.damage(&mut bytes);
            }
            events.push(bytes);
        }
        if let Some(last) = events.last_mut()
            && !self.random.chance(50)
        {
            last[118] &= !1;
        }
        for &bytes in &events {
            let place = self.random.below(REMEMBERED_MAX);
            match self.sent.get_mut(place) {
                Some(sent) => *sent = bytes,
                None => self.sent.push(bytes),
            }
        }
        events
    }

    fn event(&mut self, model: &Model, first: u128) -> EventBytes {
        match self.random.below(100) {
            0..8 if !self.sent.is_empty() => self.again(),
            8..14 => self.account(),
            14..50 => self.transfer(TransferFlags::default()),
            50..66 => self.end_pending(model, first),
            66..76 => self.balancing(),
            76..83 => self.guard(model),
            83..86 => self.close(),
            86..89 => self.name(),
            _ => self.transfer(TransferFlags::PENDING),
        }
    }

    /// A chain that may be decided by this partition and another one.
    fn chain(&mut self, model: &Model, first: u128, events: &mut Vec<EventBytes>) {
        let (begin, away) = (events.len(), self.random.pick(&self.elsewhere));
        for _ in 0..2 + self.random.below(4) {
            let mut transfer = match self.random.below(10) {
                0 => {
                    let mut guard = Guard::from_bytes(&self.guard(model));
                    guard.account_id = AccountId(away | (guard.account_id.0 % 8));
                    events.push(guard.to_bytes());
                    continue;
                }
                1 | 2 => Transfer::from_bytes(&self.end_pending(model, first)),
                3 => Transfer::from_bytes(&self.balancing()),
                4 | 5 => Transfer::from_bytes(&self.transfer(TransferFlags::PENDING)),
                _ => Transfer::from_bytes(&self.transfer(TransferFlags::default())),
            };
            let ends = transfer.pending_id.0 != 0;
            if !ends && !transfer.is_balancing() && self.random.chance(300) {
                transfer.credit_account_id = AccountId(away | (transfer.credit_account_id.0 % 8));
            }
            let is_plain = transfer.flags == TransferFlags::default();
            if is_plain && self.random.chance(250) {
                transfer.debit_account_id = AccountId(away | (transfer.debit_account_id.0 % 8));
            }
            events.push(transfer.to_bytes());
        }
        let last = events.len() - 1;
        events[begin..last].iter_mut().for_each(|bytes| bytes[118] |= 1);
        events[last][118] &= !1;
    }

    fn fresh_id(&mut self) -> EventId {
        self.next_id += 1;
        EventId(self.next_id)
    }

    fn again(&mut self) -> EventBytes {
        let mut bytes = self.random.pick(&self.sent);
        if self.random.chance(300) {
            bytes[96] ^= 1; // user data, or a byte that must be zero
        }
        if self.random.chance(100) {
            bytes[118] ^= 1; // into or out of a chain: another body
        }
        bytes
    }

    fn account_id(&mut self) -> AccountId {
        let number = u128::from(self.random.next() % (self.accounts + 1)) + 1;
        let book =
            if self.random.chance(5) { self.random.pick(&self.elsewhere) } else { self.here };
        AccountId(book | number)
    }

    /// Mostly that of the account: even accounts are on ledger 2.
    fn ledger(&mut self, account: AccountId) -> LedgerId {
        let own = if account.0.is_multiple_of(8) { 2 } else { 1 };
        LedgerId(if self.random.chance(20) { 3 - own } else { own })
    }

    fn amount(&mut self) -> Amount {
        let small = u128::from(self.random.next() % 100);
        if self.random.chance(self.huge_per_mille) {
            return Amount(self.random.pick(&[
                u128::MAX - small,
                u128::MAX / 2 + small,
                u128::MAX / 2 - small,
                u128::MAX / 4,
            ]));
        }
        Amount(small + 1)
    }

    fn account(&mut self) -> EventBytes {
        let mut flags = AccountFlags::default();
        if self.random.chance(self.limited_per_mille) {
            flags = self.random.pick(&[
                AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS,
                AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS,
            ]);
        }
        if self.random.chance(30) {
            flags = flags.with(AccountFlags::CLOSED);
        }
        let id = self.account_id();
        let ledger = self.ledger(id);
        let user_data_64 = self.random.next() % 2; // often the same body again
        let account =
            Account { id, ledger, code: Code(1), flags, user_data_64, ..Account::default() };
        account.to_bytes()
    }

    fn transfer(&mut self, flags: TransferFlags) -> EventBytes {
        let (debit, mut credit) = (self.account_id(), self.account_id());
        let spans_per_mille = if flags.contains(TransferFlags::PENDING) { 120 } else { 30 };
        if self.random.chance(spans_per_mille) {
            credit = AccountId(self.random.pick(&self.elsewhere) | (credit.0 % 8));
        } else if self.random.chance(3) {
            credit = AccountId::in_transit(PartitionId(0), LedgerId(1));
        }
        let pending = flags.contains(TransferFlags::PENDING);
        let timeout = if pending { self.random.pick(&[0, 1, 1, 2, 5]) } else { 0 };
        let transfer = Transfer {
            id: self.fresh_id(),
            debit_account_id: debit,
            credit_account_id: credit,
            amount: self.amount(),
            timeout_seconds: timeout,
            ledger: self.ledger(debit),
            code: Code(self.random.pick(&[1, 1, 1, 2])),
            flags,
            ..Transfer::default()
        };
        transfer.to_bytes()
    }

    fn balancing(&mut self) -> EventBytes {
        let mut flags = self.random.pick(&[
            TransferFlags::BALANCING_DEBIT,
            TransferFlags::BALANCING_CREDIT,
            TransferFlags::BALANCING_DEBIT.with(TransferFlags::BALANCING_CREDIT),
        ]);
        if self.random.chance(200) {
            flags = flags.with(TransferFlags::PENDING);
        }
        self.transfer(flags)
    }

    /// Posts or voids a reservation, mostly an open one; sometimes one of this very request.
    fn end_pending(&mut self, model: &Model, first: u128) -> EventBytes {
        let reservations = &model.state.reservations;
        let open = |id: &u128| reservations.get(id).is_some_and(|r| r.fate == Fate::Open);
        let from = u128::from(self.random.next() % 400);
        let mut pending_id = self.next_id.saturating_sub(from);
        for _ in 0..self.random.below(4) {
            let later = reservations.range(pending_id..).map(|(id, _)| *id).find(open);
            pending_id = later.unwrap_or(pending_id);
        }
        if self.random.chance(150) && self.next_id > first {
            pending_id = self.next_id - u128::from(self.random.next() % 3);
        }
        if self.random.chance(20) {
            pending_id = 7; // never used
        }
        let post = self.random.chance(600);
        let mut transfer = Transfer {
            id: self.fresh_id(),
            pending_id: EventId(pending_id),
            flags: if post { TransferFlags::POST_PENDING } else { TransferFlags::VOID_PENDING },
            ..Transfer::default()
        };
        if self.random.chance(300) {
            transfer.amount = self.amount();
        }
        if let Some(reservation) = reservations.get(&pending_id) {
            let original = reservation.transfer;
            match self.random.below(8) {
                0 => transfer.amount = Amount(reservation.amount),
                1 => transfer.debit_account_id = original.debit_account_id,
                2 => transfer.credit_account_id = original.credit_account_id,
                3 => (transfer.ledger, transfer.code) = (original.ledger, original.code),
                4 => {
                    transfer.debit_account_id = original.debit_account_id;
                    transfer.credit_account_id = original.credit_account_id;
                }
                _ => {}
            }
        }
        match self.random.below(40) {
            0 => transfer.debit_account_id = self.account_id(),
            1 => transfer.credit_account_id = self.account_id(),
            2 => transfer.ledger = LedgerId(2),
            3 => transfer.code = Code(2),
            _ => {}
        }
        transfer.to_bytes()
    }

    fn guard(&mut self, model: &Model) -> EventBytes {
        let account_id = self.account_id();
        let account = model.state.accounts.get(&account_id.0).copied().unwrap_or_default();
        let mut guard = Guard { id: self.fresh_id(), account_id, ..Guard::default() };
        if self.random.chance(600) {
            guard.flags = guard.flags.with(GuardFlags::VERSION);
            guard.version = account.version + u64::from(self.random.chance(150));
        }
        if self.random.chance(500) {
            guard.flags = guard.flags.with(GuardFlags::AVAILABLE_TO_DEBIT);
            guard.available = Amount(self.random.pick(&[0, 1, 20, 100, u128::MAX]));
        } else if self.random.chance(300) {
            guard.flags = guard.flags.with(GuardFlags::AVAILABLE_TO_CREDIT);
            guard.available = Amount(self.random.pick(&[0, 1, 20]));
        }
        let mut bytes = guard.to_bytes();
        bytes[118] |= u8::from(self.random.chance(900)); // in a chain
        bytes
    }

    fn close(&mut self) -> EventBytes {
        let reopen = self.random.chance(550);
        let flags = if reopen { CloseFlags::REOPEN } else { CloseFlags::default() };
        Close { id: self.fresh_id(), account_id: self.account_id(), flags }.to_bytes()
    }

    fn name(&mut self) -> EventBytes {
        let id = self.fresh_id();
        let texts =
            ["", "Anna", "anna b", "an account whose name is long", "An account whose name is"];
        let name = NameText::new(self.random.pick(&texts)).unwrap();
        if self.random.chance(40) {
            let (ledger, scale) = (LedgerId(1), self.random.pick(&[2, 39]));
            let flags = DescribeFlags::default();
            return Describe { id, ledger, name, scale, flags }.to_bytes();
        }
        Name { id, account_id: self.account_id(), name, flags: NameFlags::default() }.to_bytes()
    }

    /// Sets something that a well-formed event must not have, or clears what it must have.
    fn damage(&mut self, bytes: &mut EventBytes) {
        let at = match self.random.below(16) {
            0 => {
                *bytes = Expire { pending_id: EventId(self.next_id) }.to_bytes();
                return;
            }
            1 => 0..16,
            2 => {
                bytes[..16].fill(255);
                return;
            }
            3 => 16..32,
            4 => 32..48,
            5 => 48..64,
            6 => 112..116,
            7 => 116..118,
            8 => 64..80,
            9 => {
                bytes[118] ^= 1 << self.random.below(8);
                return;
            }
            10 => {
                bytes[119] ^= 1 << self.random.below(8);
                return;
            }
            11 => {
                bytes[120] = 1;
                return;
            }
            12 => {
                bytes.copy_within(16..32, 32); // the same account twice
                return;
            }
            13 => {
                bytes.copy_within(0..16, 64); // its own pending id
                return;
            }
            14 => {
                bytes[108] = 1; // a timeout
                return;
            }
            _ => {
                let at = self.random.below(128);
                bytes[at] ^= 1 << self.random.below(8);
                return;
            }
        };
        bytes[at].fill(0);
    }

    pub fn records(&mut self, next_offset: u64) -> Vec<(RecordHead, Vec<u8>)> {
        let mut records = Vec::new();
        for _ in 0..=self.random.below(6) {
            let mut bytes = vec![self.random.next() as u8; self.random.below(40)];
            let id = match self.random.below(40) {
                0 => 0,
                1 => u128::MAX,
                _ => self.fresh_id().0,
            };
            if self.random.chance(10) {
                bytes = vec![0; RECORD_BYTES_MAX as usize + 1];
            }
            let expected_offset = if self.random.chance(500) {
                next_offset + records.len() as u64 + u64::from(self.random.chance(300))
            } else {
                ANY_OFFSET
            };
            let mut record = (RecordHead { id, expected_offset, bytes: bytes.len() as u32 }, bytes);
            if !self.sent_records.is_empty() && self.random.chance(200) {
                let again = self.random.below(self.sent_records.len());
                record = self.sent_records[again].clone();
                if self.random.chance(300) {
                    record.0.expected_offset = ANY_OFFSET - 1;
                }
            }
            if record.1.len() < 100 {
                self.sent_records.push(record.clone());
            }
            records.push(record);
        }
        records
    }
}
