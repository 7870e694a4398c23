//! The spans on disk: one SQLite file.
//!
//! A span is kept by its trace id and span id, and the last delivery wins, so exporters that deliver at least once
//! leave no duplicates. Every call here blocks; the server makes them from its blocking threads.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, TransactionBehavior, params};
use serde_json::value::RawValue;

use crate::ingest::Batch;
use crate::span::{Span, Spans, Status, Summary, TRACE_PREFIX};

/// Changed when the tables are: a file of another version is refused rather than misread.
const VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE origins (id INTEGER PRIMARY KEY, body TEXT NOT NULL UNIQUE);
CREATE TABLE spans (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    trace_id TEXT NOT NULL,
    span_id TEXT NOT NULL,
    session_id TEXT,
    start_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL,
    error TEXT,
    service TEXT,
    source TEXT,
    project TEXT,
    parent_span_id TEXT,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    event_type TEXT,
    status_code TEXT NOT NULL,
    status_message TEXT NOT NULL,
    trace_state TEXT NOT NULL,
    origin INTEGER NOT NULL,
    attributes TEXT NOT NULL,
    events TEXT NOT NULL,
    links TEXT NOT NULL,
    UNIQUE (trace_id, span_id)
);
CREATE INDEX spans_by_session ON spans (session_id, trace_id);
CREATE TABLE sessions (
    session_id TEXT PRIMARY KEY,
    -- Opened by a session start; a session that is only enriched or named is listed when its first span comes.
    started_ns INTEGER,
    session_name TEXT,
    project TEXT,
    properties TEXT NOT NULL DEFAULT '{}'
) WITHOUT ROWID;
";

/// Every span with the session that it is shown in. A span that names none is shown in the sessions of its trace: a
/// service without the session in its path does not fall out of the tree. If the trace has none, it is one itself.
const PLACED: &str = "
WITH members AS (SELECT DISTINCT session_id, trace_id FROM spans WHERE session_id IS NOT NULL),
placed AS (
    SELECT spans.*, COALESCE(spans.session_id, members.session_id, 'trace:' || spans.trace_id) AS shown_in
    FROM spans LEFT JOIN members ON spans.session_id IS NULL AND members.trace_id = spans.trace_id
)";

const SPAN_COLUMNS: &str = "trace_id, span_id, parent_span_id, session_id, name, kind, service, source, project,
    event_type, start_ns, end_ns, status_code, status_message, error, trace_state, attributes, events, links, origin";

/// An open database.
pub(crate) struct Store {
    connection: Mutex<Connection>,
    /// Counts the writes made here.
    writes: AtomicU64,
}

