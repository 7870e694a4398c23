//! `tracebaton tree`: a session or a trace as a tree across services, for people or as JSON.

use std::fmt::Write;
use std::io;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::api::PlacedSpan;
use crate::span::{Span, Spans, TRACE_PREFIX};
use crate::store::Store;
use crate::tree::{self, Place};
use crate::viewer_client::Viewer;

/// Deeper spans are not indented further: the lines of a tree of a thousand levels would be mostly indentation.
const MAX_INDENT: usize = 60;
/// Longer texts are cut, in characters.
const MAX_TEXT: usize = 200;

#[derive(Args)]
pub(crate) struct Tree {
    /// A session id or a trace id [default: the session whose span came last].
    #[arg(value_name = "SESSION|TRACE")]
    id: Option<String>,
    /// The viewer to ask.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4318")]
    url: String,
    /// Read this file instead of asking a viewer.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "token"])]
    db: Option<PathBuf>,
    /// Print JSON, with the children of a span inside of it.
    #[arg(long)]
    json: bool,
    /// The viewer's token.
    #[arg(long, value_name = "TOKEN", env = "TRACEBATON_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// Where spans are read from.
enum Source {
    Viewer(Viewer),
    File(Store),
}

impl Source {
    fn newest(&self) -> Result<Option<String>, String> {
        match self {
            Self::Viewer(viewer) => viewer.newest(),
            Self::File(store) => store.newest().map_err(|error| error.to_string()),
        }
    }

