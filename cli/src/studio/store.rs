//! Jobs, workers, registrations and logs in SQLite.
//!
//! Write-ahead log with `synchronous = FULL`: a commit is on the disk when it returns, also when the power goes,
//! which `NORMAL` does not promise in this mode. What was acknowledged to a worker is gone from it, so that
//! promise is what a studio is for.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, params, params_from_iter, types::Value};
use studio_worker_core::{
    studio::{JobOutput, JobRecord, JobState, Record, RegistrationRecord, WorkerRecord},
    wire::{JobId, LogEntry, LogLevel, TaskKind},
};

use super::data::private;

/// Each script brings the schema from the version that is its index to the next.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE jobs (
        id        TEXT PRIMARY KEY,
        place     INTEGER NOT NULL,
        state     TEXT NOT NULL,
        kind      TEXT NOT NULL,
        worker_id TEXT,
        file      TEXT,             -- of a result that was uploaded, in the directory `results`
        record    TEXT NOT NULL,    -- JSON, without `result`
        result    TEXT              -- of a result that came in a frame, JSON
    ) STRICT;
    CREATE INDEX jobs_by_place ON jobs (place);
    CREATE INDEX jobs_by_state ON jobs (state, place);
    CREATE INDEX jobs_by_file ON jobs (file) WHERE file IS NOT NULL;
    CREATE TABLE workers (
        id     TEXT PRIMARY KEY,
        record TEXT NOT NULL
    ) STRICT;
    CREATE TABLE registrations (
        request_id TEXT PRIMARY KEY,
        place      INTEGER NOT NULL,
        status     TEXT NOT NULL,
        record     TEXT NOT NULL
    ) STRICT;
    CREATE INDEX registrations_by_status ON registrations (status, place);
    CREATE TABLE logs (
        id        INTEGER PRIMARY KEY AUTOINCREMENT,
        worker_id TEXT NOT NULL,
        job_id    TEXT,
        ts        TEXT NOT NULL,
        level     TEXT NOT NULL,
        category  TEXT NOT NULL,
        message   TEXT NOT NULL
    ) STRICT;
    CREATE INDEX logs_by_worker ON logs (worker_id, id);
"];

/// How many log lines are kept.
const LOG_LINES: i64 = 100_000;

/// Why a database can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It could not be opened, made or migrated.
    #[error("the database {} can't be used: {source}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A newer program made it.
    #[error("the database {} has schema {found}, and this program knows {}: use the newer program", .path.display(), MIGRATIONS.len())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: usize,
    },
}

/// The open database.
pub(crate) struct Store(Connection);

/// What is written in one transaction.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) records: Vec<Record>,
    pub(crate) logs: Vec<(String, Vec<LogEntry>)>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.logs.is_empty()
    }
}

/// Which jobs to list.
#[derive(Debug, Default)]
pub(crate) struct JobFilter {
    pub(crate) state: Option<JobState>,
    pub(crate) kind: Option<TaskKind>,
    /// Only those before this place.
    pub(crate) before: Option<u64>,
    pub(crate) limit: u32,
}

/// Which log lines to list.
#[derive(Debug, Default)]
pub(crate) struct LogFilter {
    pub(crate) worker: Option<String>,
    pub(crate) job: Option<String>,
    /// Only those after this line; without it, the newest.
    pub(crate) since: Option<i64>,
    pub(crate) limit: u32,
}

/// A log line and its id.
pub(crate) struct LogRow {
    pub(crate) id: i64,
    pub(crate) worker_id: String,
    pub(crate) job_id: Option<String>,
    pub(crate) ts: String,
    pub(crate) level: String,
    pub(crate) category: String,
    pub(crate) message: String,
}

