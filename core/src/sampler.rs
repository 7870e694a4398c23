//! Which spans are recorded: the built-in samplers of the OpenTelemetry trace SDK specification, and their names in
//! `OTEL_TRACES_SAMPLER`.
//!
//! Rules (ids as in `tests/vectors/sampler.json`):
//!
//! * SAMPLER-always: `always_on` and `always_off` decide alike for every span.
//! * SAMPLER-ratio: a ratio compares the lower 8 bytes of the trace id with its share of 2^64.
//! * SAMPLER-parent: a parent's decision holds; another sampler decides where there is no parent.
//! * TP10: what a new span's context says of whether ids are random: see [`flags_of_new_span`].

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use crate::id::{TraceFlags, TraceId};
use crate::number;

/// Whether a span is recorded and its trace marked as sampled.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Decision {
    /// The span is not recorded; its context travels without the sampled flag.
    Drop,
    /// The span is recorded; its context travels with the sampled flag.
    RecordAndSample,
}

impl Decision {
    /// Whether the span is recorded.
    pub const fn is_sampled(self) -> bool {
        matches!(self, Self::RecordAndSample)
    }

    const fn from_sampled(sampled: bool) -> Self {
        if sampled { Self::RecordAndSample } else { Self::Drop }
    }
}

/// Decides about spans. The default is [`Sampler::parent_based`] over [`Sampler::AlwaysOn`].
#[derive(Clone, PartialEq, Debug)]
pub enum Sampler {
    /// Every span.
    AlwaysOn,
    /// No span.
    AlwaysOff,
    /// This share of all traces, from 0 to 1. The decision hangs on the trace id alone, so that all services with the
    /// same share decide alike: see [`Sampler::decide`].
    TraceIdRatio(f64),
    /// Whatever was decided for the parent; another sampler where there is none.
    ParentBased(Box<ParentBased>),
}

/// The samplers that [`Sampler::ParentBased`] asks, depending on the parent.
#[derive(Clone, PartialEq, Debug)]
pub struct ParentBased {
    /// There is no parent.
    pub root: Sampler,
    /// The parent is in another process, which marked the trace as sampled.
    pub remote_sampled: Sampler,
    /// The parent is in another process, which did not.
    pub remote_not_sampled: Sampler,
    /// The parent is in this process, and sampled.
    pub local_sampled: Sampler,
    /// The parent is in this process, and not sampled.
    pub local_not_sampled: Sampler,
}

/// Why a sampler's name and argument were refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SamplerError {
    /// The name is none of those that [`Sampler::parse`] takes.
    UnknownName,
    /// The argument is not a number from 0 to 1.
    BadRatio,
}

impl fmt::Display for SamplerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownName => {
                "unknown sampler: expected always_on, always_off, traceidratio, parentbased_always_on, \
                 parentbased_always_off or parentbased_traceidratio"
            }
            Self::BadRatio => "the sampler's argument must be a number from 0 to 1",
        })
    }
}

impl core::error::Error for SamplerError {}

impl Default for Sampler {
    fn default() -> Self {
        Self::parent_based(Self::AlwaysOn)
    }
}

impl Sampler {
    /// Follows the parent, and `root` where there is none.
    pub fn parent_based(root: Self) -> Self {
        Self::ParentBased(Box::new(ParentBased {
            root,
            remote_sampled: Self::AlwaysOn,
            remote_not_sampled: Self::AlwaysOff,
            local_sampled: Self::AlwaysOn,
            local_not_sampled: Self::AlwaysOff,
        }))
    }

    /// Appends what it does, in words: `ParentBased(root: TraceIdRatio(0.5), ...)`.
    pub(crate) fn describe(&self, text: &mut String) {
        match self {
            Self::AlwaysOn => text.push_str("AlwaysOn"),
            Self::AlwaysOff => text.push_str("AlwaysOff"),
            // Hosts may make a ratio that is no number.
            Self::TraceIdRatio(ratio) if !ratio.is_finite() => text.push_str("TraceIdRatio(NaN)"),
            Self::TraceIdRatio(ratio) => {
                text.push_str("TraceIdRatio(");
                number::double(*ratio, &mut |piece| text.push_str(piece));
                text.push(')');
            }
            Self::ParentBased(parts) => {
                let parts = [
                    ("ParentBased(root: ", &parts.root),
                    (", remote_sampled: ", &parts.remote_sampled),
                    (", remote_not_sampled: ", &parts.remote_not_sampled),
                    (", local_sampled: ", &parts.local_sampled),
                    (", local_not_sampled: ", &parts.local_not_sampled),
                ];
                for (name, sampler) in parts {
                    text.push_str(name);
                    sampler.describe(text);
                }
                text.push(')');
            }
        }
    }

