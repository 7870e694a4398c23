use super::*;
use crate::delivery::Scope;
use crate::otlp::protobuf::{message, put_bytes, put_fixed64};
use crate::otlp::reader::{Repeated, SpanView};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;
use alloc::vec;
use std::sync::{Arc, Mutex};

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound as u64) as usize
    }
}

/// Where bytes were stored, and which.
type Write = (usize, Vec<u8>);

/// Memory that tells what was stored since it was last asked.
#[derive(Clone, Default)]
struct Disk {
    /// As it was.
    before: Arc<Mutex<Vec<u8>>>,
    writes: Arc<Mutex<Vec<Write>>>,
    now: Vec<u8>,
}

impl Memory for Disk {
    fn bytes(&self) -> &[u8] {
        &self.now
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        store(&mut self.now, at, bytes);
        self.writes.lock().unwrap().push((at, bytes.to_vec()));
    }
}

impl Disk {
    fn new(bytes: usize) -> Self {
        Self { before: Arc::new(Mutex::new(vec![0; bytes])), now: vec![0; bytes], ..Self::default() }
    }

    /// The memory with the first of the last stores, up to a byte that is chosen here; then forgets them.
    fn torn(&self, random: &mut Random) -> Vec<u8> {
        let (mut before, mut writes) = (self.before.lock().unwrap(), self.writes.lock().unwrap());
        let mut torn = before.clone();
        let mut left = random.below(writes.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() + 1);
        for (at, bytes) in writes.drain(..) {
            let some = left.min(bytes.len());
            store(&mut torn, at, &bytes[..some]);
            left -= some;
            store(&mut before, at, &bytes);
        }
        torn
    }
}

fn header(segment_bytes: u32, segments: u32) -> Header {
    Header { label: "otlp".to_string(), process: 7, nonce: 99, made_ns: 5, segment_bytes, segments }
}

fn entry(id: u64, end_ns: u64, size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, 2, |out| {
        put_bytes(out, 1, &[1; 16]);
        put_bytes(out, 2, &id.to_be_bytes());
        put_bytes(out, 5, &vec![b'a' + (id % 26) as u8; size]);
        put_fixed64(out, 7, 1_000 + id);
        put_fixed64(out, 8, end_ns);
    });
    out
}

const RESOURCE: &[u8] = b"resource";

/// The attribute that every third span has in common with many, and that of the next; the rest has none.
fn commons() -> [Option<Arc<[u8]>>; 3] {
    [None, Some(Arc::from(&b"\x4a\x03\x0a\x01a"[..])), Some(Arc::from(&b"\x4a\x03\x0a\x01b"[..]))]
}

fn scopes() -> [Scope; 3] {
    [Scope::new(b"scope").with_schema_url("https://schema"), Scope::new(b""), Scope::new(b"another")]
}

/// A span as it was recovered: its scope, its entry, and where it was.
type Found = BTreeMap<u64, (Scope, Vec<u8>)>;

/// Everything that is recovered: what ended, and what was open.
fn recover(image: &[u8], most_bytes: usize) -> (Found, Found, Summary) {
    let mut source = image;
    let mut recovery = Recovery::new(&mut source).unwrap();
    let (mut ended, mut open) = (Found::new(), Found::new());
    while let Some(batch) = recovery.next_batch(&mut source, most_bytes) {
        let mut spans = 0;
        for run in batch.runs() {
            for span in Repeated::of(run.spans(), 2) {
                let message = span.unwrap();
                let span = SpanView::parse(message).unwrap();
                spans += 1;
                let mut whole = Vec::new();
                crate::otlp::protobuf::put_bytes_always(&mut whole, 2, message);
                let is_open = span.status.is_some_and(|status| status.message.to_str() == "interrupted");
                let found = if is_open { &mut open } else { &mut ended };
                let id = u64::from_be_bytes(span.span_id.try_into().unwrap());
                if is_open {
                    let common = &commons()[id as usize % 3];
                    let fields = common.as_deref().unwrap_or_default();
                    assert!(
                        message.windows(fields.len().max(1)).any(|some| some == fields || common.is_none()),
                        "{id}"
                    );
                    assert_eq!(span.attributes().count(), usize::from(common.is_some()), "{id}");
                }
                assert!(found.insert(id, (run.scope().clone(), whole)).is_none(), "{id} twice");
            }
        }
        assert_eq!((spans, batch.done_at().count()), (batch.spans(), batch.spans()));
        assert!(spans == 1 || batch.bytes() <= most_bytes);
    }
    (ended, open, recovery.summary())
}