impl Store {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open { path: path.to_owned(), source };
        // The database and the files that SQLite puts beside it are for nobody else to read. What can't be opened
        // here says so below.
        drop(private(std::fs::OpenOptions::new().write(true).create(true)).open(path));
        let mut connection = Connection::open(path).map_err(failed)?;
        // Somebody may look at the database with a tool of their own.
        connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(failed)?;
        let found =
            connection.query_row("PRAGMA user_version", (), |row| row.get::<_, i64>(0)).map_err(failed)?;
        let found = usize::try_from(found).unwrap_or(usize::MAX);
        if found > MIGRATIONS.len() {
            return Err(StoreError::Newer { path: path.to_owned(), found });
        }
        connection
            .query_row("PRAGMA journal_mode = WAL", (), |_| Ok(()))
            .and_then(|()| connection.pragma_update(None, "synchronous", "FULL"))
            .map_err(failed)?;
        for (version, script) in MIGRATIONS.iter().enumerate().skip(found) {
            migrate(&mut connection, version + 1, script).map_err(failed)?;
        }
        Ok(Self(connection))
    }

    /// Writes all of `batch`, or nothing. When it returns, it is durable.
    pub(crate) fn commit(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        let transaction = self.0.transaction()?;
        for record in &batch.records {
            save(&transaction, record)?;
        }
        for (worker_id, entries) in &batch.logs {
            log(&transaction, worker_id, entries)?;
        }
        if !batch.logs.is_empty() {
            transaction.execute(
                "DELETE FROM logs WHERE id <= (SELECT max(id) FROM logs) - ?1",
                params![LOG_LINES],
            )?;
        }
        transaction.commit()
    }

    /// Everything that a studio is restored from: what is not over, and the last job and registration whatever
    /// became of them, since places are counted on from theirs.
    pub(crate) fn snapshot(&self) -> rusqlite::Result<Vec<Record>> {
        let mut records = Vec::new();
        for sql in [
            "SELECT record FROM jobs WHERE state NOT IN ('completed', 'failed', 'cancelled')",
            "SELECT record FROM jobs WHERE place = (SELECT max(place) FROM jobs)
                 AND state IN ('completed', 'failed', 'cancelled')",
            "SELECT record FROM workers",
            "SELECT record FROM registrations WHERE status <> 'expired'",
            "SELECT record FROM registrations WHERE place = (SELECT max(place) FROM registrations)
                 AND status = 'expired'",
        ] {
            let mut statement = self.0.prepare(sql)?;
            for record in statement.query_map((), |row| json(row, 0))? {
                records.push(record?);
            }
        }
        Ok(records)
    }

    pub(crate) fn job(&self, id: &str) -> rusqlite::Result<Option<JobRecord>> {
        self.0
            .query_row("SELECT record FROM jobs WHERE id = ?1", [id], |row| json(row, 0))
            .optional()
            .map(|record| record.and_then(job_of))
    }

    /// The result of a job whose result came in a frame, as JSON.
    pub(crate) fn json_result(&self, id: &str) -> rusqlite::Result<Option<String>> {
        self.0
            .query_row("SELECT result FROM jobs WHERE id = ?1", [id], |row| row.get(0))
            .optional()
            .map(Option::flatten)
    }

    /// Whether a job's result is in this file.
    pub(crate) fn has_file(&self, file: &str) -> rusqlite::Result<bool> {
        self.0.query_row("SELECT EXISTS (SELECT 1 FROM jobs WHERE file = ?1)", [file], |row| row.get(0))
    }

    /// Jobs, the newest first.
    pub(crate) fn jobs(&self, filter: &JobFilter) -> rusqlite::Result<Vec<JobRecord>> {
        let mut sql = String::from("SELECT record FROM jobs WHERE true");
        let mut values = Vec::new();
        let mut narrow = |condition: &str, value: Value| {
            sql.push_str(condition);
            values.push(value);
        };
        if let Some(state) = filter.state {
            narrow(" AND state = ?", Value::from(state.name().to_owned()));
        }
        if let Some(kind) = filter.kind {
            narrow(" AND kind = ?", Value::from(kind.name().to_owned()));
        }
        if let Some(before) = filter.before {
            narrow(" AND place < ?", Value::from(signed(before)));
        }
        narrow(" ORDER BY place DESC LIMIT ?", Value::from(i64::from(filter.limit)));
        let mut statement = self.0.prepare(&sql)?;
        let rows = statement.query_map(params_from_iter(values), |row| json(row, 0))?;
        rows.filter_map(|row| row.map(job_of).transpose()).collect()
    }

    /// All workers, those that were revoked included.
    pub(crate) fn workers(&self) -> rusqlite::Result<Vec<WorkerRecord>> {
        let mut statement = self.0.prepare("SELECT record FROM workers ORDER BY rowid")?;
        let rows = statement.query_map((), |row| json(row, 0))?;
        rows.filter_map(|row| {
            row.map(|record| match record {
                Record::Worker(worker) => Some(WorkerRecord::clone(&worker)),
                _ => None,
            })
            .transpose()
        })
        .collect()
    }

    /// Registrations, the newest first.
    pub(crate) fn registrations(
        &self,
        status: Option<&str>,
        limit: u32,
    ) -> rusqlite::Result<Vec<RegistrationRecord>> {
        let mut statement = self.0.prepare(
            "SELECT record FROM registrations WHERE ?1 IS NULL OR status = ?1 ORDER BY place DESC LIMIT ?2",
        )?;
        let rows = statement.query_map(params![status, limit], |row| json(row, 0))?;
        rows.filter_map(|row| {
            row.map(|record| match record {
                Record::Registration(registration) => Some(RegistrationRecord::clone(&registration)),
                _ => None,
            })
            .transpose()
        })
        .collect()
    }

    /// Log lines, the oldest first.
    pub(crate) fn logs(&self, filter: &LogFilter) -> rusqlite::Result<Vec<LogRow>> {
        let order = if filter.since.is_some() { "ASC" } else { "DESC" };
        let mut statement = self.0.prepare(&format!(
            "SELECT id, worker_id, job_id, ts, level, category, message FROM logs
             WHERE (?1 IS NULL OR worker_id = ?1) AND (?2 IS NULL OR job_id = ?2) AND id > ?3
             ORDER BY id {order} LIMIT ?4",
        ))?;
        let rows = statement.query_map(
            params![filter.worker, filter.job, filter.since.unwrap_or(0), filter.limit],
            |row| {
                Ok(LogRow {
                    id: row.get(0)?,
                    worker_id: row.get(1)?,
                    job_id: row.get(2)?,
                    ts: row.get(3)?,
                    level: row.get(4)?,
                    category: row.get(5)?,
                    message: row.get(6)?,
                })
            },
        )?;
        let mut lines = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        if filter.since.is_none() {
            lines.reverse();
        }
        Ok(lines)
    }
}

