//! The files: made, mapped, locked, listed.
//!
//! The lock is `flock`'s, which belongs to what was opened. Whoever opens the file once more, in the same process or
//! another one, neither has the lock nor ends it by closing. A forked child inherits it and would keep it from ending with
//! the parent: it closes what it inherited ([`forget_inherited`]), by which the parent loses nothing. For the same reason
//! what is mapped is not what is locked: a child cannot unmap it, lest somebody still uses it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use memmap2::MmapRaw;
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::io::Errno;
use tracebaton::spool::{
    HEADER_BYTES, Header, LABEL_BYTES, Memory, RECOVERED_AT, Recovery, Source, Spool as Core, Unreadable,
};

use super::{Info, Spool};
use crate::clock;
use crate::worker;

const SUFFIX: &str = ".spool";
/// While it is made, which nobody else looks at.
const NEW: &str = ".new";
/// Nobody takes so long to make a file.
const UNFINISHED: Duration = Duration::from_secs(3600);
/// Where files go that are damaged.
const CORRUPT: &str = "corrupt";
const MIB: u64 = 1 << 20;
/// Segments in the smallest pool.
const SEGMENTS_LEAST: u64 = 8;

/// A file that is this process's, until it is dropped.
#[derive(Debug)]
pub(super) struct Locked {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

impl Locked {
    /// The file at this path, unless it is somebody else's, or is gone.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // Noted before it is locked: no child inherits the lock without knowing of it.
        worker::spools().insert(file.as_raw_fd());
        let this = Self { path: path.to_owned(), file };
        if !lock(&this.file)? {
            return Ok(None);
        }
        // Whoever had it before may have removed it.
        let is_there = this.file.metadata()?.nlink() != 0;
        Ok(is_there.then_some(this))
    }

    /// Notes in the file that its own process is gone.
    pub(super) fn mark_recovered(&self) {
        // What is lost where this fails is a word in a list.
        let _ = self.file.write_all_at(&std::process::id().to_le_bytes(), RECOVERED_AT as u64);
    }

    /// The file is not needed any more.
    pub(super) fn remove(self) {
        // A file that cannot be removed is found again, with nothing in it.
        let _ = fs::remove_file(&self.path);
    }

    /// Moves the file out of the way. Whether that was possible.
    pub(super) fn set_aside(self) -> bool {
        let (Some(dir), Some(name)) = (self.path.parent(), self.path.file_name()) else { return false };
        let aside = dir.join(CORRUPT);
        let moved = private_dir(&aside).and_then(|()| {
            // Names are random: the same one is the same file, which must not be lost either.
            let to = aside.join(name);
            if to.exists() { Err(ErrorKind::AlreadyExists.into()) } else { fs::rename(&self.path, to) }
        });
        moved.is_ok()
    }
}

/// Reads a file.
pub(super) struct Reader<'a>(pub(super) &'a File);

impl Source for Reader<'_> {
    fn read(&mut self, offset: u64, into: &mut [u8]) -> bool {
        self.0.read_exact_at(into, offset).is_ok()
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Before it is closed: its number may be that of another file then.
        worker::spools().remove(&self.file.as_raw_fd());
    }
}

/// Locks a file, unless somebody else has: whether it is.
fn lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether somebody has locked a file.
fn is_locked(file: &File) -> bool {
    let is_locked = flock(file, FlockOperation::NonBlockingLockShared).is_err();
    if !is_locked {
        let _ = flock(file, FlockOperation::Unlock);
    }
    is_locked
}

/// In a forked child: closes the files that the parent has locked. They stay locked.
pub(crate) fn forget_inherited(files: impl IntoIterator<Item = RawFd>) {
    for file in files {
        // SAFETY: it was open when the process forked, since it is taken from the list before it is closed, and this is
        // the only thread. What owned it in the parent is never used or dropped here: see `fork`.
        drop(unsafe { OwnedFd::from_raw_fd(file) });
    }
}

/// A mapped file.
struct Mapped {
    map: Arc<MmapRaw>,
    _locked: Locked,
}

impl Memory for Mapped {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the map is readable and `len` bytes long for as long as `self`. Only `self` writes to it, for which it
        // has to be borrowed alone (`Warm` touches pages, but changes no byte); other processes do not write to a file
        // that is locked: one that breaks the rules of this directory of the owner changes bytes that are data here.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr(), self.map.len()) }
    }

    #[inline]
    fn write(&mut self, at: usize, bytes: &[u8]) {
        // SAFETY: as above, and writable; `self` is borrowed alone.
        let map = unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr(), self.map.len()) };
        if let Some(place) = map.get_mut(at..at.saturating_add(bytes.len())) {
            place.copy_from_slice(bytes);
        }
    }
}

/// Has the system set up the first pages of a map before spans come there: that takes microseconds for each, which a span
/// should not wait for.
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "elsewhere spans wait"))]
pub(crate) struct Warm(Arc<MmapRaw>);

impl Warm {
    /// The bytes that are made ready: what is written in a second or two.
    #[cfg(target_os = "linux")]
    const BYTES: usize = 8 << 20;

    /// Does so. Takes milliseconds.
    pub(crate) fn run(self) {
        // The system's own pages are made one after the other: a larger piece would only keep it busy for longer.
        #[cfg(target_os = "linux")]
        for at in (0..self.0.len().min(Self::BYTES)).step_by(MIB as usize) {
            let some = self.0.len().saturating_sub(at).min(MIB as usize);
            // Where this is not known (before Linux 5.14), spans wait.
            if self.0.advise_range(memmap2::Advice::PopulateWrite, at, some).is_err() {
                return;
            }
        }
    }
}

