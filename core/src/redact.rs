//! Keeping secrets out of captured values.
//!
//! HH-redact-key: a key names a secret when its last word is one of [`WORDS`], or its last two words are one of
//! [`QUALIFIERS`] and `key`. Words end where something that is no letter stands and where camel case begins a new one
//! (`apiKey`, `APIKey`); their case does not count. So `access_token`, `token2` and `X-Api-Key` are secrets, and
//! `token_count`, `max_tokens` and `monkey` are not.
//!
//! HH-redact-below: every text and every bytes value below such a key becomes [`REDACTED`], however deep it stands in
//! lists and maps; numbers, booleans and nulls stay. The keys of nested maps are read as one: `key` below `api` is an
//! API key, since its attribute is called `….api.key`.
//!
//! HH-redact-pair: where a list holds names and values, a name is a key of the value behind it: in a list of two
//! (`["Authorization", "Bearer …"]`), and in one of an even number of items below a key whose last word is `headers`
//! (`rawHeaders`: name, value, name, value …). A name is a text, or bytes that are one, without white space. Longer lists
//! elsewhere are left alone: nothing tells names from words of a sentence there.
//!
//! HH-redact-depth: a list or map inside [`MAX_DEPTH`] others becomes [`REDACTED`] as a whole, since nobody looked into
//! it.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use crate::limits::MAX_DEPTH;
use crate::value::Value;

/// What stands where a secret stood.
pub const REDACTED: &str = "[redacted]";

/// Words that make a key a secret's when they come last.
pub const WORDS: [&str; 8] =
    ["password", "passwd", "secret", "token", "authorization", "cookie", "credential", "credentials"];

/// Words that make a key a secret's when `key` follows and nothing else does.
pub const QUALIFIERS: [&str; 4] = ["api", "private", "secret", "access"];

/// Whether the key names a secret (HH-redact-key).
pub fn is_secret_key(key: &str) -> bool {
    Redaction::Default.is_secret_key(key)
}

/// What is replaced in captured and enriched values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Redaction {
    /// Texts and bytes below keys that name a secret.
    #[default]
    Default,
    /// As [`Default`](Self::Default), and below keys that end with the words of one of these names: `ssn` also covers
    /// `userSSN`, and `session_key` covers `mySessionKey`. A name without a letter covers nothing.
    Also(Vec<String>),
    /// Nothing.
    Off,
}

impl Redaction {
    /// Whether this redaction takes the key for a secret's.
    pub fn is_secret_key(&self, key: &str) -> bool {
        self.enter(Scope::Open, key) == Scope::Secret
    }

    /// Replaces what is secret in the value of the attribute `key`, however deep (HH-redact-below), and what lies too
    /// deep to be looked into (HH-redact-depth). [`Off`](Self::Off) leaves the value as it is.
    pub fn apply(&self, key: &str, value: &mut Value<'_>) {
        if *self != Self::Off {
            self.apply_in(self.enter(Scope::Open, key), MAX_DEPTH, value);
        }
    }

    fn apply_in(&self, scope: Scope, depth: usize, value: &mut Value<'_>) {
        let deeper = depth.saturating_sub(1);
        match value {
            Value::Str(_) | Value::Bytes(_) if scope == Scope::Secret => *value = Value::Str(Cow::Borrowed(REDACTED)),
            Value::Array(_) | Value::Map(_) if depth == 0 => {
                drop_flat(core::mem::replace(value, Value::Str(Cow::Borrowed(REDACTED))));
            }
            Value::Array(items) => {
                for index in 0..items.len() {
                    let scope = self.item(scope, items, index);
                    if let Some(item) = items.get_mut(index) {
                        self.apply_in(scope, deeper, item);
                    }
                }
            }
            Value::Map(entries) => {
                entries.iter_mut().for_each(|(key, value)| self.apply_in(self.enter(scope, key), deeper, value));
            }
            _ => {}
        }
    }

    /// The scope of what stands below `key` in `scope`.
    pub(crate) fn enter(&self, scope: Scope, key: &str) -> Scope {
        if scope == Scope::Secret || *self == Self::Off {
            return scope;
        }
        let mut words = Words(key);
        // A key without a word, an index for one, changes nothing.
        let Some(last) = words.next() else { return scope };
        let is = |names: &[&str], word: &str| names.iter().any(|name| word.eq_ignore_ascii_case(name));
        let secret = is(&WORDS, last)
            || last.eq_ignore_ascii_case("key")
                && words.next().map_or(scope == Scope::Qualified, |word| is(&QUALIFIERS, word))
            || matches!(self, Self::Also(names) if names.iter().any(|name| ends_with_words(key, name)));
        if secret {
            Scope::Secret
        } else if is(&QUALIFIERS, last) {
            Scope::Qualified
        } else if last.eq_ignore_ascii_case("headers") {
            Scope::Headers
        } else {
            Scope::Open
        }
    }

