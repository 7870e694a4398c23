//! Names in a list, looked up. One small structure for all lists: each sort and each tree of the standard library is
//! several KB of code for every type that it holds, which counts where this crate runs as WebAssembly.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::iter;

use crate::keyed::hash;

/// Where names stand in a list that may hold a name more than once.
#[derive(Default)]
pub(crate) struct Names<'a> {
    list: Vec<&'a str>,
    /// The hash of each name with its place in the low half, sorted: those of one name stand side by side, the first
    /// place first. None as long as there are few.
    order: Vec<u64>,
}

/// The most names that are compared one by one.
const FEW: usize = 16;

impl<'a> Names<'a> {
    pub(crate) fn of(list: Vec<&'a str>) -> Self {
        let mut names = Self { list, order: Vec::new() };
        names.sort();
        names
    }

    /// Appends names to the list.
    pub(crate) fn extend(&mut self, names: impl IntoIterator<Item = &'a str>) {
        self.list.extend(names);
        self.sort();
    }

    fn sort(&mut self) {
        if self.list.len() <= FEW {
            return;
        }
        let keys: Vec<u64> = self.list.iter().zip(0..).map(|(name, place)| key(name) | place).collect();
        self.order = BinaryHeap::from(keys).into_sorted_vec();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    pub(crate) fn first(&self, name: &str) -> Option<usize> {
        self.places(name).next()
    }

    pub(crate) fn last(&self, name: &str) -> Option<usize> {
        self.places(name).last()
    }

    /// All places, in order.
    pub(crate) fn places(&self, name: &str) -> impl Iterator<Item = usize> {
        let key = (!self.order.is_empty()).then(|| key(name));
        let mut at = key.map_or(0, |key| self.order.partition_point(|other| *other < key));
        iter::from_fn(move || {
            loop {
                let place = match key {
                    None => at,
                    Some(key) => match self.order.get(at) {
                        Some(other) if other >> 32 == key >> 32 => *other as u32 as usize,
                        _ => return None,
                    },
                };
                at = at.saturating_add(1);
                if *self.list.get(place)? == name {
                    return Some(place);
                }
            }
        })
    }
}

/// The high half is the hash. No list has more places than the low half has room for: it would not fit into memory.
fn key(name: &str) -> u64 {
    u64::from(hash(name.as_bytes())) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn finds_the_first_and_the_last_of_each_name() {
        let few = Names::of(alloc::vec!["a", "b", "a"]);
        assert_eq!((few.first("a"), few.last("a")), (Some(0), Some(2)));
        let texts: Vec<_> = (0..300).map(|number| format!("k{}", number % 100)).collect();
        let mut names = Names::of(texts.iter().map(|text| &**text).take(250).collect());
        assert_eq!((names.first("k7"), names.last("k7"), names.last("k70")), (Some(7), Some(207), Some(170)));
        assert!(!names.has("k100") && !names.has("") && !names.is_empty());
        names.extend(texts.iter().map(|text| &**text).skip(250));
        names.extend([""]);
        assert_eq!((names.first("k70"), names.last("k70"), names.first("")), (Some(70), Some(270), Some(300)));
        assert!(Names::default().is_empty() && !Names::default().has(""));
    }
}
