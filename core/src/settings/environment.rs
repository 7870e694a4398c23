//! Reading environment variables: what counts as set, as true, as a number; and the warnings about what is not.
//!
//! A bad value never fails anything (SET2): it is ignored with one warning that names the variable and never quotes it,
//! since it could be a secret.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::percent;

/// The environment, and what was wrong with it.
pub(super) struct Environment<'e> {
    lookup: &'e dyn Fn(&str) -> Option<String>,
    warnings: Vec<String>,
}

impl<'e> Environment<'e> {
    pub(super) fn new(lookup: &'e dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, warnings: Vec::new() }
    }

    /// The value of a variable without the white space around it. Empty counts as unset (OpenTelemetry specification,
    /// "Environment Variable Specification").
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let value = (self.lookup)(name)?;
        let trimmed = value.trim();
        if trimmed.is_empty() { None } else { Some(trimmed.to_string()) }
    }

    /// The value of the first variable that is set.
    pub(super) fn first_text(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.text(name))
    }

    /// The value of the first variable that is set and that `parse` takes. Those it does not take are ignored with a
    /// warning that says what they are not: `… is not {expected}`.
    pub(super) fn first<T>(
        &mut self,
        names: &[&str],
        expected: &str,
        mut parse: impl FnMut(&str) -> Option<T>,
    ) -> Option<T> {
        for name in names {
            let Some(text) = self.text(name) else { continue };
            match parse(&text) {
                Some(value) => return Some(value),
                None => self.warn(format!("{name} is not {expected}; it is ignored")),
            }
        }
        None
    }

    /// A number of things, from the first variable that is set to one of at least `minimum`.
    pub(super) fn count(&mut self, names: &[&str], minimum: usize) -> Option<usize> {
        let expected = if minimum == 0 { "a whole number" } else { "a whole number above zero" };
        // Nothing here can reach the largest number: one that does not fit means the same.
        self.first(names, expected, |text| {
            Some(usize::try_from(whole(text)?).unwrap_or(usize::MAX)).filter(|&n| n >= minimum)
        })
    }

    /// A time in milliseconds, as OpenTelemetry's variables have it, in nanoseconds.
    pub(super) fn milliseconds(&mut self, names: &[&str], minimum: u64) -> Option<u64> {
        let expected = "a whole number of milliseconds";
        self.first(names, expected, |text| whole(text).filter(|&ms| ms >= minimum)?.checked_mul(1_000_000))
    }

    /// A boolean of OpenTelemetry: only `true`, in any case, is true. What is neither `true` nor `false` is false, with
    /// a warning.
    pub(super) fn otel_true(&mut self, name: &str) -> bool {
        let words = [("true", true), ("false", false)];
        self.first(&[name], "\"true\" or \"false\"", |text| one_of(text, &words)).unwrap_or(false)
    }

    /// A boolean of HoneyHive: true/false, 1/0, yes/no, on/off, in any case.
    pub(super) fn switch(&mut self, name: &str) -> Option<bool> {
        let words = [
            ("true", true),
            ("1", true),
            ("yes", true),
            ("on", true),
            ("false", false),
            ("0", false),
            ("no", false),
            ("off", false),
        ];
        self.first(&[name], "a boolean", |text| one_of(text, &words))
    }

    /// Notes a warning, once.
    pub(super) fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    pub(super) fn take_warnings(&mut self) -> Vec<String> {
        core::mem::take(&mut self.warnings)
    }
}

/// What a word stands for, in any case (OpenTelemetry specification, "Enum").
pub(super) fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Option<T> {
    words.iter().find(|(word, _)| text.eq_ignore_ascii_case(word)).map(|&(_, meaning)| meaning)
}

/// Digits only: no sign, no fraction, no unit.
fn whole(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Seconds, with or without a fraction, in nanoseconds.
pub(super) fn seconds(text: &str) -> Option<u64> {
    seconds_to_ns(text.parse().ok()?)
}

/// Seconds in nanoseconds; `None` unless they are a time of up to a year.
pub(super) fn seconds_to_ns(seconds: f64) -> Option<u64> {
    const YEAR: f64 = 31_557_600.0;
    if (0.0..=YEAR).contains(&seconds) { Some((seconds * 1e9) as u64) } else { None }
}

/// The entries of a list `key=value,key=value` whose keys and values may be percent-encoded, as in W3C Baggage;
/// `None` for one without `=`, without a key, or that is not UTF-8 when decoded. Empty entries are skipped. What
/// follows a `;` is no metadata but a part of the value (OpenTelemetry specification, OTLP exporter, "Specifying
/// headers via environment variables").
pub(super) fn pairs(text: &str) -> impl Iterator<Item = Option<(String, String)>> + '_ {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(|entry| {
        let (key, value) = entry.split_once('=')?;
        let key = decode(key.trim())?;
        if key.is_empty() { None } else { Some((key, decode(value.trim())?)) }
    })
}

/// Percent-decoded text, or `None` if it is not UTF-8 then.
fn decode(text: &str) -> Option<String> {
    const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;
    let decoded = percent::decode(text);
    let spoiled = decoded.contains(REPLACEMENT) && !text.contains(REPLACEMENT);
    if spoiled { None } else { Some(decoded.into_owned()) }
}