impl Store {
    /// Opens the file, making it if need be (readable by its owner only: spans hold prompts); `:memory:` is a store
    /// that is gone when the process is.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let describe = |error: &dyn std::fmt::Display| format!("cannot open {}: {error}", path.display());
        let connection = if path.as_os_str() == ":memory:" {
            Connection::open_in_memory()
        } else {
            make_private(path).map_err(|error| describe(&error))?;
            Connection::open(path)
        };
        let mut connection = connection.map_err(|error| describe(&error))?;
        prepare(&mut connection).map_err(|error| describe(&error))?;
        Ok(Self { connection: Mutex::new(connection), writes: AtomicU64::new(0) })
    }

    /// Opens an existing file to read from; a viewer may be writing to it.
    pub(crate) fn open_to_read(path: &Path) -> Result<Self, String> {
        let describe = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
        // Not read-only: a reader of a write-ahead log has to be able to write its index beside it.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| describe(&error))?;
        let found = version(&connection).map_err(|error| describe(&error))?;
        if found != VERSION {
            return Err(describe(&"it is not a database of this version of tracebaton"));
        }
        connection.busy_timeout(Duration::from_secs(5)).map_err(|error| describe(&error))?;
        Ok(Self { connection: Mutex::new(connection), writes: AtomicU64::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic in another call leaves no half-done state: its transaction was rolled back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that is another one after every change, whoever made it.
    pub(crate) fn revision(&self) -> rusqlite::Result<(u64, i64)> {
        let others = self.lock().pragma_query_value(None, "data_version", |row| row.get(0))?;
        Ok((self.writes.load(Ordering::SeqCst), others))
    }

    /// Writes what a request held, all of it or nothing.
    pub(crate) fn add(&self, batch: &Batch) -> rusqlite::Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut origins = Vec::with_capacity(batch.origins.len());
            let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO origins (body) VALUES (?1)")?;
            let mut select = transaction.prepare_cached("SELECT id FROM origins WHERE body = ?1")?;
            for body in &batch.origins {
                insert.execute([body])?;
                origins.push(select.query_row([body], |row| row.get::<_, i64>(0))?);
            }
            let mut insert = transaction.prepare_cached(&format!(
                "INSERT OR REPLACE INTO spans ({SPAN_COLUMNS})
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)"
            ))?;
            for span in &batch.spans {
                let origin = usize::try_from(span.origin).ok().and_then(|at| origins.get(at)).copied();
                insert.execute(params![
                    span.trace_id,
                    span.span_id,
                    span.parent_span_id,
                    span.session_id,
                    span.name,
                    span.kind,
                    span.service,
                    span.source,
                    span.project,
                    span.event_type,
                    span.start_ns as i64,
                    span.end_ns as i64,
                    span.status.code,
                    span.status.message,
                    span.error,
                    span.trace_state,
                    span.attributes.get(),
                    span.events.get(),
                    span.links.get(),
                    origin.unwrap_or_default(),
                ])?;
            }
            let mut name = transaction.prepare_cached(
                "INSERT INTO sessions (session_id, session_name) VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET session_name = COALESCE(session_name, excluded.session_name)",
            )?;
            for (session, session_name) in &batch.session_names {
                name.execute([session, session_name])?;
            }
        }
        transaction.commit()?;
        self.writes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Opens a session or merges into an open one.
    pub(crate) fn start_session(
        &self,
        session: &str,
        now_ns: u64,
        name: Option<&str>,
        project: Option<&str>,
    ) -> rusqlite::Result<()> {
        self.lock().execute(
            "INSERT INTO sessions (session_id, started_ns, session_name, project) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET started_ns = COALESCE(started_ns, excluded.started_ns),
                 session_name = COALESCE(excluded.session_name, session_name),
                 project = COALESCE(excluded.project, project)",
            params![session, now_ns.min(i64::MAX as u64) as i64, name, project],
        )?;
        self.writes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Changes the properties of a session, known or not (its first span may still be on its way).
    pub(crate) fn change_properties(&self, session: &str, change: impl FnOnce(&str) -> String) -> rusqlite::Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let before: Option<String> = transaction
            .query_row("SELECT properties FROM sessions WHERE session_id = ?1", [session], |row| row.get(0))
            .optional()?;
        let after = change(before.as_deref().unwrap_or("{}"));
        transaction.execute(
            "INSERT INTO sessions (session_id, properties) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET properties = excluded.properties",
            [session, &after],
        )?;
        transaction.commit()?;
        self.writes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// The sessions whose spans came last, and how many there are in all. Sessions that were opened and have no span
    /// yet come after those.
    pub(crate) fn sessions(&self, limit: u32) -> rusqlite::Result<(Vec<Summary>, u64)> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!(
            "{PLACED},
            grouped AS (
                SELECT shown_in AS id, MIN(start_ns) AS first_ns, MAX(MAX(start_ns, end_ns)) AS last_ns,
                    COUNT(*) AS spans, COUNT(DISTINCT trace_id) AS traces, COUNT(error) AS errors,
                    json_group_array(DISTINCT service) FILTER (WHERE service IS NOT NULL) AS services,
                    json_group_array(DISTINCT source) FILTER (WHERE source IS NOT NULL) AS sources,
                    MAX(project) AS project, MAX(seq) AS seq
                FROM placed GROUP BY shown_in
            ),
            listed AS (
                SELECT id, first_ns, last_ns, spans, traces, errors, services, sources, project, seq FROM grouped
                UNION ALL
                SELECT session_id, started_ns, started_ns, 0, 0, 0, '[]', '[]', NULL, 0 FROM sessions
                WHERE started_ns IS NOT NULL AND session_id NOT IN (SELECT id FROM grouped)
            )
            SELECT id, session_name, COALESCE(sessions.project, listed.project), first_ns, last_ns, spans, traces,
                errors, services, sources, properties, COUNT(*) OVER ()
            FROM listed LEFT JOIN sessions ON session_id = id
            ORDER BY seq DESC, last_ns DESC, id LIMIT ?1"
        ))?;
        let mut total = 0;
        let rows = statement.query_map([limit], |row| {
            total = row.get::<_, i64>(11)? as u64;
            Ok(Summary {
                session_id: row.get(0)?,
                session_name: row.get(1)?,
                project: row.get(2)?,
                first_ns: row.get::<_, i64>(3)? as u64,
                last_ns: row.get::<_, i64>(4)? as u64,
                span_count: row.get::<_, i64>(5)? as u64,
                trace_count: row.get::<_, i64>(6)? as u64,
                error_count: row.get::<_, i64>(7)? as u64,
                services: strings(row, 8)?,
                sources: strings(row, 9)?,
                properties: optional_json(row, 10)?,
            })
        })?;
        let sessions = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        Ok((sessions, total))
    }

    /// The spans of a session, or of a trace by the id `trace:<hex>`; none if neither spans nor session are known.
    pub(crate) fn session(&self, session: &str) -> rusqlite::Result<Option<Spans>> {
        let connection = self.lock();
        let mut summary = Summary { session_id: session.to_owned(), ..Summary::default() };
        let known = connection
            .query_row(
                "SELECT session_name, project, started_ns, properties FROM sessions WHERE session_id = ?1",
                [session],
                |row| {
                    summary.session_name = row.get(0)?;
                    summary.project = row.get(1)?;
                    summary.first_ns = row.get::<_, Option<i64>>(2)?.unwrap_or_default() as u64;
                    summary.last_ns = summary.first_ns;
                    summary.properties = optional_json(row, 3)?;
                    row.get::<_, Option<i64>>(2)
                },
            )
            .optional()?
            .flatten();
        let spans = spans(
            &connection,
            "session_id = ?1 OR (session_id IS NULL
                AND trace_id IN (SELECT DISTINCT trace_id FROM spans WHERE session_id = ?1))",
            session,
        )?;
        match (spans.is_empty(), session.strip_prefix(TRACE_PREFIX)) {
            (false, _) => with_origins(&connection, summary, spans).map(Some),
            (true, Some(trace)) => {
                let spans = self::spans(
                    &connection,
                    "trace_id = ?1 AND NOT EXISTS
                        (SELECT 1 FROM spans WHERE trace_id = ?1 AND session_id IS NOT NULL)",
                    trace,
                )?;
                if spans.is_empty() { Ok(None) } else { with_origins(&connection, summary, spans).map(Some) }
            }
            (true, None) if known.is_some() => with_origins(&connection, summary, spans).map(Some),
            (true, None) => Ok(None),
        }
    }

    /// All spans of a trace, whatever their sessions.
    pub(crate) fn trace(&self, trace: &str) -> rusqlite::Result<Option<Spans>> {
        let connection = self.lock();
        let spans = spans(&connection, "trace_id = ?1", trace)?;
        if spans.is_empty() {
            return Ok(None);
        }
        let summary = Summary { session_id: format!("{TRACE_PREFIX}{trace}"), ..Summary::default() };
        with_origins(&connection, summary, spans).map(Some)
    }

    /// The session whose span came last.
    pub(crate) fn newest(&self) -> rusqlite::Result<Option<String>> {
        let (sessions, _) = self.sessions(1)?;
        Ok(sessions.into_iter().next().map(|summary| summary.session_id))
    }

    /// Writes the log back into the file, so that it is one file again.
    pub(crate) fn close(&self) {
        // Only tidiness: SQLite does it at the next opening otherwise.
        let _ = self.lock().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }
}