    /// Reads what `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` hold (OpenTelemetry specification, "General SDK
    /// Configuration"): names in any case, an empty name the default sampler, no argument or an empty one a ratio of 1.
    /// Samplers without a ratio ignore the argument.
    ///
    /// # Errors
    ///
    /// [`SamplerError::UnknownName`] if the name is none of these, [`SamplerError::BadRatio`] if the sampler has a ratio
    /// and the argument is not a number from 0 to 1.
    pub fn parse(name: &str, arg: Option<&str>) -> Result<Self, SamplerError> {
        let name = name.trim();
        if name.is_empty() {
            return Ok(Self::default());
        }
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        Ok(if is("always_on") {
            Self::AlwaysOn
        } else if is("always_off") {
            Self::AlwaysOff
        } else if is("traceidratio") {
            Self::TraceIdRatio(parse_ratio(arg)?)
        } else if is("parentbased_always_on") {
            Self::parent_based(Self::AlwaysOn)
        } else if is("parentbased_always_off") {
            Self::parent_based(Self::AlwaysOff)
        } else if is("parentbased_traceidratio") {
            Self::parent_based(Self::TraceIdRatio(parse_ratio(arg)?))
        } else {
            return Err(SamplerError::UnknownName);
        })
    }

    /// Decides about a span that begins in the trace `trace_id`. `parent` has the trace flags of the parent's context
    /// and whether that is in another process; `None` for a root.
    ///
    /// SAMPLER-ratio: a ratio compares the lower 8 bytes of the trace id, as a big-endian number, with that share of 2^64, rounded. The
    /// specification leaves the algorithm open; this is the one of OpenTelemetry's SDK for Python, bit by bit, and but for
    /// one id in 2^63 that of those for Rust and Go, which round down.
    pub fn decide(&self, trace_id: TraceId, parent: Option<(TraceFlags, bool)>) -> Decision {
        match self {
            Self::AlwaysOn => Decision::RecordAndSample,
            Self::AlwaysOff => Decision::Drop,
            Self::TraceIdRatio(ratio) => Decision::from_sampled(is_within(*ratio, trace_id)),
            Self::ParentBased(by) => {
                let sampler = match parent.map(|(flags, is_remote)| (is_remote, flags.is_sampled())) {
                    None => &by.root,
                    Some((true, true)) => &by.remote_sampled,
                    Some((true, false)) => &by.remote_not_sampled,
                    Some((false, true)) => &by.local_sampled,
                    Some((false, false)) => &by.local_not_sampled,
                };
                sampler.decide(trace_id, parent)
            }
        }
    }
}

/// The trace flags of a new span's context: those of its parent, whose random flag is passed on as it came, or those of
/// a new trace, which `random_flag` says to have random ids (rule TP10); and whether the span is sampled.
pub const fn flags_of_new_span(parent: Option<TraceFlags>, random_flag: bool, sampled: bool) -> TraceFlags {
    let flags = match parent {
        Some(flags) => flags,
        None if random_flag => TraceFlags::RANDOM,
        None => TraceFlags::from_bits(0),
    };
    flags.with_sampled(sampled)
}

/// Ratios outside of 0 to 1 count as the nearer of the two, NaN as 0.
fn is_within(ratio: f64, trace_id: TraceId) -> bool {
    /// 2^64.
    const IDS: f64 = 18_446_744_073_709_551_616.0;
    let low = trace_id.to_bytes().last_chunk().map_or(0, |low| u64::from_be_bytes(*low));
    // The product is exact, and the cast to an integer saturates: 1 has no bound below 2^64.
    let share = ratio * IDS;
    let whole = share as u64;
    // Where there is a fraction the number is below 2^53, and this is exact, too. A half goes to the even neighbour.
    let fraction = share - whole as f64;
    let up = fraction > 0.5 || (fraction == 0.5 && whole % 2 == 1);
    ratio >= 1.0 || low < whole.saturating_add(u64::from(up))
}

