//! Taking over the files of processes that are gone, batch by batch.

#[cfg(unix)]
pub(crate) use unix::Recoveries;

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::FileExt;
    use std::path::PathBuf;

    use tracebaton::delivery::Batch;
    use tracebaton::spool::{DONE, Recovery, Unreadable};

    use crate::spool::Spool;
    use crate::spool::file::{self, Locked};

    /// How many bytes of spans one batch has.
    const BATCH_BYTES: usize = 4 << 20;

    /// A file that is recovered.
    struct Current {
        locked: Locked,
        recovery: Recovery,
    }

    /// The files that one queue recovers, one after the other.
    pub(crate) struct Recoveries {
        options: Option<Spool>,
        /// Files that are still to be looked at; `None` before the directory was read.
        left: Option<Vec<PathBuf>>,
        current: Option<Current>,
        /// Something had to stay where it was.
        incomplete: bool,
    }

    impl Recoveries {
        /// Those of a directory; nothing without one.
        pub(crate) fn new(options: Option<Spool>) -> Self {
            Self { options, left: None, current: None, incomplete: false }
        }

        /// Whether nothing is left to do here.
        pub(crate) fn is_over(&self) -> bool {
            self.options.is_none()
        }

        /// Whether all that was found has been delivered, or refused for good.
        pub(crate) fn is_complete(&self) -> bool {
            self.is_over() && !self.incomplete
        }

        /// The next spans to be delivered; `None` if there are none, which [`finish`](Self::finish) then is for. What has
        /// to be told to people is passed to `report`.
        pub(crate) fn next_batch(&mut self, report: &mut dyn FnMut(String)) -> Option<Batch> {
            let options = self.options.clone()?;
            loop {
                if let Some(Current { locked, recovery }) = &mut self.current {
                    if let Some(batch) = recovery.next_batch(&mut &*locked, BATCH_BYTES) {
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
                self.begin(path, report);
            }
        }

        /// There is nothing more, and people have been told.
        pub(crate) fn finish(&mut self) {
            self.options = None;
        }

        fn begin(&mut self, path: PathBuf, report: &mut dyn FnMut(String)) {
            // Somebody else's, or one that is gone.
            let Ok(Some(locked)) = Locked::open(&path) else { return };
            match Recovery::new(&mut &locked) {
                Ok(recovery) => self.current = Some(Current { locked, recovery }),
                Err(Unreadable::Blank) => locked.remove(),
                Err(Unreadable::Io) => self.incomplete = true,
                Err(why) => set_aside(locked, &why.to_string(), report),
            }
        }

        /// All of a file is delivered, or was refused for good.
        fn end(&mut self, report: &mut dyn FnMut(String)) {
            let Some(Current { locked, recovery }) = self.current.take() else { return };
            match recovery.summary().damaged {
                0 => locked.remove(),
                damaged => set_aside(locked, &format!("{damaged} bytes of it are damaged"), report),
            }
        }

        /// The batch that was taken last is delivered, or refused for good; or it was not.
        pub(crate) fn settled(&mut self, batch: &Batch, is_done: bool) {
            if !is_done {
                // It stays, and so does what is behind it: the destination takes nothing. The next start tries again.
                (self.options, self.current, self.incomplete) = (None, None, true);
                return;
            }
            if let Some(Current { locked, .. }) = &self.current {
                for at in batch.done_at() {
                    // Where this fails, spans are sent again if the file is not finished now.
                    let _ = locked.file.write_all_at(&[DONE], at);
                }
            }
        }

        /// Lets go of what is not finished.
        pub(crate) fn stop(&mut self) {
            if !self.is_over() {
                (self.options, self.current, self.incomplete) = (None, None, true);
            }
        }
    }

    fn set_aside(locked: Locked, why: &str, report: &mut dyn FnMut(String)) {
        let name = locked.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        report(if locked.set_aside() {
            format!("the spool {name} was moved to corrupt/: {why}")
        } else {
            format!("the spool {name} cannot be moved to corrupt/, and stays: {why}")
        });
    }
}

/// Nothing, where there are no spools.
#[cfg(not(unix))]
pub(crate) struct Recoveries;

#[cfg(not(unix))]
impl Recoveries {
    pub(crate) fn new(_: Option<super::Spool>) -> Self {
        Self
    }

    pub(crate) fn is_over(&self) -> bool {
        true
    }

    pub(crate) fn is_complete(&self) -> bool {
        true
    }

    pub(crate) fn next_batch(&mut self, _: &mut dyn FnMut(String)) -> Option<tracebaton::delivery::Batch> {
        None
    }

    pub(crate) fn settled(&mut self, _: &tracebaton::delivery::Batch, _: bool) {}

    pub(crate) fn finish(&mut self) {}

    pub(crate) fn stop(&mut self) {}
}
