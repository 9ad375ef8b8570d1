//! Mutations: small damage, boundary numbers, pieces of other inputs.

use walengine_tests::sim::Rng;

/// Longest input.
const INPUT_BYTES_MAX: usize = 64 << 10;
/// Numbers at which code behaves differently.
const EDGES: [u64; 12] = [
    0,
    1,
    2,
    127,
    128,
    8190,
    8191,
    0x7fff_ffff,
    0xffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX - 1,
    u64::MAX,
];

/// Makes new inputs from old ones. The same seed makes the same inputs.
pub struct Mutator(Rng);

impl Mutator {
    /// Mutations of this seed.
    pub fn new(seed: u64) -> Self {
        Self(Rng::new(seed))
    }

    /// Whether the next input is to be repaired.
    pub fn repairs(&mut self) -> bool {
        self.0.percent(75)
    }

    /// A mutation of one of `inputs`.
    pub fn mutate(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut input = inputs[self.0.index(inputs.len())].clone();
        for _ in 0..self.0.between(1, 5) {
            self.change(&mut input, inputs);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        if input.is_empty() {
            input.push(self.0.next_u64() as u8);
            return;
        }
        let at = self.0.index(input.len());
        match self.0.below(9) {
            0 => input[at] ^= 1 << self.0.below(8),
            1 => input[at] = self.0.next_u64() as u8,
            2 | 3 => {
                let edge = EDGES[self.0.index(EDGES.len())].to_le_bytes();
                let width = (1 << self.0.below(4)).min(input.len() - at);
                input[at..at + width].copy_from_slice(&edge[..width]);
            }
            4 => input.truncate(at),
            5 => {
                let end = at + self.0.index(input.len() - at) + 1;
                let piece = input[at..end].to_vec();
                let to = self.0.index(input.len() + 1);
                input.splice(to..to, piece);
            }
            6 => {
                let end = at + self.0.index((input.len() - at).min(64)) + 1;
                input.drain(at..end);
            }
            7 => {
                let other = &inputs[self.0.index(inputs.len())];
                input.extend_from_slice(other);
            }
            _ => {
                let other = &inputs[self.0.index(inputs.len())];
                if !other.is_empty() {
                    let from = self.0.index(other.len());
                    let bytes = (other.len() - from).min(input.len() - at);
                    input[at..at + bytes].copy_from_slice(&other[from..from + bytes]);
                }
            }
        }
    }
}