fn migrate(connection: &mut Connection, to: usize, script: &str) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(script)?;
    transaction.pragma_update(None, "user_version", i64::try_from(to).unwrap_or(i64::MAX))?;
    transaction.commit()
}

fn save(transaction: &Transaction<'_>, record: &Record) -> rusqlite::Result<()> {
    match record {
        Record::Job(job) => {
            let (record, result, file) = split(job)?;
            transaction.execute(
                "INSERT INTO jobs (id, place, state, kind, worker_id, file, record, result)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (id) DO UPDATE SET place = ?2, state = ?3, worker_id = ?5, file = ?6, record = ?7,
                     result = ?8",
                params![
                    job.id.as_str(),
                    signed(job.place),
                    job.state.name(),
                    job.task.kind().name(),
                    job.worker_id,
                    file,
                    record,
                    result
                ],
            )
        }
        Record::Worker(worker) => transaction.execute(
            "INSERT INTO workers (id, record) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET record = ?2",
            params![worker.id, text(record)?],
        ),
        Record::Registration(registration) => transaction.execute(
            "INSERT INTO registrations (request_id, place, status, record) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (request_id) DO UPDATE SET place = ?2, status = ?3, record = ?4",
            params![
                registration.request_id,
                signed(registration.place),
                registration.standing.name(),
                text(record)?
            ],
        ),
    }
    .map(drop)
}

/// A job's record without its JSON result, which may be large and is not wanted with every listing; that result;
/// and the name of its file.
fn split(job: &std::sync::Arc<JobRecord>) -> rusqlite::Result<(String, Option<String>, Option<&str>)> {
    match &job.output {
        Some(JobOutput::Json { result, prompt }) => {
            let mut slim = JobRecord::clone(job);
            slim.output =
                Some(JobOutput::Json { result: serde_json::Value::Null.into(), prompt: prompt.clone() });
            Ok((text(&Record::Job(slim.into()))?, Some(result.to_string()), None))
        }
        Some(JobOutput::File { file, .. }) => Ok((text(&Record::Job(job.clone()))?, None, Some(file))),
        None => Ok((text(&Record::Job(job.clone()))?, None, None)),
    }
}

fn log(transaction: &Transaction<'_>, worker_id: &str, entries: &[LogEntry]) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare(
        "INSERT INTO logs (worker_id, job_id, ts, level, category, message) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for entry in entries {
        let level = match entry.level {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
        };
        let job_id = entry.job_id.as_ref().map(JobId::as_str);
        statement.execute(params![worker_id, job_id, entry.ts, level, entry.category, entry.message])?;
    }
    Ok(())
}

fn job_of(record: Record) -> Option<JobRecord> {
    match record {
        Record::Job(job) => Some(std::sync::Arc::unwrap_or_clone(job)),
        _ => None,
    }
}

fn text(record: &Record) -> rusqlite::Result<String> {
    serde_json::to_string(record).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn json(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Record> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into())
    })
}

/// Places count jobs from 0: they never come near the bound.
fn signed(place: u64) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_schema_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("studio.sqlite");
        drop(Store::open(&path).unwrap());
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        drop(connection);
        let error = Store::open(&path).err().unwrap().to_string();
        assert!(error.contains("has schema 99"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_database_is_a_named_error() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("studio.sqlite");
        std::fs::write(&path, "x".repeat(4_096)).unwrap();
        let error = Store::open(&path).err().unwrap().to_string();
        assert!(error.contains("studio.sqlite") && error.contains("not a database"), "{error}");
    }

    #[test]
    fn only_the_newest_log_lines_are_kept() {
        let place = tempfile::tempdir().unwrap();
        let mut store = Store::open(&place.path().join("studio.sqlite")).unwrap();
        let line = |n: usize| LogEntry {
            ts: "2026-11-25T07:00:00.000Z".into(),
            level: LogLevel::Info,
            category: "test".into(),
            message: n.to_string(),
            job_id: None,
        };
        let most = usize::try_from(LOG_LINES).unwrap();
        let batch = |lines: Vec<LogEntry>| Batch { records: Vec::new(), logs: vec![("w".into(), lines)] };
        store.commit(&batch((0..most).map(line).collect())).unwrap();
        store.commit(&batch(vec![line(most), line(most + 1)])).unwrap();
        let count: i64 = store.0.query_row("SELECT count(*) FROM logs", (), |row| row.get(0)).unwrap();
        assert_eq!(count, LOG_LINES);
        let newest = store.logs(&LogFilter { limit: 2, ..LogFilter::default() }).unwrap();
        assert_eq!(newest.iter().map(|row| row.message.as_str()).collect::<Vec<_>>(), ["100000", "100001"]);
    }
}
