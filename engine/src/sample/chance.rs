//! What a sample leaves to chance, and its calendar.

/// Numbers by chance, the same everywhere: splitmix64.
#[derive(Debug)]
pub struct Chance(pub u64);

impl Chance {
    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }

    /// A place in a list that is so long.
    pub fn place(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// True this many times of a thousand.
    pub fn is(&mut self, per_thousand: u64) -> bool {
        self.below(1000) < per_thousand
    }
}

/// Draws places so that the n-th comes an n-th as often as the first. In whole numbers, because
/// floating point differs between machines.
#[derive(Debug)]
pub struct Zipf {
    sums: Vec<u64>,
}

impl Zipf {
    /// Draws from so many places.
    pub fn new(len: usize) -> Self {
        let mut sum = 0;
        let weights = (1..=len as u64).map(|place| (1 << 32) / place);
        Self {
            sums: weights
                .map(|weight| {
                    sum += weight;
                    sum
                })
                .collect(),
        }
    }

    /// A place by chance.
    pub fn draw(&self, chance: &mut Chance) -> usize {
        let drawn = chance.below(*self.sums.last().expect("there is somebody to draw"));
        self.sums.partition_point(|sum| *sum <= drawn)
    }
}

/// Day of the month of a day since 1970, from 1, and whether it is the month's last.
pub fn day_of_month(day: u64) -> (u64, bool) {
    let (mut left, mut year) = (day, 1970);
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    for month in 0..12 {
        let days = match month {
            1 => 28 + u64::from(is_leap(year)),
            3 | 5 | 8 | 10 => 30,
            _ => 31,
        };
        if left < days {
            return (left + 1, left + 1 == days);
        }
        left -= days;
    }
    unreachable!("a year has twelve months")
}