fn parse_ratio(arg: Option<&str>) -> Result<f64, SamplerError> {
    let arg = arg.map(str::trim).unwrap_or_default();
    if arg.is_empty() {
        return Ok(1.0);
    }
    let ratio: f64 = arg.parse().map_err(|_| SamplerError::BadRatio)?;
    if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err(SamplerError::BadRatio) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_it_does() {
        let mut text = String::new();
        Sampler::parent_based(Sampler::TraceIdRatio(0.25)).describe(&mut text);
        let others = "remote_sampled: AlwaysOn, remote_not_sampled: AlwaysOff, local_sampled: AlwaysOn, local_not_sampled: AlwaysOff";
        assert_eq!(text, std::format!("ParentBased(root: TraceIdRatio(0.25), {others})"));
    }

    fn with_low_bytes(low: u64) -> TraceId {
        let mut bytes = [0xff; 16];
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        TraceId::from_bytes(bytes).unwrap()
    }

    #[test]
    fn a_ratio_is_a_bound_for_the_lower_bytes() {
        // As Python has it: round(ratio * 2**64).
        for (ratio, bound) in [
            (0.5, 1_u64 << 63),
            (0.25, 1 << 62),
            (0.1, 1_844_674_407_370_955_264),
            (2.0 / 3.0, 12_297_829_382_473_033_728),
            (1.0 / 65_536.0, 1 << 48),
            // 1,844,674,407,370,955.25 and 553,402,322,211,286.5625.
            (1e-4, 1_844_674_407_370_955),
            (3e-5, 553_402_322_211_287),
            // Halves: 1.5 and 2.5 of 2^64.
            (1.5 / 18_446_744_073_709_551_616.0, 2),
            (2.5 / 18_446_744_073_709_551_616.0, 2),
        ] {
            let sampler = Sampler::TraceIdRatio(ratio);
            assert_eq!(sampler.decide(with_low_bytes(0), None), Decision::RecordAndSample, "{ratio}");
            assert_eq!(sampler.decide(with_low_bytes(bound - 1), None), Decision::RecordAndSample, "{ratio}");
            assert_eq!(sampler.decide(with_low_bytes(bound), None), Decision::Drop, "{ratio}");
            assert_eq!(sampler.decide(with_low_bytes(u64::MAX), None), Decision::Drop, "{ratio}");
        }
        for (ratio, expected) in [(0.0, false), (-1.0, false), (f64::NAN, false), (1.0, true), (7.0, true)] {
            for low in [0, 1 << 63, u64::MAX] {
                assert_eq!(Sampler::TraceIdRatio(ratio).decide(with_low_bytes(low), None).is_sampled(), expected);
            }
        }
    }

    #[test]
    fn a_ratio_ignores_the_parent() {
        let sampler = Sampler::TraceIdRatio(0.5);
        for parent in [None, Some((TraceFlags::SAMPLED, true)), Some((TraceFlags::default(), false))] {
            assert!(sampler.decide(with_low_bytes(1), parent).is_sampled());
            assert!(!sampler.decide(with_low_bytes(u64::MAX), parent).is_sampled());
        }
    }

    #[test]
    fn the_parent_decides() {
        let on = TraceFlags::SAMPLED;
        let off = TraceFlags::RANDOM;
        let id = with_low_bytes(1);
        for root in [Sampler::AlwaysOn, Sampler::AlwaysOff] {
            let expected = root.decide(id, None);
            let sampler = Sampler::parent_based(root);
            assert_eq!(sampler.decide(id, None), expected);
            for is_remote in [false, true] {
                assert_eq!(sampler.decide(id, Some((on, is_remote))), Decision::RecordAndSample);
                assert_eq!(sampler.decide(id, Some((off, is_remote))), Decision::Drop);
            }
        }
        // Each of the four kinds of parent has a sampler of its own.
        for kind in 0..4 {
            let at = |i| if i == kind { Sampler::AlwaysOn } else { Sampler::AlwaysOff };
            let sampler = Sampler::ParentBased(Box::new(ParentBased {
                root: Sampler::AlwaysOff,
                remote_sampled: at(0),
                remote_not_sampled: at(1),
                local_sampled: at(2),
                local_not_sampled: at(3),
            }));
            for (i, parent) in [(on, true), (off, true), (on, false), (off, false)].into_iter().enumerate() {
                assert_eq!(sampler.decide(id, Some(parent)).is_sampled(), i == kind);
            }
            assert!(!sampler.decide(id, None).is_sampled());
        }
    }

    #[test]
    fn names_are_those_of_the_specification() {
        use Sampler::{AlwaysOff, AlwaysOn, TraceIdRatio};
        for (name, arg, expected) in [
            ("always_on", None, AlwaysOn),
            (" ALWAYS_OFF ", Some("x"), AlwaysOff),
            ("traceidratio", Some("0.25"), TraceIdRatio(0.25)),
            ("traceidratio", None, TraceIdRatio(1.0)),
            ("traceidratio", Some(" "), TraceIdRatio(1.0)),
            ("parentbased_always_on", None, Sampler::default()),
            ("parentbased_always_off", None, Sampler::parent_based(AlwaysOff)),
            ("ParentBased_TraceIdRatio", Some(" 1e-3 "), Sampler::parent_based(TraceIdRatio(0.001))),
            ("", None, Sampler::default()),
        ] {
            assert_eq!(Sampler::parse(name, arg), Ok(expected), "{name} {arg:?}");
        }
        for name in ["jaeger_remote", "xray", "on", "always-on"] {
            assert_eq!(Sampler::parse(name, None), Err(SamplerError::UnknownName), "{name}");
        }
        for arg in ["1.1", "-0.1", "NaN", "inf", "half", "0,5"] {
            assert_eq!(Sampler::parse("traceidratio", Some(arg)), Err(SamplerError::BadRatio), "{arg}");
        }
    }
}
