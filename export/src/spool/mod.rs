//! Spools on disk: what [`tracebaton::spool`] decides, done with mapped files and locks.
//!
//! Every exporter of every process has a file of its own in a directory that many may share. The file is made in its full
//! size when the exporter is, so that no span ever waits for the disk or finds it full; it is locked for as long as the
//! process lives. An exporter's thread, or [`list`] and [`recover`](crate::Exporter::recover) on behalf of a program, takes
//! the files that nobody has locked, delivers what is in them, and removes them when all of it is delivered, or was rejected
//! or refused as bad data. It looks for them at the beginning and then from time to time
//! ([`Config::rescan_ns`](crate::Config)), soon after a fork, and until the destination takes what is in them. What cannot
//! be read or is damaged is moved to the directory `corrupt` beside them, and never removed.
//!
//! What processes that died have left is bounded ([`Spool::left_bytes`]): beyond that an exporter has no file, says so, and
//! counts its spans as unspooled.
//!
//! The directory must be on a local disk, and nobody else may change its files: a mapped file that somebody cuts off ends
//! the process that has it mapped.

use std::io;
use std::path::{Path, PathBuf};

use tracebaton::spool::Unreadable;

#[cfg(unix)]
mod file;
mod recovery;

#[cfg(unix)]
pub(crate) use file::{Warm, forget_inherited};
pub(crate) use recovery::Recoveries;

/// Nothing, where there are no spools.
#[cfg(not(unix))]
pub(crate) enum Warm {}

#[cfg(not(unix))]
impl Warm {
    pub(crate) fn run(self) {
        match self {}
    }
}

/// Where an exporter keeps spans in case its process dies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spool {
    /// The directory. It is made if need be, for its owner only: spans hold what programs and people said.
    pub dir: PathBuf,
    /// What kind of destination the spans are for: letters, digits and `_`, 16 at most. Exporters take over only files of
    /// their own kind. It is part of file names: no address, and no secret.
    pub label: String,
    /// The size of the file, in bytes; at least [`BYTES_LEAST`](Self::BYTES_LEAST). A span that takes more than an eighth
    /// of it, or than 1 MiB, is not in it. With 0 there is no file: what other processes left is delivered, and that is
    /// all.
    pub bytes: u64,
    /// Whether spans are recorded when they begin, too.
    pub starts: bool,
}

impl Spool {
    /// The usual size of a file, in bytes: 64 MiB.
    pub const BYTES: u64 = 64 << 20;

    /// The smallest size that is of use, in bytes: 1 MiB.
    pub const BYTES_LEAST: u64 = 1 << 20;

    /// The largest size, in bytes: 16 GiB.
    pub const BYTES_MOST: u64 = 16 << 30;

    /// The size that was given, or that `TRACEBATON_SPOOL_BYTES` says, or the usual one. What is wrong about the
    /// environment is a warning.
    ///
    /// # Errors
    ///
    /// What must be given, in words, where something else was.
    pub fn size(given: Option<u64>, of_environment: Option<&str>, warn: impl Fn(&str)) -> Result<u64, String> {
        let fits = |bytes: &u64| (Self::BYTES_LEAST..=Self::BYTES_MOST).contains(bytes);
        if let Some(bytes) = given {
            let wanted = || format!("a number of bytes from {} to {}", Self::BYTES_LEAST, Self::BYTES_MOST);
            return Some(bytes).filter(fits).ok_or_else(wanted);
        }
        let Some(text) = of_environment.filter(|text| !text.is_empty()) else { return Ok(Self::BYTES) };
        Ok(text.parse().ok().filter(fits).unwrap_or_else(|| {
            warn("TRACEBATON_SPOOL_BYTES is no number of bytes that a spool can have: it has 64 MiB");
            Self::BYTES
        }))
    }

    /// A spool of the usual size, with starts.
    pub fn new(dir: impl Into<PathBuf>, label: &str) -> Self {
        Self { dir: dir.into(), label: label.to_owned(), bytes: Self::BYTES, starts: true }
    }

    /// What processes that died may have left in the directory, in bytes: 1 GiB, or 16 files of this size. Where that much
    /// is left, no file is made, so that processes which die again and again do not fill the disk.
    pub const fn left_bytes(&self) -> u64 {
        let files = self.bytes.saturating_mul(16);
        if files > 1 << 30 { files } else { 1 << 30 }
    }
}

/// What [`list`] knows of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Info {
    /// Where it is.
    pub path: PathBuf,
    /// The number of the process that made it; on the machine, or in the container, that it ran on.
    pub process: u32,
    /// Whether that process, or one that recovers the file, has it open. `None` if that cannot be found out.
    pub is_locked: Option<bool>,
    /// Whether another process has begun to recover it, since that process is gone.
    pub is_recovered: bool,
    /// What kind of destination the spans are for.
    pub label: String,
    /// Spans that ended and were neither delivered nor refused.
    pub ended: u64,
    /// Spans that are open, or were when the process died.
    pub open: u64,
    /// The size of the file.
    pub bytes: u64,
    /// Bytes that cannot be read, but for the end of a write that the process died in.
    pub damaged: u64,
    /// Why nothing can be read.
    pub unreadable: Option<Unreadable>,
}

/// The files of all spools in a directory, by name.
///
/// # Errors
///
/// Those of reading the directory; a file that cannot be read is in the list as such.
pub fn list(dir: &Path) -> io::Result<Vec<Info>> {
    #[cfg(unix)]
    return file::list(dir);
    #[cfg(not(unix))]
    {
        let _ = dir;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The spool of an exporter in this process, its file, and what makes it ready in the background; or why there is none, in words without paths.
#[cfg(unix)]
pub(crate) fn create(options: &Spool, resource: &[u8]) -> Result<(tracebaton::spool::Spool, PathBuf, Warm), String> {
    file::create(options, resource)
}

/// There is none here.
#[cfg(not(unix))]
pub(crate) fn create(_: &Spool, _: &[u8]) -> Result<(tracebaton::spool::Spool, PathBuf, Warm), String> {
    Err(String::from("there are no spools on this system"))
}
