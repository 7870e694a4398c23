//! Core beside the opentelemetry crates: `cargo bench -p tracebaton-bench`. It ends with a table of ratios, each against
//! the least that is asked of core.

// A benchmark prints, and stops when something is missing.
#![allow(clippy::print_stdout, clippy::expect_used, missing_docs)]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use tracebaton_bench::{headers, ours, spans, theirs};

/// What is compared, and how many times faster core has to be.
const ROWS: [(&str, f64); 9] = [
    ("extract traceparent from a list", 6.0),
    ("extract traceparent from a map", 6.0),
    ("extract all from a list", 5.0),
    ("extract all from a map", 5.0),
    ("inject traceparent", 6.0),
    ("inject all, as it came in", 5.0),
    ("inject all, set by the application", 5.0),
    ("inject all into a list of strings", 1.0),
    ("span of 10 attributes, encoded", 4.0),
];

const SIZES: [usize; 5] = [512, 1024, 2048, 4096, 8192];

fn pair<A, B>(criterion: &mut Criterion, row: usize, mut mine: impl FnMut() -> A, mut other: impl FnMut() -> B) {
    let mut group = criterion.benchmark_group(ROWS[row].0);
    group.bench_function("core", |bencher| bencher.iter(&mut mine));
    group.bench_function("opentelemetry", |bencher| bencher.iter(&mut other));
    group.finish();
}

fn propagation(criterion: &mut Criterion) {
    let (alone, full) = (headers::traceparent(), headers::full());
    let (alone_map, full_map) = (headers::Map::from(&alone), headers::Map::from(&full));
    let list = |list: &headers::List| ours::seen(&ours::extract(black_box(list)));
    let list_other = |list: &headers::List| theirs::seen(&theirs::extract(black_box(list)));
    let map = |map: &headers::Map| ours::seen(&ours::extract(black_box(map)));
    let map_other = |map: &headers::Map| theirs::seen(&theirs::extract(black_box(&map.0)));
    pair(criterion, 0, || list(&alone), || list_other(&alone));
    pair(criterion, 1, || map(&alone_map), || map_other(&alone_map));
    pair(criterion, 2, || list(&full), || list_other(&full));
    pair(criterion, 3, || map(&full_map), || map_other(&full_map));

    let (inbound, context) = (ours::extract(&full), theirs::extract(&full));
    let (inbound_alone, context_alone) = (ours::extract(&alone), theirs::extract(&alone));
    macro_rules! inject {
        ($row:literal, $mine:expr, $inbound:expr, $context:expr) => {
            let (mut mine, mut other) = (headers::Wire::new(), headers::Wire::new());
            let mine = || {
                mine.0.clear();
                $mine(&mut mine, black_box($inbound));
            };
            let other = || {
                other.0.clear();
                theirs::inject(&mut other, black_box($context));
            };
            pair(criterion, $row, mine, other);
        };
    }
    inject!(4, ours::inject, &inbound_alone, &context_alone);
    inject!(5, ours::inject, &inbound, &context);
    inject!(6, ours::inject_application, &inbound, &context);
    let (mut mine, mut other) = (headers::List(Vec::with_capacity(8)), headers::List(Vec::with_capacity(8)));
    let mine = || {
        mine.0.clear();
        ours::inject(&mut mine, black_box(&inbound));
    };
    let other = || {
        other.0.clear();
        theirs::inject(&mut other, black_box(&context));
    };
    pair(criterion, 7, mine, other);
}

fn span(criterion: &mut Criterion) {
    let (mut mine, other) = (spans::Ours::new(), spans::Theirs::new());
    pair(criterion, 8, || mine.record().len(), || other.record());
}

