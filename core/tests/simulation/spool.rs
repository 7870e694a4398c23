//! Spools: a disk that outlives processes, and what has to be found on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use tracebaton::delivery::Batch;
use tracebaton::spool::{DONE, Header, Memory, Recovery, Spool};

use crate::run::{Event, Run};
use crate::spans::decode;

/// The memory of a spool, which knows what was stored since it was last asked.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<Stored>>, Vec<u8>);

#[derive(Default)]
struct Stored {
    before: Vec<u8>,
    writes: Vec<(usize, Vec<u8>)>,
}

impl Memory for Disk {
    fn bytes(&self) -> &[u8] {
        &self.1
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.1[at..at + bytes.len()].copy_from_slice(bytes);
        self.0.lock().expect("not poisoned").writes.push((at, bytes.to_vec()));
    }
}

impl Disk {
    /// A small spool on a new disk, for few spans or for some.
    pub(crate) fn spool(run: &mut Run, name: u32, resource: &[u8]) -> (Self, Spool) {
        let header = Header {
            label: "otlp".into(),
            process: name,
            nonce: run.random.next(),
            made_ns: 0,
            segment_bytes: run.random.pick(&[256, 512, 2_048, 8_192]),
            segments: run.random.pick(&[3, 4, 16]),
        };
        let bytes = vec![0; header.file_bytes() as usize];
        let stored = Stored { before: bytes.clone(), writes: Vec::new() };
        let disk = Self(Arc::new(Mutex::new(stored)), bytes);
        let spool = Spool::new(header, Box::new(disk.clone()), resource).expect("sizes that fit");
        disk.keep();
        (disk, spool)
    }

    /// What was stored until now is there for good.
    pub(crate) fn keep(&self) {
        let stored = &mut *self.0.lock().expect("not poisoned");
        for (at, bytes) in stored.writes.drain(..) {
            stored.before[at..at + bytes.len()].copy_from_slice(&bytes);
        }
    }

    /// What is left where the process dies within the stores since [`keep`](Self::keep).
    pub(crate) fn torn(&self, run: &mut Run) -> Vec<u8> {
        let stored = &mut *self.0.lock().expect("not poisoned");
        let all: usize = stored.writes.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut left = run.random.below(all as u64 + 1) as usize;
        for (at, bytes) in stored.writes.drain(..) {
            let some = left.min(bytes.len());
            stored.before[at..at + some].copy_from_slice(&bytes[..some]);
            left -= some;
        }
        std::mem::take(&mut stored.before)
    }
}

/// A span as a spool holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) number: u32,
    pub(crate) bytes: usize,
    pub(crate) scope: usize,
}

/// What a ledger says that is in the spool of its queue.
pub(crate) struct Truth {
    pub(crate) queue: u32,
    pub(crate) resource: Vec<u8>,
    pub(crate) scopes: Vec<Vec<u8>>,
    pub(crate) ended: Vec<Expected>,
}

/// The spool of a process that is gone.
pub(crate) struct File {
    pub(crate) destination: usize,
    image: Vec<u8>,
    truth: Truth,
    /// What is still to be recovered: the scope, and whether it was interrupted.
    pub(crate) left: BTreeMap<u32, (usize, bool)>,
    /// The span that was being written when the process died: it may be there, as one or the other.
    perhaps: Option<u32>,
}

impl File {
    pub(crate) fn new(
        destination: usize,
        image: Vec<u8>,
        truth: Truth,
        open: impl Iterator<Item = (u32, usize)>,
        perhaps: Option<u32>,
    ) -> Self {
        let mut left: BTreeMap<_, _> = truth.ended.iter().map(|span| (span.number, (span.scope, false))).collect();
        for (number, scope) in open {
            assert!(left.insert(number, (scope, true)).is_none(), "{number} has ended and is open");
        }
        Self { destination, image, truth, left, perhaps }
    }

    /// Whether nothing has to be recovered.
    pub(crate) fn is_done(&self) -> bool {
        self.left.is_empty()
    }

    pub(crate) fn queue(&self) -> u32 {
        self.truth.queue
    }

    pub(crate) fn open(&self) -> Recovery {
        let recovery = Recovery::new(&mut &self.image[..]).expect("a spool");
        assert_eq!(recovery.summary().damaged, 0, "a torn write is no damage");
        recovery
    }

    /// The next batch; each of its spans must be one that was left, as it was.
    pub(crate) fn next(
        &self,
        run: &mut Run,
        recovery: &mut Recovery,
        most_bytes: usize,
    ) -> Option<(Batch, Vec<Expected>)> {
        let batch = recovery.next_batch(&mut &self.image[..], most_bytes)?;
        assert_eq!(batch.resource(), self.truth.resource, "resource");
        let mut found = Vec::new();
        for part in batch.runs() {
            let mut rest = part.spans();
            for (number, interrupted) in decode(part.spans()) {
                let size = 2 + usize::from(rest[1] & 0x7f);
                let bytes = if rest[1] < 0x80 { size } else { size + 1 + (usize::from(rest[2]) << 7) };
                rest = &rest[bytes..];
                run.counts.add(Event::Interrupted, u64::from(interrupted));
                let scope =
                    self.truth.scopes.iter().position(|scope| part.scope().as_bytes() == scope).expect("its scope");
                match self.left.get(&number) {
                    _ if self.perhaps == Some(number) => {}
                    Some(known) => assert_eq!(*known, (scope, interrupted), "{number}"),
                    None => panic!("{number} was recovered, but is done with or never was"),
                }
                found.push(Expected { number, bytes, scope });
            }
        }
        let numbers: BTreeSet<_> = found.iter().map(|span| span.number).collect();
        assert_eq!(numbers.len(), found.len(), "recovered twice");
        Some((batch, found))
    }

    /// Spans of a batch are delivered or dropped for good.
    pub(crate) fn done(&mut self, batch: &Batch) {
        for at in batch.done_at() {
            self.image[at as usize] = DONE;
        }
        for (number, _) in batch.runs().flat_map(|part| decode(part.spans())) {
            self.left.remove(&number);
            if self.perhaps == Some(number) {
                self.perhaps = None;
            }
        }
    }

    /// At the end of the world: what is left can be found, each span once.
    pub(crate) fn check(&self, run: &mut Run) {
        let mut recovery = self.open();
        let mut found = BTreeSet::new();
        while let Some((_, spans)) = self.next(run, &mut recovery, 1_000) {
            for span in spans {
                assert!(found.insert(span.number), "{} twice", span.number);
            }
        }
        for number in self.left.keys() {
            assert!(found.contains(number), "span {}/{number} is lost", self.truth.queue);
        }
    }
}
