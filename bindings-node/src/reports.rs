//! What is to be said to people: kept until JavaScript asks for it, which it is told to do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracebaton_export::{News, Reporter};

use crate::environment::Mailbox;

static NEWS: News = News::new();

struct Reports {
    texts: Vec<String>,
    /// The environments that want to be told, the oldest first. It is enough to tell one.
    readers: Vec<Arc<Mailbox>>,
}

static REPORTS: Mutex<Reports> = Mutex::new(Reports { texts: Vec::new(), readers: Vec::new() });

fn reports() -> MutexGuard<'static, Reports> {
    REPORTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says something, unless it was said a moment ago. From any thread.
pub(crate) fn warn(message: &str) {
    if !NEWS.is(message) {
        return;
    }
    let mut reports = reports();
    reports.texts.push(message.to_owned());
    let readers = reports.readers.clone();
    drop(reports);
    let _ = readers.iter().any(|reader| reader.tell_of_reports());
}

/// What exporters call.
pub(crate) fn reporter() -> Reporter {
    Arc::new(warn)
}

/// Everything that was to be said and was not yet.
pub(crate) fn take() -> Vec<String> {
    std::mem::take(&mut reports().texts)
}

/// Has an environment told when there is something.
pub(crate) fn add_reader(reader: &Arc<Mailbox>) {
    let mut reports = reports();
    reports.readers.push(Arc::clone(reader));
    let waiting = !reports.texts.is_empty();
    drop(reports);
    if waiting {
        reader.tell_of_reports();
    }
}

/// Forgets an environment that ends.
pub(crate) fn remove_reader(reader: &Arc<Mailbox>) {
    reports().readers.retain(|other| !Arc::ptr_eq(other, reader));
}