    /// A session by its id, or else a trace by its.
    fn find(&self, id: &str) -> Result<Option<Spans>, String> {
        let session = match self {
            Self::Viewer(viewer) => viewer.session(id)?,
            Self::File(store) => store.session(id).map_err(|error| error.to_string())?,
        };
        if session.is_some() {
            return Ok(session);
        }
        let trace = id.strip_prefix(TRACE_PREFIX).unwrap_or(id).to_ascii_lowercase();
        match self {
            Self::Viewer(viewer) => viewer.trace(&trace),
            Self::File(store) => store.trace(&trace).map_err(|error| error.to_string()),
        }
    }
}

/// Prints what was asked for; an error if there is nothing.
pub(crate) fn run(arguments: &Tree) -> Result<(), String> {
    let source = match &arguments.db {
        Some(db) => Source::File(Store::open_to_read(db)?),
        None => Source::Viewer(Viewer::new(&arguments.url, arguments.token.clone())),
    };
    let id = match &arguments.id {
        Some(id) => id.clone(),
        None => source.newest()?.ok_or("there are no spans yet")?,
    };
    let spans = source.find(&id)?.ok_or_else(|| format!("there is no session and no trace {}", clean(&id)))?;
    let places = tree::build(&spans.spans);
    let text = if arguments.json { as_json(&spans, &places)? } else { as_text(&spans, &places) };
    match io::Write::write_all(&mut io::stdout().lock(), text.as_bytes()) {
        // `tracebaton tree | head` has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// The places of one trace after the other.
fn by_trace<'a>(spans: &'a Spans, places: &'a [Place]) -> impl Iterator<Item = (&'a str, &'a [Place])> {
    let trace = |place: &Place| spans.spans.get(place.span).map_or("", |span| span.trace_id.as_str());
    places
        .chunk_by(move |left, right| trace(left) == trace(right))
        .filter_map(move |chunk| Some((trace(chunk.first()?), chunk)))
}

/// The tree as JSON. Children are nested by writing brackets, not by building values inside of values: a deep tree
/// takes no stack.
fn as_json(spans: &Spans, places: &[Place]) -> Result<String, String> {
    let describe = |error: serde_json::Error| error.to_string();
    let mut head = serde_json::to_value(&spans.summary).map_err(describe)?;
    if let Value::Object(head) = &mut head {
        head.insert("origins".to_owned(), json!(spans.origins));
    }
    let mut out = opened(&head.to_string(), "traces");
    for (trace, chunk) in by_trace(spans, places) {
        separate(&mut out);
        let _ = write!(out, "{{\"trace_id\":\"{trace}\",\"span_count\":{},\"roots\":[", chunk.len());
        let mut open = 0;
        for place in chunk {
            let Some(span) = spans.spans.get(place.span) else { continue };
            // Close the subtrees that ended: those of spans at this depth and deeper.
            for _ in place.depth..open {
                out.push_str("]}");
            }
            separate(&mut out);
            let text = serde_json::to_string(&PlacedSpan::new(span, place)).map_err(describe)?;
            out.push_str(&opened(&text, "children"));
            open = place.depth + 1;
        }
        out.push_str(&"]}".repeat(open));
        out.push_str("]}");
    }
    out.push_str("]}\n");
    Ok(out)
}

/// A JSON object with a list begun as its last field.
fn opened(object: &str, list: &str) -> String {
    let fields = object.strip_suffix('}').unwrap_or(object);
    format!("{fields},\"{list}\":[")
}

/// Before an item of a list: a comma, unless it is the first.
fn separate(out: &mut String) {
    if !out.ends_with('[') {
        out.push(',');
    }
}

fn as_text(spans: &Spans, places: &[Place]) -> String {
    let mut out = String::new();
    head(&mut out, spans);
    for (trace, chunk) in by_trace(spans, places) {
        let _ = writeln!(out, "trace {trace}");
        let mut above: Vec<bool> = Vec::new(); // by depth: whether more siblings follow
        for (place, more) in chunk.iter().zip(more_siblings(chunk)) {
            let Some(span) = spans.spans.get(place.span) else { continue };
            above.truncate(place.depth);
            for &more in above.iter().take(MAX_INDENT) {
                out.push_str(if more { "│  " } else { "   " });
            }
            if place.depth > MAX_INDENT {
                let _ = write!(out, "… level {} ", place.depth + 1);
            }
            out.push_str(if more { "├─ " } else { "└─ " });
            line(&mut out, span, place);
            above.push(more);
        }
    }
    out
}

/// For each place, whether a sibling of its follows.
fn more_siblings(places: &[Place]) -> Vec<bool> {
    let mut seen: Vec<bool> = Vec::new(); // by depth, going backwards
    let mut more: Vec<bool> = places
        .iter()
        .rev()
        .map(|place| {
            let more = seen.get(place.depth).copied().unwrap_or(false);
            seen.resize(place.depth, false);
            seen.push(true);
            more
        })
        .collect();
    more.reverse();
    more
}

fn head(out: &mut String, spans: &Spans) {
    let summary = &spans.summary;
    let (kind, id) = match summary.session_id.strip_prefix(TRACE_PREFIX) {
        Some(trace) => ("trace", trace),
        None => ("session", summary.session_id.as_str()),
    };
    let _ = write!(out, "{kind} {}", clean(id));
    if let Some(name) = &summary.session_name {
        let _ = write!(out, " \"{}\"", clean(name));
    }
    if let Some(project) = &summary.project {
        let _ = write!(out, " · project {}", clean(project));
    }
    let _ = write!(
        out,
        " · {} · {}",
        counted(summary.trace_count, "trace", "traces"),
        counted(summary.span_count, "span", "spans")
    );
    for (title, names) in [("services", &summary.services), ("sources", &summary.sources)] {
        if !names.is_empty() {
            let _ = write!(out, " · {title} {}", clean(&names.join(", ")));
        }
    }
    if summary.error_count > 0 {
        let _ = write!(out, " · {}", counted(summary.error_count, "error", "errors"));
    }
    out.push('\n');
}

fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn line(out: &mut String, span: &Span, place: &Place) {
    let what = span.event_type.clone().unwrap_or_else(|| span.kind.to_ascii_lowercase());
    let _ = write!(out, "{} ({})", clean(&span.name), clean(&what));
    let mut whence: Vec<&str> = [&span.source, &span.service].into_iter().flatten().map(String::as_str).collect();
    whence.dedup();
    if !whence.is_empty() {
        let _ = write!(out, " [{}]", clean(&whence.join("/")));
    }
    match span.duration_ns() {
        Some(nanos) => {
            let _ = write!(out, " {}", duration(nanos));
        }
        None => out.push_str(" (ends before it starts)"),
    }
    if let Some(error) = &span.error {
        let _ = write!(out, " ERROR {}", clean(error));
        out.truncate(out.trim_end().len());
    }
    if place.parent_missing {
        out.push_str(" (remote parent missing)");
    }
    if place.cycle {
        out.push_str(" (its own ancestor)");
    }
    if place.early_ns > 0 {
        let _ = write!(out, " (starts {} before its parent)", duration(place.early_ns));
    }
    out.push('\n');
}

/// A length of time with three digits or so.
fn duration(nanos: u64) -> String {
    let nanos_f = nanos as f64;
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{:.1} µs", nanos_f / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", nanos_f / 1e6),
        1_000_000_000..120_000_000_000 => format!("{:.2} s", nanos_f / 1e9),
        _ => format!("{:.1} min", nanos_f / 60e9),
    }
}

/// Text of others, made fit for a line of a terminal: no control characters (which could command it), not too long.
fn clean(text: &str) -> String {
    let unfit = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut out: String = text.chars().take(MAX_TEXT).map(|letter| if unfit(letter) { ' ' } else { letter }).collect();
    if text.chars().nth(MAX_TEXT).is_some() {
        out.push('…');
    }
    out
}
