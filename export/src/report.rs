//! What is told to people about delivery: each kind of trouble once, until it is over.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tracebaton::delivery::Reason;

/// Takes short messages about trouble with delivery. It is called with no lock held from the exporter's thread, where it
/// may take its time, which delays only the next request; at the end of a shutdown from a thread of its own, for which
/// nobody waits long.
pub type Reporter = Arc<dyn Fn(&str) + Send + Sync>;

/// How long a report is waited for at least.
const A_MOMENT: Duration = Duration::from_millis(100);

/// Reports something and waits until that is done, but no longer than to the deadline or, if that is near or over, for a
/// moment: a process may end after this, but a slow reporter does not prolong the shutdown of one that goes on.
pub(crate) fn tell_by(deadline: Instant, reporter: &Reporter, message: String) {
    let time = deadline.saturating_duration_since(Instant::now()).max(A_MOMENT);
    let (done, is_done) = mpsc::channel();
    let for_thread = (Arc::clone(reporter), message.clone());
    let tell = move || {
        let (reporter, message) = for_thread;
        // The reporter is the application's code.
        let _ = catch_unwind(AssertUnwindSafe(|| reporter(&message)));
        // Nobody may be there any more.
        let _ = done.send(());
    };
    match thread::Builder::new().name("tracebaton-report".into()).spawn(tell) {
        Ok(_) => drop(is_done.recv_timeout(time)),
        // Where no thread can be had, late is better than never.
        Err(_) => drop(catch_unwind(AssertUnwindSafe(|| reporter(&message)))),
    }
}

/// The same text is not news again within this time: a program may make a tracer for every request, or inject in a loop.
const QUIET: Duration = Duration::from_secs(60);
/// So many texts are remembered.
const MAX_TEXTS: usize = 200;

/// What was said lately, in all of a process.
#[derive(Debug, Default)]
pub struct News(Mutex<BTreeMap<String, Instant>>);

impl News {
    /// Nothing was said.
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Whether a text is to be said: it is new, or was last said a minute ago.
    pub fn is(&self, message: &str) -> bool {
        let now = Instant::now();
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, last| now.duration_since(*last) < QUIET);
        if said.len() >= MAX_TEXTS || said.contains_key(message) {
            return false;
        }
        said.insert(message.to_owned(), now);
        true
    }

    /// Forgets what was said: for tests.
    pub fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A kind of trouble: reported once until the destination accepts spans again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Trouble {
    Unreachable,
    Busy,
    Refused,
    TooLarge,
    GaveUp,
    QueueFull,
    Rejected,
    Warned,
    Shutdown,
    SpoolFull,
}

/// The kinds of trouble that have been reported.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Troubles(u16);

impl Troubles {
    /// Notes this trouble; true if it is new.
    pub(crate) fn begin(&mut self, trouble: Trouble) -> bool {
        let bit = 1 << trouble as u16;
        let new = self.0 & bit == 0;
        self.0 |= bit;
        new
    }

    /// The destination accepts spans: what kept them from it is over. What it says about the spans themselves is not
    /// over, since it would be said again with every batch; nor is a full queue, before it is empty.
    pub(crate) fn recovered(&mut self, queue_is_empty: bool) {
        let mut kept = 1 << Trouble::Rejected as u16 | 1 << Trouble::Warned as u16 | 1 << Trouble::SpoolFull as u16;
        if !queue_is_empty {
            kept |= 1 << Trouble::QueueFull as u16;
        }
        self.0 &= kept;
    }
}

impl From<Reason> for Trouble {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::QueueFull => Self::QueueFull,
            Reason::TooLarge => Self::TooLarge,
            Reason::GaveUp => Self::GaveUp,
            Reason::Shutdown => Self::Shutdown,
            _ => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_news_once() {
        let news = News::new();
        assert!(news.is("a") && !news.is("a") && news.is("b"));
        let new = (0..2 * MAX_TEXTS).filter(|n| news.is(&n.to_string())).count();
        assert_eq!(new, MAX_TEXTS - 2, "texts without end are not all said");
    }

    #[test]
    fn each_kind_is_new_once_until_it_is_over() {
        let mut troubles = Troubles::default();
        for trouble in [Trouble::Unreachable, Trouble::QueueFull, Trouble::Rejected] {
            assert!(troubles.begin(trouble));
            assert!(!troubles.begin(trouble));
        }
        troubles.recovered(false);
        assert!(troubles.begin(Trouble::Unreachable));
        assert!(!troubles.begin(Trouble::QueueFull));
        troubles.recovered(true);
        assert!(troubles.begin(Trouble::QueueFull));
        assert!(!troubles.begin(Trouble::Rejected));
    }
}
