//! What is looked up: an id in its namespace, and the hash that stands for both.

/// A namespace of ids. An id can be in each of them once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Space {
    #[default]
    /// Events but accounts: transfers, guards, closings, opaque records.
    Event = 0,
    /// Accounts.
    Account = 1,
    /// What became of the reservation with this id.
    Resolution = 2,
}

impl Space {
    /// `None` if no namespace has this number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Event, Self::Account, Self::Resolution]
            .into_iter()
            .find(|space| *space as u8 == number)
    }

    /// Keeps apart the hashes of one id in different namespaces.
    fn salt(self) -> u64 {
        match self {
            Self::Event => 0xe703_7ed1_a0b4_28db,
            Self::Account => 0xa076_1d64_78bd_642f,
            Self::Resolution => 0x2d35_8dcc_aa6c_78a5,
        }
    }
}

/// An id with its namespace and hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// The id.
    pub id: u128,
    /// Its namespace.
    pub space: Space,
    /// [`hash_of_id`] of both.
    pub hash: u64,
}

/// Its own: nothing is computed.
impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Key {
    /// The key of an id in a namespace.
    pub fn new(id: u128, space: Space) -> Self {
        Self { id, space, hash: hash_of_id(id, space) }
    }
}

/// Two folded multiplications. Sequential, random and `UUIDv7` ids all spread over all 64 bits. Stands
/// in files: it never changes.
#[inline]
pub fn hash_of_id(id: u128, space: Space) -> u64 {
    let low = fold(id as u64 ^ 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3);
    fold((id >> 64) as u64 ^ low ^ space.salt(), 0x1d8e_4e27_c47d_124f)
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_files_written_so_far() {
        let id = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;
        let hashes = [Space::Event, Space::Account, Space::Resolution].map(|s| hash_of_id(id, s));
        assert_eq!(hashes, [0x82c0_c3c1_bce6_4159, 0x53a4_5c12_3145_4eae, 0x7622_43cc_723a_6939]);
    }

    #[test]
    fn a_space_is_its_number() {
        for number in 0..=255 {
            let space = Space::from_number(number);
            assert_eq!(space.map(|space| space as u8), (number < 3).then_some(number));
        }
    }
}