fn make_private(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder)?;
    }
    let mut options = fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn prepare(connection: &mut Connection) -> Result<(), Box<dyn std::error::Error>> {
    connection.busy_timeout(Duration::from_secs(5))?;
    // A reader (`tracebaton tree --db`) does not hold up the writer; what a crash of the machine may cost are the last
    // moments, never the file.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match version(&transaction)? {
        VERSION => {}
        0 => {
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        _ => return Err("it was made by another version of tracebaton".into()),
    }
    transaction.commit()?;
    Ok(())
}

fn spans(connection: &Connection, condition: &str, argument: &str) -> rusqlite::Result<Vec<Span>> {
    let mut statement = connection
        .prepare_cached(&format!("SELECT {SPAN_COLUMNS} FROM spans WHERE {condition} ORDER BY start_ns, seq"))?;
    let rows = statement.query_map([argument], |row| {
        Ok(Span {
            trace_id: row.get(0)?,
            span_id: row.get(1)?,
            parent_span_id: row.get(2)?,
            session_id: row.get(3)?,
            name: row.get(4)?,
            kind: row.get(5)?,
            service: row.get(6)?,
            source: row.get(7)?,
            project: row.get(8)?,
            event_type: row.get(9)?,
            start_ns: row.get::<_, i64>(10)? as u64,
            end_ns: row.get::<_, i64>(11)? as u64,
            status: Status { code: row.get(12)?, message: row.get(13)? },
            error: row.get(14)?,
            trace_state: row.get(15)?,
            attributes: json(row, 16)?,
            events: json(row, 17)?,
            links: json(row, 18)?,
            origin: row.get(19)?,
        })
    })?;
    rows.collect()
}

fn with_origins(connection: &Connection, summary: Summary, spans: Vec<Span>) -> rusqlite::Result<Spans> {
    let mut origins = BTreeMap::new();
    let mut statement = connection.prepare_cached("SELECT body FROM origins WHERE id = ?1")?;
    for span in &spans {
        if let std::collections::btree_map::Entry::Vacant(vacant) = origins.entry(span.origin)
            && let Some(body) = statement.query_row([span.origin], |row| json(row, 0)).optional()?
        {
            vacant.insert(body);
        }
    }
    Ok(Spans { summary: summary.count(&spans), spans, origins })
}

