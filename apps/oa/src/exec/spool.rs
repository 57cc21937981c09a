//! Decides how recorded events wait for the server: in order, in a file, so that memory stays small and nothing is lost when either side dies.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use oa_contract::wire::runs::{AppendEvent, StartRun};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::lines::{damaged, last_line_end, line_at, line_of};

const SCHEMA: &str = "openagents.exec_spool.v1";
/// A file larger than this is emptied whenever everything in it has been acknowledged.
const LARGE: u64 = 4 * 1024 * 1024;
/// No line is longer: an event carries at most 32 KiB of output.
const LONGEST_LINE: usize = 4 * 1024 * 1024;

/// The first line: where the events go.
#[derive(Debug, Serialize, Deserialize)]
pub struct Header {
    schema: String,
    /// The server that the events were recorded for.
    pub runtime: String,
    /// Absent while the run has not been opened.
    pub run_id: Option<Uuid>,
    /// How to open the run; its key makes every attempt lead to the same run.
    pub start: Option<StartRun>,
    /// Whether the last event ends the run. A recording without it broke off.
    pub finishes: bool,
}

impl Header {
    pub fn new(runtime: &str, run_id: Option<Uuid>, start: Option<StartRun>, finishes: bool) -> Self {
        Header { schema: SCHEMA.to_owned(), runtime: runtime.to_owned(), run_id, start, finishes }
    }
}

/// The queue between a recorder and a sender. Exactly one process holds it.
pub struct Spool {
    path: PathBuf,
    inner: Mutex<Inner>,
    changed: Notify,
}

struct Inner {
    file: File,
    /// Where the events begin.
    head: u64,
    /// Up to here the server has acknowledged.
    acknowledged: u64,
    /// Up to here whole lines stand in the file.
    written: u64,
    /// Nothing will follow.
    closed: bool,
}

/// The oldest event that has not been acknowledged.
pub struct Waiting {
    pub event: AppendEvent,
    length: u64,
}