/// The truth about one span.
#[derive(Clone, PartialEq, Debug)]
struct Known {
    scope: usize,
    size: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    Open(Start),
    Ended(Mark),
    Gone,
}

impl Known {
    fn check(&self, id: u64, ended: &mut Found, open: &mut Found, scopes: &[Scope]) -> Result<(), &'static str> {
        let found = (ended.remove(&id), open.remove(&id));
        let scope = &scopes[self.scope];
        match (self.state, found) {
            (State::Gone, (None, None)) => Ok(()),
            (State::Open(_), (None, Some((found, _)))) if found == *scope => Ok(()),
            (State::Ended(_), (Some((found, bytes)), None)) if found == *scope => {
                assert_eq!(bytes, entry(id, 2_000 + id, self.size));
                Ok(())
            }
            _ => Err("it is not where it has to be"),
        }
    }
}

#[test]
fn whatever_is_torn_every_span_is_there_or_open_or_done() {
    let (scopes, commons) = (scopes(), commons());
    let (mut laps, mut refused, mut evacuated) = (0, 0, 0);
    for seed in 1..30 {
        let random = &mut Random(seed * 77_777);
        let segment_bytes = [256, 512, 1_024][random.below(3)];
        let header = header(segment_bytes, 3 + random.below(4) as u32);
        let disk = Disk::new(header.file_bytes() as usize);
        let mut spool = Spool::new(header, Box::new(disk.clone()), RESOURCE).unwrap();
        disk.torn(random);
        let mut known: BTreeMap<u64, Known> = BTreeMap::new();
        let usual = [10, 60, 200][random.below(3)];
        for id in 0..200 {
            let before = known.clone();
            let (scope, size) = (random.below(3), random.below(usual));
            let pick = |random: &mut Random, known: &BTreeMap<u64, Known>, open: bool| {
                let of = |it: &Known| {
                    if open { matches!(it.state, State::Open(_)) } else { matches!(it.state, State::Ended(_)) }
                };
                let ids: Vec<u64> = known.iter().filter(|(_, it)| of(it)).map(|(id, _)| *id).collect();
                (!ids.is_empty()).then(|| ids[random.below(ids.len())])
            };
            match random.below(10) {
                0..3 => match spool.start(&scopes[scope], &entry(id, 0, size), commons[id as usize % 3].as_ref()) {
                    Some(start) => drop(known.insert(id, Known { scope, size, state: State::Open(start) })),
                    None => refused += 1,
                },
                3..5 => match spool.end(&scopes[scope], &entry(id, 2_000 + id, size)) {
                    Some(mark) => drop(known.insert(id, Known { scope, size, state: State::Ended(mark) })),
                    None => refused += 1,
                },
                5..7 => {
                    if let Some(id) = pick(random, &known, true) {
                        let it = known.get_mut(&id).unwrap();
                        let State::Open(start) = it.state else { panic!() };
                        let mark = spool.end(&scopes[it.scope], &entry(id, 2_000 + id, it.size));
                        spool.close(start);
                        spool.close(start);
                        it.state = mark.map_or(State::Gone, State::Ended);
                    }
                }
                _ => {
                    if let Some(id) = pick(random, &known, false) {
                        let it = known.get_mut(&id).unwrap();
                        let State::Ended(mark) = it.state else { panic!() };
                        spool.settle(mark);
                        it.state = State::Gone;
                    }
                }
            }
            let of = |open: bool| {
                known.values().filter(move |it| matches!(it.state, State::Open(_)) == open && it.state != State::Gone)
            };
            assert_eq!((spool.open(), spool.ended()), (of(true).count() as u64, of(false).count() as u64));
            let (mut ended, mut open, summary) = recover(&disk.torn(random), 1 + random.below(2_000));
            assert_eq!(summary.damaged, 0, "a torn write is no damage");
            for (id, now) in &known {
                let earlier = before.get(id).cloned().unwrap_or(Known { state: State::Gone, ..now.clone() });
                let (mut ended_too, mut open_too) = (ended.clone(), open.clone());
                if now.check(*id, &mut ended_too, &mut open_too, &scopes).is_err() && earlier != *now {
                    earlier
                        .check(*id, &mut ended, &mut open, &scopes)
                        .unwrap_or_else(|why| panic!("{seed}: {id}: {why}"));
                } else {
                    now.check(*id, &mut ended, &mut open, &scopes).unwrap_or_else(|why| panic!("{seed}: {id}: {why}"));
                }
            }
            assert!(ended.is_empty() && open.is_empty(), "{seed}: never written");
        }
        laps += spool.laps();
        evacuated += spool.evacuated;
    }
    assert!(laps > 200 && refused > 100 && evacuated > 10, "{laps} {refused} {evacuated}");
}