/// Reading and passing on baggage of growing size: the time per byte stays what it is.
fn sizes(criterion: &mut Criterion) {
    for (name, inject) in [("extract baggage", false), ("inject baggage", true)] {
        let mut group = criterion.benchmark_group(name);
        for bytes in SIZES {
            let list = headers::sized(bytes);
            let inbound = ours::extract(&list);
            group.throughput(Throughput::Bytes(bytes as u64));
            group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
                if inject {
                    let mut carrier = headers::Wire::new();
                    bencher.iter(|| {
                        carrier.0.clear();
                        ours::inject(&mut carrier, black_box(&inbound));
                    });
                } else {
                    bencher.iter(|| ours::extract(black_box(&list)).baggage.is_empty());
                }
            });
        }
        group.finish();
    }
}

/// What a caller may make a header of, to cost more than its share: each is repeated up to the size.
const SHAPES: [(&str, &str); 7] = [
    ("members", "member=vvvvvvvvvvvvvvvv,"),
    ("shortest members", "a=,"),
    ("one name", "a"),
    ("no names", "=,"),
    ("commas and white space", " ,\t,"),
    ("properties", "a = 1 ; p = 2 ; q,"),
    ("encoded", "a=%e2%82%ac%zz;p=%ff,"),
];
/// Eight times the limit that holds unless a policy says otherwise.
const SHAPE_SIZES: [usize; 4] = [512, 4096, 32 * 1024, 64 * 1024];

/// Without limits, the time per byte of every shape stays what it is: nothing is read more often the more there is.
fn shapes(criterion: &mut Criterion) {
    for (name, shape) in SHAPES {
        let mut group = criterion.benchmark_group(format!("linear {name}"));
        for bytes in SHAPE_SIZES {
            let text = shape.repeat(bytes / shape.len());
            group.throughput(Throughput::Bytes(bytes as u64));
            group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
                bencher.iter(|| ours::read(black_box(text.as_bytes())));
            });
        }
        group.finish();
    }
}

/// The median of a benchmark in ns, as criterion wrote it.
fn median(root: &Path, group: &str, name: &str) -> Option<f64> {
    let path = root.join(group.replace(['/', '?', '"', '\\', '*', '<', '>', ':', '|', '^'], "_")).join(name);
    let text = std::fs::read_to_string(path.join("new/estimates.json")).ok()?;
    serde_json::from_str::<serde_json::Value>(&text).ok()?["median"]["point_estimate"].as_f64()
}

fn table(root: &Path) {
    println!("\n{:<42} {:>9} {:>14} {:>7} {:>7}", "median, ns", "core", "opentelemetry", "ratio", "asked");
    for (row, asked) in ROWS {
        let (Some(mine), Some(other)) = (median(root, row, "core"), median(root, row, "opentelemetry")) else {
            continue;
        };
        let missed = if other / mine < asked { "  MISSED" } else { "" };
        println!("{row:<42} {mine:>9.1} {other:>14.1} {:>6.1}x {asked:>6.1}x{missed}", other / mine);
    }
    for name in ["extract baggage", "inject baggage"] {
        per_byte(root, name, &SIZES);
    }
    for (name, _) in SHAPES {
        per_byte(root, &format!("linear {name}"), &SHAPE_SIZES);
    }
}

/// The times of a group by size.
fn per_byte(root: &Path, group: &str, sizes: &[usize]) {
    let time = |bytes: &usize| median(root, group, &bytes.to_string()).map(|time| (*bytes, time));
    let cells: Vec<_> = sizes
        .iter()
        .filter_map(time)
        .map(|(bytes, time)| format!("{bytes}: {time:.0} ({:.2})", time / bytes as f64))
        .collect();
    println!("{group}, bytes: ns (ns per byte): {}", cells.join(", "));
}

fn main() {
    let root: PathBuf = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    let root = root.join("criterion");
    let mut criterion = Criterion::default()
        .output_directory(&root)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    propagation(&mut criterion);
    span(&mut criterion);
    sizes(&mut criterion);
    shapes(&mut criterion);
    criterion.final_summary();
    table(&root);
}
