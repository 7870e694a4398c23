//! The checksum of a spool's records: fast and not cryptographic. It tells what was written from what a torn write, a
//! failing disk or an earlier use of the place has left, not from what somebody forged.
//!
//! Thirty-two bytes at a time in four lanes that the processor works on at once. Each step has an inverse: no change
//! within one word is lost. What has changed elsewhere, too, goes unnoticed once in 2³².

/// Odd numbers without a pattern: the golden ratio, and the roots of 2, 3 and 5.
const FACTORS: [u64; 4] = [0x9e37_79b9_7f4a_7c15, 0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b];

#[inline]
const fn step(lane: u64, word: u64, factor: u64) -> u64 {
    let product = (lane ^ word).wrapping_mul(factor);
    product ^ product >> 32
}

#[inline]
fn steps([a, b, c, d]: [u64; 4], bytes: &[u8; 32]) -> [u64; 4] {
    let word = |at: usize| {
        let word = bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
        u64::from_le_bytes(word)
    };
    let [e, f, g, h] = FACTORS;
    [step(a, word(0), e), step(b, word(8), f), step(c, word(16), g), step(d, word(24), h)]
}

/// Mixes the bits of a number so that each of them has an effect on all, without losing any.
#[inline]
pub(super) const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ bits >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ bits >> 33
}

/// The checksum of these bytes; another one for each seed.
#[inline]
pub(super) fn of(seed: u64, bytes: &[u8]) -> u32 {
    let mut lanes = FACTORS.map(|factor| seed ^ factor);
    let mut blocks = bytes.chunks_exact(32);
    for block in &mut blocks {
        if let Some(block) = block.first_chunk() {
            lanes = steps(lanes, block);
        }
    }
    // What is missing is zero; the length tells the difference.
    let mut last = [0; 32];
    let rest = blocks.remainder();
    if let Some(place) = last.get_mut(..rest.len()) {
        place.copy_from_slice(rest);
    }
    lanes = steps(lanes, &last);
    let [a, b, c, d] = lanes;
    let [factor, other, ..] = FACTORS;
    (mix(step(a, b, factor) ^ step(c, d, other).rotate_left(32) ^ bytes.len() as u64) >> 32) as u32
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test")]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    #[test]
    fn every_bit_byte_length_and_seed_counts() {
        let mut bytes: Vec<u8> = (1..101).collect();
        let mut seen = BTreeSet::new();
        let mut new = |sum: u32| assert!(seen.insert(sum), "two of a few thousand are the same");
        for seed in 0..100 {
            new(super::of(seed, &bytes));
        }
        for bit in 0..800 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            new(super::of(0, &bytes));
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for length in 0..100 {
            new(super::of(0, &bytes[..length]));
        }
        bytes.fill(0);
        for length in 1..100 {
            new(super::of(0, &bytes[..length]));
        }
    }
}