#[test]
fn a_span_that_is_open_for_long_does_not_keep_a_segment() {
    let header = header(1_024, 3);
    let mut spool = Spool::new(header.clone(), Box::new(vec![0; header.file_bytes() as usize]), RESOURCE).unwrap();
    let scope = &scopes()[0];
    let start = spool.start(scope, &entry(0, 0, 50), None).unwrap();
    for id in 1..1_000 {
        let mark = spool.end(scope, &entry(id, 9_000, 100)).unwrap_or_else(|| panic!("no room for {id}"));
        spool.settle(mark);
    }
    assert!(spool.is_needed());
    let (ended, open, summary) = recover(spool.bytes(), 1_000);
    assert_eq!((ended.len(), open.len(), summary.open, summary.last_ns), (0, 1, 1, 9_000));
    let span = Repeated::of(&open[&0].1, 2).next().unwrap().unwrap();
    assert_eq!(SpanView::parse(span).unwrap().end_ns, 9_000);
    spool.close(start);
    assert!(!spool.is_needed());
    assert_eq!(recover(spool.bytes(), 1_000).2.open, 0);
}

#[test]
fn what_starts_have_in_common_is_written_once_in_a_row() {
    let header = header(4_096, 3);
    let mut spool = Spool::new(header.clone(), Box::new(vec![0; header.file_bytes() as usize]), RESOURCE).unwrap();
    let scope = &scopes()[0];
    let common: Arc<[u8]> = Arc::from(&b"\x4a\x03\x0a\x01a"[..]);
    let count = |spool: &Spool| spool.bytes().windows(common.len()).filter(|some| *some == &common[..]).count();
    let mut starts: Vec<_> = [1, 4, 7].map(|id| spool.start(scope, &entry(id, 0, 5), Some(&common)).unwrap()).into();
    assert_eq!(count(&spool), 1);
    // One without, one that ends and one of another session come between.
    starts.extend(spool.start(scope, &entry(0, 0, 5), None));
    spool.end(scope, &entry(0, 2_000, 5)).unwrap();
    starts.extend(spool.start(scope, &entry(10, 0, 5), Some(&common)));
    assert_eq!(count(&spool), 1);
    let [_, _, other] = commons();
    starts.extend(spool.start(scope, &entry(2, 0, 5), other.as_ref()));
    starts.extend(spool.start(scope, &entry(13, 0, 5), Some(&common)));
    assert_eq!(count(&spool), 2);
    let (ended, open, _) = recover(spool.bytes(), 1_000);
    assert_eq!((ended.len(), open.len()), (1, 6));
    starts.into_iter().for_each(|start| spool.close(start));
    assert_eq!(spool.open(), 0);
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_the_rest_alone() {
    let header = header(512, 3);
    let mut spool = Spool::new(header.clone(), Box::new(vec![0; header.file_bytes() as usize]), RESOURCE).unwrap();
    let scope = &scopes()[0];
    assert!(spool.end(scope, &entry(1, 2_001, 600)).is_none());
    assert_eq!(spool.laps(), 1, "it is no reason to leave a segment");
    let mut marks = Vec::new();
    for id in 2.. {
        let Some(mark) = spool.end(scope, &entry(id, 2_000 + id, 50)) else { break };
        marks.push(mark);
    }
    assert_eq!(recover(spool.bytes(), 5_000).0.len(), marks.len());
    // Room comes with what is settled, and only then.
    assert!(spool.start(scope, &entry(90, 0, 50), None).is_none());
    marks.iter().for_each(|mark| spool.settle(*mark));
    assert!(spool.start(scope, &entry(90, 0, 50), None).is_some());

    for (segment_bytes, segments) in [(512, 2), (248, 3), (516, 3), (1 << 31, 1 << 10)] {
        let header = Header { segment_bytes, segments, ..header.clone() };
        assert!(Spool::new(header, Box::new(vec![0; 4_096]), RESOURCE).is_none());
    }
    assert!(Spool::new(header.clone(), Box::new(vec![0; 5_000]), RESOURCE).is_none(), "too little memory");
    let memory = vec![0; header.file_bytes() as usize];
    assert!(Spool::new(header, Box::new(memory), &[0; 300]).is_none(), "too large a resource");
}

/// A spool with spans that ended, were settled, and are open.
fn image() -> (Vec<u8>, BTreeSet<Vec<u8>>) {
    let header = header(1_024, 12);
    let mut spool = Spool::new(header.clone(), Box::new(vec![0; header.file_bytes() as usize]), RESOURCE).unwrap();
    let mut written = BTreeSet::new();
    let (scopes, commons, mut marks) = (scopes(), commons(), Vec::new());
    for id in 0..60 {
        let scope = &scopes[id as usize % 3];
        let bytes = entry(id, 2_000 + id, 20 + id as usize);
        if id % 4 == 0 {
            spool.start(scope, &entry(id, 0, 20 + id as usize), commons[id as usize % 3].as_ref()).unwrap();
        } else {
            marks.push(spool.end(scope, &bytes).unwrap());
        }
        written.insert(bytes);
        if id % 5 == 0 && id > 0 {
            spool.settle(marks.remove(0));
        }
    }
    (spool.bytes().to_vec(), written)
}

#[test]
fn whatever_is_damaged_nothing_is_made_up() {
    let (image, written) = image();
    let (all, all_open, summary) = recover(&image, 10_000);
    assert_eq!((summary.ended, summary.open, summary.damaged), (all.len() as u64, all_open.len() as u64, 0));
    assert!(all.len() > 20 && all_open.len() > 10);
    let random = &mut Random(5);
    let (mut lost, mut damaged) = (0, 0);
    for round in 0..4_000 {
        let mut broken = image.clone();
        let changes = [1, 1, 1, 5, 50][random.below(5)];
        for _ in 0..changes {
            let at = HEADER_BYTES + random.below(image.len() - HEADER_BYTES);
            broken[at] ^= 1 + random.below(255) as u8;
        }
        let (ended, open, summary) = recover(&broken, 1 + random.below(5_000));
        // A state that is damaged may bring back what was settled, and hide nothing but itself.
        for (_, bytes) in ended.values() {
            assert!(written.contains(bytes), "{round}: never written");
        }
        assert!(open.keys().all(|id| id % 4 == 0), "{round}: never open");
        if changes == 1 {
            let missing = all.keys().filter(|id| !ended.contains_key(id)).count();
            assert!(missing <= 1, "{round}: a byte takes {missing} spans");
            lost += missing;
            damaged += usize::from(summary.damaged != 0);
            assert!(
                missing == 0 || summary.damaged != 0 || is_last(&broken, &image, &all, &ended),
                "{round}: unnoticed"
            );
        }
    }
    assert!(lost > 600 && damaged > lost, "{lost} {damaged}");
}

/// Whether what is missing is the last record of the segment that was written last: a torn write looks the same.
fn is_last(broken: &[u8], image: &[u8], all: &Found, found: &Found) -> bool {
    let last = all.keys().filter(|id| *id % 4 != 0).max();
    broken.len() == image.len() && last.is_some_and(|last| !found.contains_key(last))
}

#[test]
fn any_beginning_of_a_file_can_be_read() {
    let (image, written) = image();
    for length in (0..HEADER_BYTES).step_by(97) {
        assert_eq!(Recovery::new(&mut &image[..length]).unwrap_err(), Unreadable::Io);
    }
    for length in (HEADER_BYTES..image.len()).step_by(7) {
        let mut short = image[..length].to_vec();
        // As a source that ends, and as a file with nothing behind it.
        assert!(recover(&short, 900).0.values().all(|(_, bytes)| written.contains(bytes)));
        short.resize(image.len(), 0);
        assert!(recover(&short, 900).0.values().all(|(_, bytes)| written.contains(bytes)));
    }
}

#[test]
fn a_header_says_whose_file_it_is() {
    let header = Header { label: "sixteen-bytes-xx".to_string(), ..header(1 << 20, 64) };
    let mut page = vec![0; HEADER_BYTES];
    assert_eq!(Header::parse(&page), Err(Unreadable::Blank));
    page[..60].copy_from_slice(&header.encode());
    assert_eq!(Header::parse(&page).as_ref(), Ok(&header));
    assert_eq!(header.file_bytes(), (64 << 20) + 4_096);
    for at in 0..60 {
        let mut broken = page.clone();
        broken[at] ^= 4;
        let expected = if (8..12).contains(&at) { Unreadable::Version } else { Unreadable::Foreign };
        assert_eq!(Header::parse(&broken), Err(expected), "{at}");
    }
    assert_eq!(Header::parse(b"something else"), Err(Unreadable::Foreign));
}
