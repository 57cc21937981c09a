//! Decides what the worker remembers over its own death, and in which order: one append-only file holds the events that wait for control, the requests that were taken, and which thread of codex is which thread of control.
//!
//! A record counts when the file was synced behind it. What was handed on before that (a request to codex, an event
//! to control) would be forgotten by a crash, so nothing is.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::Notify;

use crate::lines::{damaged, last_line_end, line_at, line_of};

const SCHEMA: &str = "openagents.codex_spool.v1";
const FILE: &str = "log.jsonl";
/// So much of what was acknowledged is kept in the file at least before it is written anew without it.
const LARGE: u64 = 8 * 1024 * 1024;
/// No record is longer: events are cut to what control takes, and only the first line grows with the threads.
const LONGEST_LINE: usize = 256 * 1024 * 1024;

/// A request of control that was taken and has no answer yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub request_id: String,
    pub method: String,
    pub seq: u64,
}

/// Which thread of codex a thread of control is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub thread_id: String,
    pub codex_thread_id: String,
    /// A turn was begun in it. Codex keeps a thread on disk only from then on.
    pub used: bool,
}

/// A turn of codex that has begun and not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTurn {
    pub turn_id: String,
    pub codex_thread_id: String,
    pub request_id: Option<String>,
}

/// An event on its way to control.
#[derive(Debug, Serialize, Deserialize)]
struct Spooled {
    n: u64,
    event_type: String,
    payload: Box<RawValue>,
    /// The request that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answers: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    /// The first line: everything that the records before it came to.
    State(State),
    Event(Spooled),
    Taken(Taken),
    Link(Link),
    TurnBegan(OpenTurn),
    TurnEnded(String),
    /// Events of the feed up to this one have been seen.
    Seen(u64),
    /// Control has the events up to this number.
    Acknowledged(u64),
}

/// Everything that is remembered beside the waiting events.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    schema: String,
    /// The control service that the file was made for.
    pub control: String,
    pub worker_id: String,
    /// Makes the ids of events differ from those of any other file.
    log_id: String,
    /// The number of the next event.
    next: u64,
    acknowledged: u64,
    pub seen: u64,
    pub taken: BTreeMap<String, Taken>,
    pub links: HashMap<String, Link>,
    pub turns: BTreeMap<String, OpenTurn>,
}

impl State {
    fn apply(&mut self, record: Record) {
        match record {
            Record::State(state) => *self = state,
            Record::Event(event) => {
                self.next = event.n + 1;
                if let Some(request_id) = event.answers {
                    self.taken.remove(&request_id);
                }
            }
            Record::Taken(taken) => {
                self.taken.insert(taken.request_id.clone(), taken);
            }
            Record::Link(link) => {
                self.links.insert(link.thread_id.clone(), link);
            }
            Record::TurnBegan(turn) => {
                self.turns.insert(turn.turn_id.clone(), turn);
            }
            Record::TurnEnded(turn_id) => {
                self.turns.remove(&turn_id);
            }
            Record::Seen(seq) => self.seen = seq,
            Record::Acknowledged(n) => self.acknowledged = self.acknowledged.max(n),
        }
    }

    fn event_id(&self, n: u64) -> String {
        format!("{}:{n}", self.log_id)
    }
}

/// The oldest event that control does not have.
pub struct Waiting {
    pub event_id: String,
    pub event_type: String,
    pub payload: Box<RawValue>,
    pub answers: Option<String>,
    n: u64,
    /// Where it ends in the file.
    end: u64,
}

/// The file and what it holds. One process holds it at a time.
pub struct Spool {
    path: PathBuf,
    limit: u64,
    inner: Mutex<Inner>,
    changed: Notify,
    room: Notify,
    _lock: File,
}

struct Inner {
    file: File,
    state: State,
    /// Up to here control has everything.
    acknowledged: u64,
    /// Up to here records are on the disk.
    written: u64,
    /// Records that come next.
    staged: Vec<u8>,
}

