//! Taking over the files of processes that are gone, batch by batch.

#[cfg(unix)]
pub(crate) use unix::Recoveries;

#[cfg(unix)]
mod unix {
    use std::collections::BTreeSet;
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};

    use tracebaton::delivery::Batch;
    use tracebaton::spool::{DONE, HEADER_BYTES, Recovery, Unreadable};

    use crate::spool::Spool;
    use crate::spool::file::{self, Locked, Reader};

    /// How many bytes of spans one batch has.
    const BATCH_BYTES: usize = 4 << 20;

    /// A file that is recovered.
    struct Current {
        locked: Locked,
        recovery: Recovery,
    }

    /// The files that one queue recovers, one after the other, in passes over the directory.
    pub(crate) struct Recoveries {
        options: Option<Spool>,
        /// A pass has begun, or is to begin.
        is_on: bool,
        /// Files that are still to be looked at in this pass; `None` before the directory was read.
        left: Option<Vec<PathBuf>>,
        current: Option<Current>,
        /// Something had to stay where it was.
        incomplete: bool,
        /// Files that people were told about.
        told: BTreeSet<PathBuf>,
    }

    impl Recoveries {
        /// Those of a directory; nothing without one. The first pass is to begin if `is_on`.
        pub(crate) fn new(options: Option<Spool>, is_on: bool) -> Self {
            let is_on = is_on && options.is_some();
            Self { options, is_on, left: None, current: None, incomplete: false, told: BTreeSet::new() }
        }

        /// Whether there is a directory to look at.
        pub(crate) fn is_possible(&self) -> bool {
            self.options.is_some()
        }

        /// Whether there is something to be recovered, or may be.
        pub(crate) fn is_on(&self) -> bool {
            self.is_on
        }

        /// Whether all that the last pass found has been delivered, or refused as bad data.
        pub(crate) fn is_complete(&self) -> bool {
            !self.is_on && !self.incomplete
        }

        /// Begins a pass, or goes on with one that was interrupted.
        pub(crate) fn begin_pass(&mut self) {
            if !self.is_on && self.left.as_ref().is_none_or(Vec::is_empty) {
                (self.left, self.incomplete) = (None, false);
            }
            self.is_on = self.is_possible();
        }

        /// The next spans to be delivered; `None` if there are none, which [`finish`](Self::finish) then is for. What has
        /// to be told to people is passed to `report`.
        pub(crate) fn next_batch(&mut self, report: &mut dyn FnMut(String)) -> Option<Batch> {
            let options = self.options.clone()?;
            loop {
                if let Some(Current { locked, recovery }) = &mut self.current {
                    if let Some(batch) = recovery.next_batch(&mut Reader(&locked.file), BATCH_BYTES) {
                        return Some(batch);
                    }
                    self.end(report);
                }
                let left = self.left.get_or_insert_with(|| {
                    file::remove_unfinished(&options.dir);
                    // The directory is made with the exporter; where there is none, there is nothing to recover.
                    let mut paths = file::paths(&options.dir).unwrap_or_default();
                    paths.retain(|path| file::label(path) == options.label);
                    paths.reverse();
                    paths
                });
                let path = left.pop()?;
                self.begin(&path, report);
            }
        }

        /// There is nothing more, and people have been told.
        pub(crate) fn finish(&mut self) {
            (self.is_on, self.left) = (false, None);
        }

        fn begin(&mut self, path: &Path, report: &mut dyn FnMut(String)) {
            let locked = match Locked::open(path) {
                Ok(Some(locked)) => locked,
                // Somebody else's, or one that is gone.
                Ok(None) => return,
                Err(error) => return self.leave(path, &error.kind().to_string(), report),
            };
            match Recovery::new(&mut Reader(&locked.file)) {
                Ok(recovery) => {
                    locked.mark_recovered();
                    self.current = Some(Current { locked, recovery });
                }
                Err(Unreadable::Io) if locked.file.metadata().is_ok_and(|meta| meta.len() < HEADER_BYTES as u64) => {
                    self.set_aside(locked, "it is too short", report);
                }
                Err(Unreadable::Io) => self.leave(path, "it cannot be read", report),
                // A blank one, too: a file gets its name when its header is there, so that was lost.
                Err(why) => self.set_aside(locked, &why.to_string(), report),
            }
        }

        /// All of a file is delivered, or was refused as bad data.
        fn end(&mut self, report: &mut dyn FnMut(String)) {
            let Some(Current { locked, recovery }) = self.current.take() else { return };
            match recovery.summary().damaged {
                0 => locked.remove(),
                damaged => self.set_aside(locked, &format!("{damaged} bytes of it are damaged"), report),
            }
        }

        fn set_aside(&mut self, locked: Locked, why: &str, report: &mut dyn FnMut(String)) {
            let path = locked.path.clone();
            if locked.set_aside() {
                report(format!("the spool {} was moved to corrupt/: {why}", name(&path)));
            } else {
                self.leave(&path, &format!("{why}, and it cannot be moved to corrupt/"), report);
            }
        }

        /// A file stays, which is told once.
        fn leave(&mut self, path: &Path, why: &str, report: &mut dyn FnMut(String)) {
            self.incomplete = true;
            if self.told.insert(path.to_owned()) {
                report(format!("the spool {} stays where it is: {why}", name(path)));
            }
        }

        /// The batch that was taken last is delivered, or refused as bad data; or it was not.
        pub(crate) fn settled(&mut self, batch: &Batch, is_done: bool) {
            if !is_done {
                // It stays, and so does what is behind it: the destination takes nothing. Others may try, and this one
                // goes on with the next file after a pause.
                (self.is_on, self.current, self.incomplete) = (false, None, true);
                return;
            }
            if let Some(Current { locked, .. }) = &self.current {
                for at in batch.done_at() {
                    // Where this fails, spans are sent again if the file is not finished now.
                    let _ = locked.file.write_all_at(&[DONE], at);
                }
            }
        }

        /// Lets go of what is not finished, for good.
        pub(crate) fn stop(&mut self) {
            self.incomplete |= self.is_on;
            (self.options, self.is_on, self.current) = (None, false, None);
        }
    }

    fn name(path: &Path) -> std::borrow::Cow<'_, str> {
        path.file_name().unwrap_or_default().to_string_lossy()
    }
}

/// Nothing, where there are no spools.
#[cfg(not(unix))]
pub(crate) struct Recoveries;

#[cfg(not(unix))]
impl Recoveries {
    pub(crate) fn new(_: Option<super::Spool>, _: bool) -> Self {
        Self
    }

    pub(crate) fn is_possible(&self) -> bool {
        false
    }

    pub(crate) fn is_on(&self) -> bool {
        false
    }

    pub(crate) fn is_complete(&self) -> bool {
        true
    }

    pub(crate) fn begin_pass(&mut self) {}

    pub(crate) fn next_batch(&mut self, _: &mut dyn FnMut(String)) -> Option<tracebaton::delivery::Batch> {
        None
    }

    pub(crate) fn settled(&mut self, _: &tracebaton::delivery::Batch, _: bool) {}

    pub(crate) fn finish(&mut self) {}

    pub(crate) fn stop(&mut self) {}
}
