//! Numbers as text, as they stand in JSON: what `core::fmt` writes, faster, and in a tenth of the code, which counts where
//! this crate runs as WebAssembly. Pieces of text are handed on in order, as by [`escape`](crate::escape).

use crate::id::ascii;

/// An integer.
pub(crate) fn integer(value: i64, put: &mut dyn FnMut(&str)) {
    if value < 0 {
        put("-");
    }
    put(decimal(value.unsigned_abs(), &mut [0; 20]));
}

/// An integer without sign.
pub(crate) fn unsigned(value: u64, put: &mut dyn FnMut(&str)) {
    put(decimal(value, &mut [0; 20]));
}

fn decimal(mut value: u64, text: &mut [u8; 20]) -> &str {
    let mut from = text.len();
    for digit in text.iter_mut().rev() {
        *digit = b'0' | (value % 10) as u8;
        value /= 10;
        from = from.saturating_sub(1);
        if value == 0 {
            break;
        }
    }
    ascii(text.get(from..).unwrap_or_default())
}

/// A finite number, with the fewest digits that read back the same; of those the nearest. It has a point or an exponent,
/// so that it stays a floating-point number to readers that tell them apart: what `{:?}` writes.
pub(crate) fn double(value: f64, put: &mut dyn FnMut(&str)) {
    if value.is_sign_negative() {
        put("-");
    }
    let bits = value.to_bits() & (u64::MAX >> 1);
    if bits == 0 {
        return put("0.0");
    }
    let (mut digits, mut exponent) = shortest(bits);
    while digits % 10 == 0 {
        digits /= 10;
        exponent = exponent.saturating_add(1);
    }
    let mut text = [0; 20];
    let text = decimal(digits, &mut text);
    // How many digits stand before the point, if there are so many.
    let point = exponent.saturating_add(text.len() as i32);
    let zeros =
        |count: i32| usize::try_from(count).ok().and_then(|count| "0000000000000000".get(..count)).unwrap_or_default();
    let split = |at: i32| usize::try_from(at).ok().and_then(|at| text.split_at_checked(at)).unwrap_or((text, ""));
    match point {
        -3..=0 => {
            put("0.");
            put(zeros(point.saturating_neg()));
            put(text);
        }
        1..=16 => {
            let (whole, fraction) = split(point);
            put(whole);
            put(zeros(exponent));
            put(".");
            put(if fraction.is_empty() { "0" } else { fraction });
        }
        _ => {
            let (first, more) = split(1);
            put(first);
            put(if more.is_empty() { "" } else { "." });
            put(more);
            put("e");
            integer(i64::from(point).saturating_sub(1), put);
        }
    }
}

/// The digits and the power of ten of a positive number with these bits, by Schubfach (R. Giulietti, "The Schubfach way to
/// render doubles"). What the names mean stands there.
fn shortest(bits: u64) -> (u64, i32) {
    const FRACTION: u64 = (1 << 52) - 1;
    let (fraction, exponent) = (bits & FRACTION, (bits >> 52) as i32);
    let (c, q) = match exponent {
        0 => (fraction, -1074),
        _ => (fraction | (FRACTION + 1), exponent.wrapping_sub(1075)),
    };
    // Whole numbers are their own digits.
    if (-52..=0).contains(&q) && c.trailing_zeros() >= q.unsigned_abs() {
        return (c >> q.unsigned_abs(), 0);
    }
    // The numbers that read back the same lie between two bounds, which do so too if `c` is even. Below a power of two
    // the next number is only half as far as above.
    let odd = c & 1;
    let is_lower_closer = fraction == 0 && exponent > 1;
    // floor(log10(2^q)), or that of three quarters of it.
    let k = q.wrapping_mul(1_262_611).wrapping_sub(if is_lower_closer { 524_031 } else { 0 }) >> 22;
    let power = power_of_ten(k.wrapping_neg());
    // So that the product has the point behind its highest 64 bits: 1 to 4.
    let h = q.wrapping_add(log2_of_power(k.wrapping_neg())).wrapping_add(1);
    // A quarter of it is what is in units of 10^k; its lowest bit is set if it is not exact.
    let scaled = |quarters: u64| {
        let factor = u128::from(quarters.wrapping_shl(h as u32));
        let low = (power & u128::from(u64::MAX)).wrapping_mul(factor) >> 64;
        let sum = (power >> 64).wrapping_mul(factor).wrapping_add(low);
        (sum >> 64) as u64 | u64::from(sum as u64 > 1)
    };
    let quarters = c.wrapping_mul(4);
    let lower = scaled(quarters.wrapping_sub(2).wrapping_add(is_lower_closer.into())).wrapping_add(odd);
    let upper = scaled(quarters.wrapping_add(2)).wrapping_sub(odd);
    let value = scaled(quarters);
    // One digit less, if just one such number lies between the bounds.
    let tens = value / 40;
    let is_in = |quarters: u64| lower <= quarters && quarters <= upper;
    let (below, above) = (is_in(tens.wrapping_mul(40)), is_in(tens.wrapping_add(1).wrapping_mul(40)));
    if tens > 0 && below != above {
        return (tens.wrapping_add(above.into()), k.wrapping_add(1));
    }
    let ones = value / 4;
    let (below, above) = (is_in(ones.wrapping_mul(4)), is_in(ones.wrapping_add(1).wrapping_mul(4)));
    // Halves go up.
    let is_up = if below != above { above } else { value & 2 != 0 };
    (ones.wrapping_add(is_up.into()), k)
}