impl Spool {
    /// Takes up the file in `directory`, or begins one. `limit` bounds the bytes that wait.
    pub fn open(directory: &Path, control: &str, worker_id: &str, limit: u64) -> io::Result<Self> {
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join("lock"))?;
        lock.try_lock().map_err(|error| match io::Error::from(error) {
            error if error.kind() == ErrorKind::WouldBlock => {
                io::Error::new(ErrorKind::WouldBlock, "another `oa codex-worker` holds it")
            }
            error => error,
        })?;
        let path = directory.join(FILE);
        let inner = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => take_up(file)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let state = State {
                    schema: SCHEMA.to_owned(),
                    control: control.to_owned(),
                    worker_id: worker_id.to_owned(),
                    log_id: format!("cxw-{}", uuid::Uuid::now_v7().simple()),
                    ..State::default()
                };
                let line = line_of(&Record::State(state.clone()))?;
                let file = write_anew(&path, &[&line])?;
                let head = line.len() as u64;
                Inner { file, state, acknowledged: head, written: head, staged: Vec::new() }
            }
            Err(error) => return Err(error),
        };
        if inner.state.worker_id != worker_id {
            return Err(damaged(&format!("it belongs to worker {}", inner.state.worker_id)));
        }
        let (changed, room) = (Notify::new(), Notify::new());
        Ok(Spool { path, limit, inner: Mutex::new(inner), changed, room, _lock: lock })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at what is remembered, staged records included.
    pub fn look<T>(&self, at: impl FnOnce(&State) -> T) -> T {
        at(&self.inner().state)
    }

    /// The id that the next event will have.
    pub fn next_event_id(&self) -> String {
        let inner = self.inner();
        inner.state.event_id(inner.state.next)
    }

    /// Stages an event; `commit` makes it durable.
    pub fn event(
        &self,
        event_type: &str,
        payload: &impl Serialize,
        answers: Option<String>,
    ) -> io::Result<()> {
        let payload = serde_json::value::to_raw_value(payload)?;
        let mut inner = self.inner();
        let n = inner.state.next;
        inner.stage(Record::Event(Spooled { n, event_type: event_type.to_owned(), payload, answers }))
    }

    pub fn take(&self, taken: Taken) -> io::Result<()> {
        self.inner().stage(Record::Taken(taken))
    }

    pub fn link(&self, link: Link) -> io::Result<()> {
        self.inner().stage(Record::Link(link))
    }

    pub fn turn_began(&self, turn: OpenTurn) -> io::Result<()> {
        self.inner().stage(Record::TurnBegan(turn))
    }

    pub fn turn_ended(&self, turn_id: &str) -> io::Result<()> {
        self.inner().stage(Record::TurnEnded(turn_id.to_owned()))
    }

    /// The feed was read up to here. Reading an event twice is harmless, so this waits for the next `commit`.
    pub fn seen(&self, seq: u64) -> io::Result<()> {
        self.inner().stage(Record::Seen(seq))
    }

    /// Makes everything that was staged durable, or leaves it staged.
    pub fn commit(&self) -> io::Result<()> {
        let mut inner = self.inner();
        if inner.staged.is_empty() {
            return Ok(());
        }
        let at = inner.written;
        if let Err(error) = inner.file.write_all_at(&inner.staged, at).and_then(|()| inner.file.sync_data()) {
            let _ = inner.file.set_len(at);
            return Err(error);
        }
        inner.written += inner.staged.len() as u64;
        inner.staged = Vec::new();
        drop(inner);
        self.changed.notify_one();
        Ok(())
    }

    /// The oldest durable event that control does not have.
    pub fn waiting(&self) -> io::Result<Option<Waiting>> {
        let mut inner = self.inner();
        let mut at = inner.acknowledged;
        while at < inner.written {
            let line = line_at(&inner.file, at, inner.written, LONGEST_LINE)?
                .ok_or_else(|| damaged("a line does not end"))?;
            at += line.len() as u64;
            match record_of(&line)? {
                Record::Event(event) if event.n >= inner.state.acknowledged => {
                    return Ok(Some(Waiting {
                        event_id: inner.state.event_id(event.n),
                        event_type: event.event_type,
                        payload: event.payload,
                        answers: event.answers,
                        n: event.n,
                        end: at,
                    }));
                }
                // Everything else was for the memory only, which has it.
                _ => inner.acknowledged = at,
            }
        }
        Ok(None)
    }

    /// Control has this event. That it has is not synced: sending it again is harmless.
    pub fn acknowledge(&self, waiting: &Waiting) -> io::Result<()> {
        let mut inner = self.inner();
        inner.acknowledged = inner.acknowledged.max(waiting.end);
        inner.state.acknowledged = waiting.n + 1;
        let line = line_of(&Record::Acknowledged(waiting.n + 1))?;
        inner.file.write_all_at(&line, inner.written)?;
        inner.written += line.len() as u64;
        let backlog = inner.written - inner.acknowledged;
        let small = backlog < (inner.acknowledged / 2).min(4 * LARGE);
        if inner.acknowledged > LARGE && small && inner.staged.is_empty() {
            self.rewrite(&mut inner)?;
        }
        drop(inner);
        self.room.notify_one();
        Ok(())
    }

    /// Puts a file in place that begins with the state and goes on with what waits.
    fn rewrite(&self, inner: &mut Inner) -> io::Result<()> {
        let length = usize::try_from(inner.written - inner.acknowledged).map_err(io::Error::other)?;
        let mut rest = vec![0; length];
        inner.file.read_exact_at(&mut rest, inner.acknowledged)?;
        let line = line_of(&Record::State(inner.state.clone()))?;
        inner.file = write_anew(&self.path, &[&line, &rest])?;
        inner.acknowledged = line.len() as u64;
        inner.written = inner.acknowledged + length as u64;
        Ok(())
    }

    /// How many bytes wait for control.
    pub fn backlog(&self) -> u64 {
        let inner = self.inner();
        inner.written - inner.acknowledged + inner.staged.len() as u64
    }

    /// How many events wait for control.
    pub fn events_waiting(&self) -> u64 {
        let inner = self.inner();
        inner.state.next - inner.state.acknowledged
    }

    pub fn has_room(&self) -> bool {
        self.backlog() < self.limit
    }

    /// Ends when there is room. Until then codex is not read, and waits as for a slow terminal.
    pub async fn room(&self) {
        while !self.has_room() {
            self.room.notified().await;
        }
    }

    /// Ends when something was committed since it was last asked.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Inner {
    fn stage(&mut self, record: Record) -> io::Result<()> {
        self.staged.extend(line_of(&record)?);
        self.state.apply(record);
        Ok(())
    }
}