    /// The scope of the item at this place of a list in `scope` (HH-redact-pair).
    pub(crate) fn item(&self, scope: Scope, items: &[Value<'_>], index: usize) -> Scope {
        let is_pairs = items.len() == 2 || scope == Scope::Headers && items.len() % 2 == 0;
        let name = match index.checked_sub(1).and_then(|before| items.get(before)) {
            Some(Value::Str(name)) if is_pairs && index % 2 == 1 => name,
            Some(Value::Bytes(name)) if is_pairs && index % 2 == 1 => core::str::from_utf8(name).unwrap_or_default(),
            _ => return scope,
        };
        if name.contains(char::is_whitespace) { scope } else { self.enter(scope, name) }
    }
}

/// Drops a value of any depth; what the compiler makes for it calls itself for every level.
fn drop_flat(value: Value<'_>) {
    let mut waiting = Vec::from([value]);
    while let Some(value) = waiting.pop() {
        match value {
            Value::Array(items) => waiting.extend(items),
            Value::Map(entries) => waiting.extend(entries.into_iter().map(|(_, value)| value)),
            _ => {}
        }
    }
}

/// Where in a nested value a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Nothing above is a secret.
    Open,
    /// The keys above end with one of [`QUALIFIERS`].
    Qualified,
    /// The key above ends with `headers`.
    Headers,
    /// Below a key that names a secret.
    Secret,
}

/// Whether the last words of a key are the words of `name`.
fn ends_with_words(key: &str, name: &str) -> bool {
    let mut words = Words(key);
    let mut some = false;
    Words(name).all(|wanted| {
        some = true;
        words.next().is_some_and(|word| word.eq_ignore_ascii_case(wanted))
    }) && some
}

