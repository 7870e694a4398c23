//! Spans to a forest: the one function behind the API, the page and the command.
//!
//! What comes in is whatever services sent: parents that never arrived, clocks that disagree, spans that name
//! themselves or each other as parents. Every span has exactly one place in the result, and nothing here recurses.

use std::collections::HashMap;

use crate::span::Span;

/// A span's place in the forest. Places come in depth-first order: a span is followed by its subtree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index of the span in the slice that the forest was built from.
    pub(crate) span: usize,
    /// 0 for a root.
    pub(crate) depth: usize,
    /// Index of the parent in the same slice; none for a root.
    pub(crate) parent: Option<usize>,
    /// The span names a parent that is not here.
    pub(crate) parent_missing: bool,
    /// The span is its own ancestor by its parent ids; the circle was cut here.
    pub(crate) cycle: bool,
    /// How many nanoseconds the span starts before its parent does: two clocks disagree.
    pub(crate) early_ns: u64,
}

/// Puts the spans in order: traces by their first start, roots and children by start (then by span id, so that the
/// order is the same each time). Of several spans with the same trace id and span id the last one counts.
pub(crate) fn build(spans: &[Span]) -> Vec<Place> {
    let mut index: HashMap<(&str, &str), usize> = HashMap::with_capacity(spans.len());
    for (at, span) in spans.iter().enumerate() {
        index.insert((&span.trace_id, &span.span_id), at);
    }
    let order = sorted(spans, index.values().copied().collect());

    let parent: Vec<Option<usize>> = spans
        .iter()
        .map(|span| span.parent_span_id.as_ref().and_then(|id| index.get(&(span.trace_id.as_str(), id)).copied()))
        .collect();
    // Filled in sorted order, so that every list of children is sorted too.
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
    for &at in &order {
        if let Some(up) = parent.get(at).copied().flatten()
            && let Some(list) = children.get_mut(up)
        {
            list.push(at);
        }
    }

    let cut = cut_cycles(&order, &parent);
    let mut places = Vec::with_capacity(order.len());
    for &root in &order {
        let is_cut = cut.get(root).copied().unwrap_or(false);
        if is_cut || parent.get(root).copied().flatten().is_none() {
            walk(root, spans, &children, &cut, &mut places);
        }
    }
    places
}

/// The spans by trace (traces by their first start), then by start, then by id.
fn sorted(spans: &[Span], mut order: Vec<usize>) -> Vec<usize> {
    let mut first: HashMap<&str, u64> = HashMap::new();
    for span in spans {
        let start = first.entry(&span.trace_id).or_insert(span.start_ns);
        *start = span.start_ns.min(*start);
    }
    order.sort_by_cached_key(|&at| {
        spans.get(at).map(|span| {
            let trace = span.trace_id.as_str();
            (first.get(trace).copied(), trace, span.start_ns, span.span_id.as_str())
        })
    });
    order
}

/// Marks one span of every circle of parents, the first in `order`, at which the circle is cut.
fn cut_cycles(order: &[usize], parent: &[Option<usize>]) -> Vec<bool> {
    /// The number of the walk that came by, 0 for none.
    type Walk = usize;
    let mut seen: Vec<Walk> = vec![0; parent.len()];
    let mut cut = vec![false; parent.len()];
    let mut rank = vec![usize::MAX; parent.len()];
    for (position, &at) in order.iter().enumerate() {
        if let Some(rank) = rank.get_mut(at) {
            *rank = position;
        }
    }
    for (walk, &start) in order.iter().enumerate() {
        let walk = walk + 1;
        let mut at = start;
        loop {
            match seen.get_mut(at) {
                Some(mark) if *mark == 0 => *mark = walk,
                // Come back to a span of this same walk: a circle. The walk may have begun outside it.
                Some(mark) if *mark == walk => {
                    if let Some(mark) = cut.get_mut(first_of_circle(at, &rank, parent)) {
                        *mark = true;
                    }
                    break;
                }
                _ => break,
            }
            match parent.get(at).copied().flatten() {
                Some(up) => at = up,
                None => break,
            }
        }
    }
    cut
}

/// Of the circle that `at` is in, the member with the lowest rank.
fn first_of_circle(at: usize, rank: &[usize], parent: &[Option<usize>]) -> usize {
    let rank_of = |member: usize| rank.get(member).copied();
    let mut first = at;
    let mut next = parent.get(at).copied().flatten();
    while let Some(member) = next
        && member != at
    {
        if rank_of(member) < rank_of(first) {
            first = member;
        }
        next = parent.get(member).copied().flatten();
    }
    first
}