fn not_json(column: usize) -> impl FnOnce(serde_json::Error) -> rusqlite::Error {
    move |error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

fn json(row: &Row<'_>, column: usize) -> rusqlite::Result<Box<RawValue>> {
    RawValue::from_string(row.get(column)?).map_err(not_json(column))
}

fn optional_json(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Box<RawValue>>> {
    let text: Option<String> = row.get(column)?;
    text.filter(|text| text != "{}").map(RawValue::from_string).transpose().map_err(not_json(column))
}

fn strings(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<String>> {
    let text: String = row.get(column)?;
    let mut strings: Vec<String> = serde_json::from_str(&text).map_err(not_json(column))?;
    strings.sort();
    Ok(strings)
}

/// Where the viewer keeps its spans when nobody says where: `tracebaton/spans.db` in the user's data folder.
pub(crate) fn default_path() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = set("XDG_DATA_HOME").or_else(|| {
        if cfg!(windows) { set("LOCALAPPDATA") } else { std::env::home_dir().map(|home| home.join(".local/share")) }
    })?;
    Some(data.join("tracebaton").join("spans.db"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::span;

    fn batch(spans: Vec<Span>) -> Batch {
        Batch { spans, origins: vec!["{}".to_owned()], session_names: Vec::new(), rejected: 0 }
    }

    #[test]
    fn the_last_delivery_of_a_span_wins() {
        let store = Store::open(Path::new(":memory:")).unwrap();
        let mut open = span("t", "a", "", 1);
        open.session_id = Some("s".into());
        store.add(&batch(vec![open.clone(), span("t", "b", "a", 2)])).unwrap();
        open.name = "ended".into();
        open.error = Some("boom".into());
        store.add(&batch(vec![open])).unwrap();
        let kept = store.session("s").unwrap().unwrap();
        let names: Vec<&str> = kept.spans.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["ended", "span b"]);
        assert_eq!((kept.summary.span_count, kept.summary.error_count), (2, 1));
    }

    #[test]
    fn the_list_and_the_session_count_alike() {
        let store = Store::open(Path::new(":memory:")).unwrap();
        let mut spans = Vec::new();
        for (trace, session) in [("t1", "s1"), ("t2", "s1"), ("t2", "s2"), ("t3", ""), ("t4", "")] {
            for at in 0..3 {
                let mut span = span(trace, &format!("{session}{at}"), "", at);
                // One span of each group names no session, so traces 1 and 2 lend theirs.
                span.session_id = (!session.is_empty() && at != 1).then(|| session.to_owned());
                span.service = Some(format!("service {at}"));
                span.source = (at == 2).then(|| "dev".to_owned());
                span.project = (at == 0).then(|| format!("project of {trace}"));
                span.error = (at == 1).then(String::new);
                spans.push(span);
            }
        }
        store.add(&batch(spans)).unwrap();
        store.start_session("empty", 7, Some("name"), None).unwrap();
        let (sessions, total) = store.sessions(10).unwrap();
        assert_eq!((sessions.len(), total), (5, 5));
        for listed in &sessions {
            let shown = store.session(&listed.session_id).unwrap().unwrap().summary;
            assert_eq!(format!("{listed:?}"), format!("{shown:?}"));
        }
        assert_eq!(sessions.last().map(|session| session.session_id.as_str()), Some("empty"));
        assert_eq!(store.sessions(2).unwrap().0.len(), 2);
        assert_eq!(store.newest().unwrap().as_deref(), Some("trace:t4"));
    }

    #[test]
    fn files_of_others_are_refused_and_left_alone() {
        let folder = tempfile::TempDir::new().unwrap();
        let later = folder.path().join("later.db");
        drop(Store::open(&later).unwrap());
        Connection::open(&later).unwrap().pragma_update(None, "user_version", VERSION + 1).unwrap();
        let foreign = folder.path().join("foreign.db");
        std::fs::write(
            &foreign,
            "text that is longer than the header of a database file is: one hundred bytes, or so it goes on and on",
        )
        .unwrap();
        let before = std::fs::read(&foreign).unwrap();
        for file in [&later, &foreign] {
            assert!(Store::open(file).is_err(), "{file:?}");
            assert!(Store::open_to_read(file).is_err(), "{file:?}");
        }
        assert_eq!(std::fs::read(&foreign).unwrap(), before);
    }

    #[test]
    fn a_reader_and_a_second_writer_see_what_is_written() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("spans.db");
        let (one, two) = (Store::open(&file).unwrap(), Store::open(&file).unwrap());
        let reader = Store::open_to_read(&file).unwrap();
        let before = one.revision().unwrap();
        two.add(&batch(vec![span("t", "a", "", 1)])).unwrap();
        assert_ne!(one.revision().unwrap(), before);
        assert_eq!(reader.newest().unwrap().as_deref(), Some("trace:t"));
    }
}
