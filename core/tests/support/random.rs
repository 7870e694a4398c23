//! Numbers that a seed gives.

/// xorshift64*; the seed is not zero.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number below this bound.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}