fn walk(root: usize, spans: &[Span], children: &[Vec<usize>], cut: &[bool], places: &mut Vec<Place>) {
    let is_cut = |at: usize| cut.get(at).copied().unwrap_or(false);
    let mut stack = vec![(root, None, 0)];
    while let Some((at, parent, depth)) = stack.pop() {
        let Some(span) = spans.get(at) else { continue };
        let parent_span: Option<&Span> = parent.and_then(|up: usize| spans.get(up));
        places.push(Place {
            span: at,
            depth,
            parent,
            parent_missing: parent.is_none() && span.parent_span_id.is_some() && !is_cut(at),
            cycle: is_cut(at),
            early_ns: parent_span.map_or(0, |up| up.start_ns.saturating_sub(span.start_ns)),
        });
        for &child in children.get(at).into_iter().flatten().rev() {
            if !is_cut(child) {
                stack.push((child, Some(at), depth + 1));
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashSet;

    use serde_json::value::RawValue;

    use super::*;
    use crate::span::Status;

    /// A span of one trace with the given ids (empty parent: none) and start.
    pub(crate) fn span(trace: &str, id: &str, parent: &str, start_ns: u64) -> Span {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        Span {
            trace_id: trace.into(),
            span_id: id.into(),
            parent_span_id: (!parent.is_empty()).then(|| parent.into()),
            session_id: None,
            name: format!("span {id}"),
            kind: "INTERNAL".into(),
            service: None,
            source: None,
            project: None,
            event_type: None,
            start_ns,
            end_ns: start_ns + 10,
            status: Status::default(),
            error: None,
            trace_state: String::new(),
            attributes: raw("{}"),
            events: raw("[]"),
            links: raw("[]"),
            origin: 0,
        }
    }

    /// The forest as text: one `id@depth` a span, with a mark for what is odd about it.
    fn drawn(spans: &[Span]) -> Vec<String> {
        build(spans)
            .iter()
            .map(|place| {
                let mut text = format!("{}@{}", spans[place.span].span_id, place.depth);
                if place.parent_missing {
                    text.push_str(" orphan");
                }
                if place.cycle {
                    text.push_str(" cycle");
                }
                if place.early_ns > 0 {
                    text.push_str(&format!(" early {}", place.early_ns));
                }
                text
            })
            .collect()
    }

    #[test]
    fn children_follow_their_parent_by_start() {
        let spans = [span("t", "c", "a", 30), span("t", "b", "a", 20), span("t", "d", "b", 25), span("t", "a", "", 10)];
        assert_eq!(drawn(&spans), ["a@0", "b@1", "d@2", "c@1"]);
        let places = build(&spans);
        assert_eq!(places[2].parent, Some(1));
        assert_eq!(places[0].parent, None);
    }

    #[test]
    fn traces_come_by_their_first_start() {
        // The second trace's root has the clock of another machine: its child starts first of all.
        let spans = [span("t1", "a", "", 50), span("t2", "x", "", 60), span("t2", "y", "x", 40)];
        assert_eq!(drawn(&spans), ["x@0", "y@1 early 20", "a@0"]);
    }

    #[test]
    fn the_same_span_id_in_two_traces_is_two_spans() {
        let spans = [span("t1", "a", "", 1), span("t2", "a", "", 2), span("t2", "b", "a", 3)];
        assert_eq!(drawn(&spans), ["a@0", "a@0", "b@1"]);
        assert_eq!(build(&spans)[2].parent, Some(1));
    }

    #[test]
    fn an_orphan_is_a_root_that_says_so() {
        let spans = [span("t", "a", "", 1), span("t", "b", "gone", 2), span("t", "c", "b", 3)];
        assert_eq!(drawn(&spans), ["a@0", "b@0 orphan", "c@1"]);
    }

    #[test]
    fn of_duplicates_the_last_one_counts() {
        let mut late = span("t", "a", "", 5);
        late.name = "the second delivery".into();
        let spans = [span("t", "a", "", 5), span("t", "b", "a", 6), late];
        let places = build(&spans);
        assert_eq!(places.len(), 2);
        assert_eq!(places[0].span, 2);
        assert_eq!(places[1].parent, Some(2));
    }

    #[test]
    fn a_span_that_is_its_own_parent_is_a_root() {
        let spans = [span("t", "a", "a", 1), span("t", "b", "a", 2)];
        assert_eq!(drawn(&spans), ["a@0 cycle", "b@1"]);
    }

    #[test]
    fn a_circle_is_cut_at_its_first_span_and_keeps_its_branches() {
        // `tail` starts before the circle it hangs on, so the walk that finds the circle starts outside of it.
        let spans = [
            span("t", "tail", "b", 1),
            span("t", "a", "c", 3),
            span("t", "b", "a", 4),
            span("t", "c", "b", 2),
            span("t", "d", "c", 9),
        ];
        assert_eq!(drawn(&spans), ["c@0 cycle", "a@1", "b@2", "tail@3 early 3", "d@1"]);
    }

    #[test]
    fn ten_thousand_levels_and_a_circle_of_as_many_fit_the_stack() {
        let id = |at: usize| format!("{at:016x}");
        let chain: Vec<Span> = (0..10_000)
            .map(|at| span("t", &id(at), &if at == 0 { String::new() } else { id(at - 1) }, at as u64))
            .collect();
        let places = build(&chain);
        assert_eq!(places.len(), 10_000);
        assert_eq!(places.last().unwrap().depth, 9_999);

        let circle: Vec<Span> = (0..10_000).map(|at| span("t", &id(at), &id((at + 1) % 10_000), at as u64)).collect();
        let places = build(&circle);
        assert_eq!(places.len(), 10_000);
        assert_eq!(places.iter().filter(|place| place.cycle).count(), 1);
    }

    #[test]
    fn whatever_the_parents_every_span_has_one_place() {
        // A small linear congruential generator: the same graphs in every run.
        let mut state = 7_u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for round in 0..2_000 {
            let count = 1 + next(12);
            let spans: Vec<Span> = (0..count)
                .map(|at| {
                    let parent = next(count + 3);
                    let parent = if parent == count { String::new() } else { parent.to_string() };
                    span(if next(8) == 0 { "u" } else { "t" }, &at.to_string(), &parent, next(5))
                })
                .collect();
            let places = build(&spans);
            let placed: HashSet<usize> = places.iter().map(|place| place.span).collect();
            assert_eq!((places.len(), placed.len()), (spans.len(), spans.len()), "round {round}");
            let mut above: Vec<usize> = Vec::new();
            for place in &places {
                assert!(place.depth <= above.len(), "round {round}");
                above.truncate(place.depth);
                assert_eq!(place.parent, above.last().copied(), "round {round}");
                assert_eq!(place.parent.is_none(), place.depth == 0, "round {round}");
                above.push(place.span);
            }
        }
    }
}
