//! Sets of books and ledgers that are quick to look in.

use std::fmt;

use walengine_net::model::{Book, LedgerId};

/// A set of numbers. Invariant: the ranges ascend, and between two of them a number is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// Every number.
    pub fn all() -> Self {
        Self(vec![(0, u32::MAX)])
    }

    /// Of ranges in any order, each with its first and last number.
    pub fn of(mut ranges: Vec<(u32, u32)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// The number is in it.
    #[inline]
    pub fn contains(&self, number: u32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < number);
        self.0.get(at).is_some_and(|(first, _)| *first <= number)
    }

    /// Every number is in it.
    #[inline]
    pub fn is_all(&self) -> bool {
        self.0 == [(0, u32::MAX)]
    }
}

/// `all`, or numbers and ranges: `7, 100-199`.
impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("all");
        }
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

/// Books, and in each of them ledgers. Invariant: the strips ascend and do not overlap, and none is
/// without ledgers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Area(Vec<Strip>);

/// Neighbouring books with the same ledgers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Strip {
    first: u32,
    last: u32,
    ledgers: Ranges,
}

impl Area {
    /// All of these together, each of which has all its ledgers in all its books.
    pub fn of<'a>(parts: impl Iterator<Item = (&'a Ranges, &'a Ranges)>) -> Self {
        let parts: Vec<_> = parts.collect();
        // Between two of these numbers nothing changes.
        let mut edges: Vec<u64> = parts
            .iter()
            .flat_map(|(books, _)| &books.0)
            .flat_map(|(first, last)| [u64::from(*first), u64::from(*last) + 1])
            .collect();
        edges.sort_unstable();
        edges.dedup();
        let mut strips: Vec<Strip> = Vec::new();
        for edge in edges.windows(2) {
            // The last edge of all may be 2^32; the first of a pair never is.
            let (first, last) = (edge[0] as u32, (edge[1] - 1) as u32);
            let here = parts.iter().filter(|(books, _)| books.contains(first));
            let ledgers = Ranges::of(here.flat_map(|(_, ledgers)| &ledgers.0).copied().collect());
            match strips.last_mut() {
                _ if ledgers.0.is_empty() => {}
                Some(before)
                    if before.ledgers == ledgers && before.last.checked_add(1) == Some(first) =>
                {
                    before.last = last;
                }
                _ => strips.push(Strip { first, last, ledgers }),
            }
        }
        Self(strips)
    }

    /// The ledgers of a book; `None` if the book is not in it.
    #[inline]
    pub fn ledgers(&self, book: Book) -> Option<&Ranges> {
        let at = self.0.partition_point(|strip| strip.last < book.0);
        let strip = self.0.get(at).filter(|strip| strip.first <= book.0);
        strip.map(|strip| &strip.ledgers)
    }

    /// The ledger is in it in this book.
    pub fn has(&self, book: Book, ledger: LedgerId) -> bool {
        self.ledgers(book).is_some_and(|ledgers| ledgers.contains(ledger.0))
    }

    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything is.
    pub fn is_everything(&self) -> bool {
        matches!(&*self.0, [Strip { first: 0, last: u32::MAX, ledgers }] if ledgers.is_all())
    }

    /// Its books, those with the same ledgers together.
    pub fn parts(&self) -> Vec<(Ranges, &Ranges)> {
        let mut parts: Vec<(Vec<(u32, u32)>, &Ranges)> = Vec::new();
        for Strip { first, last, ledgers } in &self.0 {
            match parts.iter_mut().find(|(_, known)| *known == ledgers) {
                Some((books, _)) => books.push((*first, *last)),
                None => parts.push((vec![(*first, *last)], ledgers)),
            }
        }
        parts.into_iter().map(|(books, ledgers)| (Ranges::of(books), ledgers)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(ranges: &[(u32, u32)]) -> Ranges {
        Ranges::of(ranges.to_vec())
    }

    #[test]
    fn ranges_are_merged_and_their_ends_belong_to_them() {
        let found = ranges(&[(100, 199), (7, 7), (8, 9), (150, 250), (u32::MAX, u32::MAX)]);
        assert_eq!(found.to_string(), "7-9, 100-250, 4294967295");
        for (number, is_in) in
            [(6, false), (7, true), (9, true), (10, false), (250, true), (251, false)]
        {
            assert_eq!(found.contains(number), is_in, "{number}");
        }
        assert!(found.contains(u32::MAX) && !found.contains(u32::MAX - 1) && !found.contains(0));
        assert!(!Ranges::default().contains(0));
        assert!(ranges(&[(1, u32::MAX), (0, 0)]).is_all());
        assert_eq!(Ranges::all().to_string(), "all");
    }

    /// What rules give together is what each of them gives, and no combination of two.
    #[test]
    fn an_area_is_exactly_the_sum_of_its_parts() {
        let sets = [
            ranges(&[(7, 7)]),
            ranges(&[(5, 20)]),
            ranges(&[(0, 6), (30, 40)]),
            Ranges::all(),
            ranges(&[(21, 21), (u32::MAX, u32::MAX)]),
        ];
        let mut chosen = 12_345_u64;
        for _ in 0..500 {
            let mut next = || {
                chosen = chosen.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                &sets[(chosen >> 33) as usize % sets.len()]
            };
            let parts: Vec<_> = (0..3).map(|_| (next(), next())).collect();
            let area = Area::of(parts.iter().copied());
            for book in [0, 4, 5, 6, 7, 8, 20, 21, 22, 30, 40, 41, u32::MAX - 1, u32::MAX] {
                for ledger in [0, 6, 7, 8, 20, 21, 35, 41, u32::MAX] {
                    let expected = parts
                        .iter()
                        .any(|(books, ledgers)| books.contains(book) && ledgers.contains(ledger));
                    let found = area.has(Book(book), LedgerId(ledger));
                    assert_eq!(found, expected, "book {book}, ledger {ledger} in {parts:?}");
                }
            }
            let all = |(books, ledgers): &(&Ranges, &Ranges)| books.is_all() && ledgers.is_all();
            assert!(area.is_everything() || !parts.iter().any(all), "{parts:?}");
            assert!(!area.is_empty());
        }
        assert!(Area::default().is_empty() && !Area::default().is_everything());
    }
}