fn private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Makes the spool of an exporter, and its file; or says why that is not possible.
pub(super) fn create(options: &Spool, resource: &[u8]) -> Result<(Core, PathBuf, Warm), String> {
    let Spool { dir, label, bytes, .. } = options;
    let is_label = |label: &str| label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if label.is_empty() || label.len() > LABEL_BYTES || !is_label(label) {
        return Err(String::from("its label is none"));
    }
    // Few large segments waste less room than many small ones; but one is kept free, and one is written.
    let bytes = bytes.saturating_sub(HEADER_BYTES as u64);
    let segment = MIB.min(bytes / SEGMENTS_LEAST) & !7;
    let segments = bytes.checked_div(segment).unwrap_or(0);
    let (Ok(segment_bytes), Ok(segments)) = (u32::try_from(segment), u32::try_from(segments)) else {
        return Err(String::from("its size is out of range"));
    };
    let made_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    let header = Header {
        label: label.clone(),
        process: std::process::id(),
        nonce: clock::random(),
        made_ns,
        segment_bytes,
        segments,
    };
    if left_bytes(dir).saturating_add(header.file_bytes()) > options.left_bytes() {
        return Err(String::from("what processes that died have left takes all the room it may have"));
    }
    let made = || -> io::Result<Option<(Core, PathBuf, Warm)>> {
        private_dir(dir)?;
        let name = format!("{label}-{}-{:016x}{SUFFIX}", header.process, header.nonce);
        let (new, path) = (dir.join(format!("{name}{NEW}")), dir.join(&name));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&new)?;
        let spool = fill(&file, header.file_bytes()).and_then(|()| {
            let map = Arc::new(MmapRaw::map_raw(&file)?);
            let locked = Locked::open(&new)?.ok_or(ErrorKind::AlreadyExists)?;
            let warm = Warm(Arc::clone(&map));
            let spool = Core::new(header.clone(), Box::new(Mapped { map, _locked: locked }), resource);
            Ok(spool.map(|spool| (spool, warm)))
        });
        // It gets its name when it is complete: nobody finds one that is not.
        let spool = spool.and_then(|spool| fs::rename(&new, &path).map(|()| spool));
        if !matches!(spool, Ok(Some(_))) {
            let _ = fs::remove_file(&new);
            let _ = fs::remove_file(&path);
        }
        Ok(spool?.map(|(spool, warm)| (spool, path, warm)))
    };
    match made() {
        Ok(Some(spool)) => Ok(spool),
        Ok(None) => Err(String::from("its size is out of range")),
        // The kind says it without the path.
        Err(error) => Err(error.kind().to_string()),
    }
}

/// Gives the file its size, with room on the disk for all of it.
fn fill(mut file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) if file.metadata()?.len() == bytes => return Ok(()),
        // A signal, such as that of a timer, may interrupt it every time; writing goes on where it was.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    file.rewind()?;
    let zeros = vec![0; MIB as usize];
    let mut left = bytes;
    while left != 0 {
        let some = left.min(MIB) as usize;
        file.write_all(zeros.get(..some).unwrap_or_default())?;
        left = left.saturating_sub(some as u64);
    }
    Ok(())
}

/// The files of spools in a directory, by name.
pub(super) fn paths(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(SUFFIX) && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Removes what processes left that died while they made a file: it holds nothing.
pub(super) fn remove_unfinished(dir: &Path) {
    let is_old = |path: &Path| {
        let modified = fs::metadata(path).and_then(|meta| meta.modified());
        modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > UNFINISHED))
    };
    for path in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.to_string_lossy().ends_with(&format!("{SUFFIX}{NEW}")) && is_old(&path) {
            let _ = fs::remove_file(path);
        }
    }
}

/// The label in the name of a file.
pub(super) fn label(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('-').next().unwrap_or_default().to_owned()
}

/// Bytes of files that nobody has locked: what processes that died have left.
fn left_bytes(dir: &Path) -> u64 {
    let paths = paths(dir).unwrap_or_default();
    let left = paths.iter().filter_map(|path| File::open(path).ok()).filter(|file| !is_locked(file));
    left.filter_map(|file| file.metadata().ok()).fold(0, |sum, meta| sum.saturating_add(meta.len()))
}

pub(super) fn list(dir: &Path) -> io::Result<Vec<Info>> {
    let mut infos = Vec::new();
    for path in paths(dir)? {
        let bytes = fs::metadata(&path).map_or(0, |meta| meta.len());
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut info = Info {
            label: label(&path),
            path,
            process: name.split('-').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0),
            is_locked: None,
            is_recovered: false,
            ended: 0,
            open: 0,
            bytes,
            damaged: 0,
            unreadable: None,
        };
        // One that is locked is read all the same, as it is at the moment.
        let read = File::open(&info.path).map(|file| {
            info.is_locked = Some(is_locked(&file));
            let recovery = Recovery::new(&mut Reader(&file));
            let mut recovered = [0; 4];
            info.is_recovered = Reader(&file).read(RECOVERED_AT as u64, &mut recovered) && recovered != [0; 4];
            recovery
        });
        match read {
            Ok(Ok(recovery)) => {
                let summary = recovery.summary();
                info.process = recovery.header().process;
                (info.ended, info.open) = (summary.ended, summary.open);
                info.damaged = if info.is_locked == Some(true) { 0 } else { summary.damaged };
            }
            Ok(Err(why)) => info.unreadable = Some(why),
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(_) => info.unreadable = Some(Unreadable::Io),
        }
        infos.push(info);
    }
    Ok(infos)
}
