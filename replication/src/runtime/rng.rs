//! Randomness of the entered executor.

use std::convert::Infallible;

use rand::TryRng;

use super::current::current;

/// Draws from the executor that is entered at the time of the draw. Never for secrets.
#[derive(Clone, Copy, Debug)]
pub struct LocalRng;

impl TryRng for LocalRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((current().random_u64() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(current().random_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        let executor = current();
        for chunk in bytes.chunks_mut(size_of::<u64>()) {
            let random = executor.random_u64().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
        Ok(())
    }
}