/// floor(log2(10^n)).
const fn log2_of_power(n: i32) -> i32 {
    n.wrapping_mul(1_741_647) >> 19
}

/// 10^n as 128 bits, the highest of which is set, rounded up by less than three units: the algorithm asks for less than
/// four.
fn power_of_ten(n: i32) -> u128 {
    // Each 27th power, rounded up by less than one; those between are these and a power of five of 64 bits at most.
    const FIRST: i32 = -292;
    const STEP: i32 = 27;
    static POWERS: [u128; 23] = [
        0xff77_b1fc_bebc_dc4f_25e8_e89c_13bb_0f7b,
        0xce5d_73ff_402d_98e3_fb0a_3d21_2dc8_1290,
        0xa6b3_4ad8_c9df_c06f_f42f_aa48_c0ea_481f,
        0x86a8_d39e_f771_64bc_ae5d_ff9c_0203_3198,
        0xd98d_daee_1906_8c76_3bad_d624_dd9b_0958,
        0xafbd_2350_644e_eacf_e5d1_929e_f908_98fb,
        0x8df5_efab_c597_9c8f_ca8d_3ffa_1ef4_63c2,
        0xe559_9087_9ddc_aabd_cc42_0a6a_101d_0516,
        0xb944_7093_8fa8_9bce_f808_e40e_8d5b_3e6a,
        0x95a8_6376_2798_9aad_dde7_0013_79a4_4aa9,
        0xf1c9_0080_baf7_2cb1_5324_c68b_12dd_6339,
        0xc350_0000_0000_0000_0000_0000_0000_0000,
        0x9dc5_ada8_2b70_b59d_f020_0000_0000_0000,
        0xfee5_0b70_25c3_6a08_02f2_36d0_4753_d5b5,
        0xcde6_fd5e_09ab_cf26_ed4c_0226_b55e_6f87,
        0xa653_9930_bf6b_ff45_84db_8346_b786_151d,
        0x865b_8692_5b9b_c5c2_0b8a_2392_ba45_a9b3,
        0xd910_f7ff_2806_9da4_1b2b_a151_8094_da05,
        0xaf58_4166_54a6_babb_387a_c8d1_9700_27b3,
        0x8da4_71a9_de73_7e24_5cea_ecfe_d289_e5d3,
        0xe4d5_e823_92a4_0515_0fab_af3f_eaa5_334b,
        0xb8da_1662_e7b0_0a17_3d6a_751f_3b93_6244,
        0x9552_7a52_02df_0ccb_0f37_801e_0c43_ebc9,
    ];
    let from_first = n.wrapping_sub(FIRST);
    let known = usize::try_from(from_first / STEP).ok().and_then(|at| POWERS.get(at)).copied().unwrap_or_default();
    let fives = 5_u64.wrapping_pow((from_first % STEP).unsigned_abs());
    let low = (known & u128::from(u64::MAX)).wrapping_mul(fives.into());
    let high = (known >> 64).wrapping_mul(fives.into()).wrapping_add(low >> 64);
    // 192 bits: these and the lowest 64 of `low`. What is shifted out is rounded up, if it is anything.
    let shift = high.leading_zeros();
    let lowest = u128::from(low as u64).wrapping_shl(shift);
    (high.wrapping_shl(shift) | lowest >> 64).wrapping_add((lowest as u64 != 0).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;

    fn text(value: f64) -> String {
        let mut text = String::new();
        double(value, &mut |piece| text.push_str(piece));
        text
    }

    #[test]
    fn doubles_are_written_as_the_standard_library_does() {
        let check = |bits: u64| {
            let value = f64::from_bits(bits);
            if value.is_finite() {
                assert_eq!(text(value), format!("{value:?}"), "{bits:#x}");
            }
        };
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state ^ state >> 29
        };
        // Each exponent, where it begins and ends, and some between.
        for exponent in 0..0x7ff_u64 {
            for fraction in [0, 1, 2, 3, (1 << 51) - 1, 1 << 51, (1 << 52) - 2, (1 << 52) - 1] {
                check(exponent << 52 | fraction);
            }
            (0..20).for_each(|_| check(exponent << 52 | next() >> 12));
        }
        // Powers of ten and their neighbours, short decimals, and whole numbers.
        for exponent in -330..310 {
            let bits = format!("1e{exponent}").parse::<f64>().unwrap().to_bits();
            (bits.saturating_sub(3)..bits.saturating_add(3)).for_each(check);
        }
        for number in 0..20_000_u32 {
            for scale in [0.001, 0.1, 1.0, 1e3, 1e15] {
                check((-f64::from(number) * scale).to_bits());
            }
            check((next() as f64).to_bits());
            check(next());
        }
    }

    #[test]
    fn integers_are_written_as_the_standard_library_does() {
        for value in [0, 9, 10, -1, 1234, i64::MAX, i64::MIN] {
            let mut text = String::new();
            integer(value, &mut |piece| text.push_str(piece));
            assert_eq!(text, format!("{value}"));
        }
        let mut text = String::new();
        unsigned(u64::MAX, &mut |piece| text.push_str(piece));
        assert_eq!(text, format!("{}", u64::MAX));
    }
}
