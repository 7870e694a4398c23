//! Which spans are exported, by the beginnings of their names.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// Prefixes of names of spans: those that are exported, and those that are not.
#[derive(Clone, Debug, Default)]
pub struct NameFilters {
    include: Box<[Box<str>]>,
    exclude: Box<[Box<str>]>,
}

impl NameFilters {
    /// With `include`, only names with one of these prefixes are admitted; without any, all are. Names with one of the
    /// prefixes in `exclude` are not.
    pub fn new(include: Vec<String>, exclude: Vec<String>) -> Self {
        let boxed = |prefixes: Vec<String>| prefixes.into_iter().map(String::into_boxed_str).collect();
        Self { include: boxed(include), exclude: boxed(exclude) }
    }

    /// Whether a span of this name is exported.
    pub fn admits(&self, name: &str) -> bool {
        let has_one = |prefixes: &[Box<str>]| prefixes.iter().any(|prefix| name.starts_with(&**prefix));
        (self.include.is_empty() || has_one(&self.include)) && !has_one(&self.exclude)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned;

    fn filters(include: &[&str], exclude: &[&str]) -> NameFilters {
        let owned = |prefixes: &[&str]| prefixes.iter().map(|&prefix| prefix.to_owned()).collect();
        NameFilters::new(owned(include), owned(exclude))
    }

    #[test]
    fn without_prefixes_every_name_is_admitted() {
        assert!(NameFilters::default().admits("") && filters(&[], &[]).admits("any"));
    }

    #[test]
    fn an_excluded_name_is_out_even_if_it_is_included() {
        let both = filters(&["agent.", "llm"], &["agent.internal"]);
        assert!(both.admits("agent.run") && both.admits("llm"));
        assert!(!both.admits("agent.internal.step") && !both.admits("other") && !both.admits("an agent."));
        assert!(!filters(&[], &["GET"]).admits("GET /health") && filters(&[], &["GET"]).admits("get"));
    }
}