impl Spool {
    /// Begins an empty queue. Its content may be secret, so only the owner reads it.
    pub fn create(path: &Path, header: &Header) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        file.try_lock()?;
        let line = line_of(header)?;
        file.write_all_at(&line, 0)?;
        let head = line.len() as u64;
        Ok(Spool::over(path, Inner { file, head, acknowledged: head, written: head, closed: false }))
    }

    /// Takes up a queue that another process left. A last line without its end was not recorded whole.
    pub fn open(path: &Path) -> io::Result<(Self, Header)> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        file.try_lock().map_err(|error| {
            let error = io::Error::from(error);
            match error.kind() {
                ErrorKind::WouldBlock => {
                    io::Error::new(ErrorKind::WouldBlock, "an `oa exec` that still runs is sending it")
                }
                _ => error,
            }
        })?;
        let end = file.metadata()?.len();
        let text = line_at(&file, 0, end, LONGEST_LINE)?.ok_or_else(|| damaged("it has no first line"))?;
        let header: Header =
            serde_json::from_slice(&text).map_err(|error| damaged(&format!("its first line: {error}")))?;
        if header.schema != SCHEMA {
            return Err(damaged("it is not a spool of `oa exec`"));
        }
        let head = text.len() as u64;
        let inner =
            Inner { written: last_line_end(&file, head, end)?, file, head, acknowledged: head, closed: true };
        Ok((Spool::over(path, inner), header))
    }

    fn over(path: &Path, inner: Inner) -> Self {
        Spool { path: path.to_owned(), inner: Mutex::new(inner), changed: Notify::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds an event, or leaves the queue as it was.
    pub fn put(&self, event: &AppendEvent) -> io::Result<()> {
        let line = line_of(event)?;
        let mut inner = self.inner();
        let at = inner.written;
        if let Err(error) = inner.file.write_all_at(&line, at) {
            let _ = inner.file.set_len(at);
            return Err(error);
        }
        inner.written += line.len() as u64;
        drop(inner);
        self.changed.notify_one();
        Ok(())
    }

    /// Nothing will be added any more.
    pub fn close(&self) {
        self.inner().closed = true;
        self.changed.notify_one();
    }

    /// The oldest event that waits, or `None` when all are acknowledged.
    pub fn waiting(&self) -> io::Result<Option<Waiting>> {
        let inner = self.inner();
        if inner.acknowledged == inner.written {
            return Ok(None);
        }
        let line = line_at(&inner.file, inner.acknowledged, inner.written, LONGEST_LINE)?
            .ok_or_else(|| damaged("a line does not end"))?;
        let event = serde_json::from_slice(&line).map_err(|error| damaged(&format!("an event: {error}")))?;
        Ok(Some(Waiting { event, length: line.len() as u64 }))
    }

    /// The server has this event.
    pub fn acknowledge(&self, waiting: &Waiting) -> io::Result<()> {
        let mut inner = self.inner();
        inner.acknowledged += waiting.length;
        if !inner.closed && inner.acknowledged == inner.written && inner.written > LARGE {
            inner.file.set_len(inner.head)?;
            inner.written = inner.head;
            inner.acknowledged = inner.head;
        }
        Ok(())
    }

    /// Whether everything was acknowledged and nothing will follow.
    pub fn is_done(&self) -> bool {
        let inner = self.inner();
        inner.closed && inner.acknowledged == inner.written
    }

    /// Ends when something was added, or the queue was closed, since it was last asked.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How many bytes wait.
    pub fn backlog(&self) -> u64 {
        let inner = self.inner();
        inner.written - inner.acknowledged
    }

    /// Keeps what waits, durably.
    pub fn keep(&self) -> io::Result<()> {
        self.inner().file.sync_all()
    }

    pub fn delete(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{data_dir::tests::scratch, lines::STEP};

    fn event(n: usize, padding: usize) -> AppendEvent {
        let payload = serde_json::value::to_raw_value(&"x".repeat(padding)).expect("JSON");
        AppendEvent {
            event_type: "tool".into(),
            payload: Some(payload),
            idempotency_key: Some(format!("exec:{n}")),
            expected_previous_seq: None,
        }
    }

    fn key(spool: &Spool) -> Option<String> {
        let waiting = spool.waiting().expect("read")?;
        spool.acknowledge(&waiting).expect("acknowledged");
        waiting.event.idempotency_key
    }

    fn header() -> Header {
        Header::new("http://127.0.0.1:1", Some(Uuid::nil()), None, true)
    }

    #[test]
    fn events_leave_in_the_order_in_which_they_came() {
        let directory = scratch();
        let spool = Spool::create(&directory.path().join("s"), &header()).expect("a spool");
        for n in 0..3 {
            spool.put(&event(n, n * STEP)).expect("put");
        }
        assert!(!spool.is_done());
        spool.close();
        let keys: Vec<String> = std::iter::from_fn(|| key(&spool)).collect();
        assert_eq!(keys, ["exec:0", "exec:1", "exec:2"]);
        assert!(spool.is_done());
    }

    #[test]
    fn another_process_takes_up_whole_lines_and_only_when_the_first_has_ended() {
        let directory = scratch();
        let path = directory.path().join("s");
        let spool = Spool::create(&path, &header()).expect("a spool");
        spool.put(&event(0, 10)).expect("put");
        spool.put(&event(1, 2 * STEP)).expect("put");
        assert_eq!(Spool::open(&path).map(drop).expect_err("held").kind(), ErrorKind::WouldBlock);
        drop(spool);
        let length = fs::metadata(&path).expect("there").len();
        OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(length - 5)).expect("torn");
        let (spool, header) = Spool::open(&path).expect("taken up");
        assert_eq!(header.run_id, Some(Uuid::nil()));
        assert_eq!(key(&spool).as_deref(), Some("exec:0"));
        assert!(spool.is_done(), "the torn event was never recorded whole");
    }

    #[test]
    fn a_large_file_is_emptied_when_all_of_it_is_acknowledged() {
        let directory = scratch();
        let path = directory.path().join("s");
        let spool = Spool::create(&path, &header()).expect("a spool");
        for n in 0..6 {
            spool.put(&event(n, 1024 * 1024)).expect("put");
        }
        while key(&spool).is_some() {}
        assert!(fs::metadata(&path).expect("there").len() < 1024);
        spool.put(&event(6, 1)).expect("put");
        assert_eq!(key(&spool).as_deref(), Some("exec:6"));
    }

    #[test]
    fn a_file_that_is_no_spool_is_refused() {
        let directory = scratch();
        let path = directory.path().join("s");
        for text in ["", "{}", "{\"schema\":\"x\"}\n", "hello\n"] {
            fs::write(&path, text).expect("written");
            assert!(Spool::open(&path).is_err(), "{text:?}");
        }
    }
}