fn record_of(line: &[u8]) -> io::Result<Record> {
    serde_json::from_slice(line).map_err(|error| damaged(&format!("a record: {error}")))
}

/// Reads a file that another process left. A last line without its end was never counted.
fn take_up(file: File) -> io::Result<Inner> {
    let end = file.metadata()?.len();
    let written = last_line_end(&file, 0, end)?;
    let (mut state, mut at, mut first_event) = (State::default(), 0, None);
    while let Some(line) = line_at(&file, at, written, LONGEST_LINE)? {
        let record = record_of(&line)?;
        match (&record, at) {
            (Record::State(found), 0) if found.schema == SCHEMA => {}
            (_, 0) => return Err(damaged("it is not a spool of `oa codex-worker`")),
            (Record::Event(event), _) => {
                first_event.get_or_insert((event.n, at));
            }
            _ => {}
        }
        state.apply(record);
        at += line.len() as u64;
    }
    if at == 0 {
        return Err(damaged("it has no first line"));
    }
    file.set_len(written)?;
    let acknowledged = first_event.map_or(written, |(_, at)| at);
    Ok(Inner { file, state, acknowledged, written, staged: Vec::new() })
}

/// Replaces a file as a whole, durably. Its content may be secret, so only the owner reads it.
fn write_anew(path: &Path, parts: &[&[u8]]) -> io::Result<File> {
    let aside = path.with_extension("new");
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    let mut at = 0;
    for part in parts {
        file.write_all_at(part, at)?;
        at += part.len() as u64;
    }
    file.sync_all()?;
    fs::rename(&aside, path)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::data_dir::tests::scratch;

    fn open(directory: &Path) -> Spool {
        Spool::open(directory, "http://127.0.0.1:1", "w", 1_000_000).expect("a spool")
    }

    fn put(spool: &Spool, text: &str) {
        spool.event("worker.event", &json!({"text": text}), None).expect("staged");
        spool.commit().expect("committed");
    }

    fn texts(spool: &Spool) -> Vec<String> {
        std::iter::from_fn(|| {
            let waiting = spool.waiting().expect("read")?;
            spool.acknowledge(&waiting).expect("acknowledged");
            Some(waiting.payload.get().to_owned())
        })
        .collect()
    }

    #[test]
    fn events_leave_in_order_under_ids_that_stay_over_a_restart() {
        let directory = scratch();
        let spool = open(directory.path());
        for text in ["a", "b", "c"] {
            put(&spool, text);
        }
        let first = spool.waiting().expect("read").expect("waits");
        spool.acknowledge(&first).expect("acknowledged");
        let second = spool.waiting().expect("read").expect("waits").event_id;
        drop(spool);
        let spool = open(directory.path());
        assert_eq!(spool.waiting().expect("read").expect("waits").event_id, second);
        assert_eq!(spool.events_waiting(), 2);
        assert_eq!(texts(&spool), [r#"{"text":"b"}"#, r#"{"text":"c"}"#]);
        assert_eq!(spool.events_waiting(), 0);
    }

    #[test]
    fn what_was_not_committed_is_forgotten_and_a_torn_line_too() {
        let directory = scratch();
        let spool = open(directory.path());
        put(&spool, "a");
        spool.event("worker.event", &json!({}), None).expect("staged");
        drop(spool);
        let path = directory.path().join(FILE);
        let mut bytes = fs::read(&path).expect("read");
        bytes.extend_from_slice(b"{\"event\":{\"n\":1,");
        fs::write(&path, bytes).expect("torn");
        let spool = open(directory.path());
        put(&spool, "b");
        assert_eq!(texts(&spool), [r#"{"text":"a"}"#, r#"{"text":"b"}"#]);
    }

    #[test]
    fn a_request_is_open_from_its_taking_to_its_answer_over_restarts() {
        let directory = scratch();
        let spool = open(directory.path());
        let taken = |id: &str| Taken { request_id: id.to_owned(), method: "turn/start".to_owned(), seq: 7 };
        spool.take(taken("r1")).expect("staged");
        spool.take(taken("r2")).expect("staged");
        spool.seen(7).expect("staged");
        spool.commit().expect("committed");
        spool.event("worker.response", &json!({}), Some("r1".to_owned())).expect("staged");
        spool.commit().expect("committed");
        drop(spool);
        let spool = open(directory.path());
        let open: Vec<String> = spool.look(|state| state.taken.keys().cloned().collect());
        assert_eq!((open, spool.look(|state| state.seen)), (vec!["r2".to_owned()], 7));
    }

    #[test]
    fn the_file_is_written_anew_when_most_of_it_was_acknowledged_and_forgets_nothing() {
        let directory = scratch();
        let spool = open(directory.path());
        let link = Link { thread_id: "t".into(), codex_thread_id: "c".into(), used: true };
        spool.link(link.clone()).expect("staged");
        spool.commit().expect("committed");
        let long = "x".repeat(1024 * 1024);
        for _ in 0..12 {
            put(&spool, &long);
        }
        put(&spool, "last");
        for _ in 0..12 {
            let waiting = spool.waiting().expect("read").expect("waits");
            spool.acknowledge(&waiting).expect("acknowledged");
        }
        assert!(fs::metadata(spool.path()).expect("there").len() < 4 * 1024 * 1024);
        drop(spool);
        let spool = open(directory.path());
        assert_eq!(spool.look(|state| state.links.get("t").cloned()), Some(link));
        assert_eq!(texts(&spool), [r#"{"text":"last"}"#]);
        put(&spool, "more");
        assert_eq!(texts(&spool), [r#"{"text":"more"}"#]);
    }

    #[test]
    fn one_process_holds_a_spool_and_no_other_worker_takes_it_up() {
        let directory = scratch();
        let spool = open(directory.path());
        let held = Spool::open(directory.path(), "c", "w", 1).map(drop).expect_err("held");
        assert_eq!(held.kind(), ErrorKind::WouldBlock);
        drop(spool);
        assert!(Spool::open(directory.path(), "c", "another", 1).is_err());
        fs::write(directory.path().join(FILE), "hello\n").expect("written");
        assert!(Spool::open(directory.path(), "c", "w", 1).is_err());
    }

    #[tokio::test]
    async fn a_full_spool_has_room_again_once_control_has_taken_something() {
        let directory = scratch();
        let spool = Spool::open(directory.path(), "c", "w", 100).expect("a spool");
        put(&spool, &"x".repeat(200));
        assert!(!spool.has_room());
        let waiting = spool.waiting().expect("read").expect("waits");
        spool.acknowledge(&waiting).expect("acknowledged");
        spool.room().await;
    }
}