/// The words of a key, the last one first.
struct Words<'a>(&'a str);

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let key = self.0.trim_end_matches(|c: char| !c.is_alphabetic());
        let mut letters = key.char_indices().rev().peekable();
        // The letter to the right of the one looked at, in the same word.
        let mut after: Option<char> = None;
        while let Some((at, letter)) = letters.next() {
            let begins = match letters.peek() {
                None => true,
                Some((_, before)) if !before.is_alphabetic() => true,
                // api|Key, and API|Key.
                Some((_, before)) => {
                    letter.is_uppercase()
                        && (!before.is_uppercase() || after.is_some_and(|after| !after.is_uppercase()))
                }
            };
            if begins {
                let (rest, word) = key.split_at_checked(at)?;
                self.0 = rest;
                return Some(word);
            }
            after = Some(letter);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn words(key: &str) -> Vec<&str> {
        let mut words: Vec<_> = Words(key).collect();
        words.reverse();
        words
    }

    #[test]
    fn words_end_at_non_letters_and_at_camel_case() {
        for (key, expected) in [
            ("x-api-key", &["x", "api", "key"][..]),
            ("apiKey", &["api", "Key"]),
            ("APIKey", &["API", "Key"]),
            ("API_KEY", &["API", "KEY"]),
            ("userIDToken", &["user", "ID", "Token"]),
            ("oauth2Token3", &["oauth", "Token"]),
            ("a1b", &["a", "b"]),
            ("aB", &["a", "B"]),
            ("AB", &["AB"]),
            ("ABc", &["A", "Bc"]),
            ("größeÄrger", &["größe", "Ärger"]),
            ("鍵Token", &["鍵", "Token"]),
            ("__x__", &["x"]),
            ("12", &[]),
            ("", &[]),
        ] {
            assert_eq!(words(key), expected, "{key}");
        }
    }

    #[test]
    fn secret_keys() {
        for key in [
            "password",
            "PASSWORD",
            "db_password",
            "userPassword",
            "passwd",
            "secret",
            "client_secret",
            "token",
            "access_token",
            "accessToken",
            "HTTPToken",
            "token2",
            "refresh-token",
            "Authorization",
            "proxy-authorization",
            "cookie",
            "Set-Cookie",
            "credential",
            "credentials",
            "awsCredentials",
            "apiKey",
            "API_KEY",
            "x-api-key",
            "APIKey",
            "api.key",
            "privateKey",
            "secret_key",
            "AWS_SECRET_ACCESS_KEY",
            "access key",
            "openaiApiKey1",
            "token_",
        ] {
            assert!(is_secret_key(key), "{key}");
        }
    }

    #[test]
    fn keys_that_only_look_like_secrets() {
        for key in [
            "monkey",
            "tokens_used",
            "token_count",
            "max_tokens",
            "tokens",
            "secretary",
            "key",
            "keyboard",
            "public_key",
            "api",
            "api_key_id",
            "key_api",
            "passwords",
            "cookies",
            "authorization_url",
            "tokenizer",
            "étoken",
            "",
            "_",
            "42",
            "apikey",
        ] {
            assert!(!is_secret_key(key), "{key}");
        }
    }

    #[test]
    fn own_names_cover_keys_that_end_with_their_words() {
        let redaction = Redaction::Also(vec!["ssn".into(), "session_key".into(), "--".into()]);
        for key in ["ssn", "userSSN", "user_ssn", "sessionKey", "MY_SESSION_KEY", "password"] {
            assert!(redaction.is_secret_key(key), "{key}");
        }
        for key in ["ssns", "session", "key", "sessionId", "classnumber", "--", ""] {
            assert!(!redaction.is_secret_key(key), "{key}");
        }
    }

    #[test]
    fn off_replaces_nothing() {
        assert!(!Redaction::Off.is_secret_key("password"));
        let mut value = Value::from("hunter2");
        Redaction::Off.apply("password", &mut value);
        assert_eq!(value, "hunter2".into());
    }

    #[test]
    fn everything_textual_below_a_secret_key_is_replaced() {
        let bytes = || Value::Bytes(Cow::Borrowed(b"b"));
        let map = |entries: Vec<(&'static str, Value<'static>)>| {
            Value::Map(entries.into_iter().map(|(key, value)| (Cow::Borrowed(key), value)).collect())
        };
        let mut value = map(vec![
            ("user", "ann".into()),
            ("raw", bytes()),
            (
                "credentials",
                Value::Array(vec![
                    "a".into(),
                    bytes(),
                    7.into(),
                    true.into(),
                    0.5.into(),
                    Value::Null,
                    map(vec![("x", "b".into())]),
                ]),
            ),
            (
                "api",
                map(vec![
                    ("key", "k".into()),
                    ("url", "u".into()),
                    ("list", Value::Array(vec![map(vec![("key", "k".into())])])),
                ]),
            ),
            ("access", Value::Array(vec![map(vec![("key", "k".into())])])),
            ("key", "stays".into()),
            ("token_count", 12.into()),
            ("token", 12.into()),
        ]);
        let hidden = || Value::from(REDACTED);
        let expected = map(vec![
            ("user", "ann".into()),
            ("raw", bytes()),
            (
                "credentials",
                Value::Array(vec![
                    hidden(),
                    hidden(),
                    7.into(),
                    true.into(),
                    0.5.into(),
                    Value::Null,
                    map(vec![("x", hidden())]),
                ]),
            ),
            (
                "api",
                map(vec![
                    ("key", hidden()),
                    ("url", "u".into()),
                    ("list", Value::Array(vec![map(vec![("key", "k".into())])])),
                ]),
            ),
            ("access", Value::Array(vec![map(vec![("key", hidden())])])),
            ("key", "stays".into()),
            ("token_count", 12.into()),
            ("token", 12.into()),
        ]);
        Redaction::Default.apply("honeyhive_inputs", &mut value);
        assert_eq!(value, expected);
        let mut value = Value::from(vec!["a"]);
        Redaction::Default.apply("honeyhive_inputs.password", &mut value);
        assert_eq!(value, Value::from(vec![REDACTED]));
    }

    #[test]
    fn what_lies_too_deep_is_replaced_as_a_whole() {
        for levels in [MAX_DEPTH, MAX_DEPTH + 1, 100_000] {
            let mut value = Value::from(7);
            for level in 0..levels {
                value = match level % 2 {
                    0 => Value::Array(vec![value]),
                    _ => Value::Map(vec![("k".into(), value), ("l".into(), "text".into())]),
                };
            }
            Redaction::Default.apply("honeyhive_inputs", &mut value);
            let mut depth = 0;
            let leaf = loop {
                value = match value {
                    Value::Array(mut items) => items.remove(0),
                    Value::Map(mut entries) => entries.remove(0).1,
                    leaf => break leaf,
                };
                depth += 1;
            };
            assert_eq!((depth, leaf), (MAX_DEPTH, if levels > MAX_DEPTH { REDACTED.into() } else { 7.into() }));
        }
    }
}
