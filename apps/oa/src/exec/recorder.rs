//! Decides what is recorded of a process: its start, every byte of its output in pieces, and its end, as `tool` events that a receipt can count and prove.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oa_contract::{
    canonical::{canon, hex, sha256_prefixed},
    wire::runs::AppendEvent,
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::spool::Spool;

/// Output is gathered up to so many bytes …
pub const PIECE: usize = 32 * 1024;
/// … or so long.
pub const GATHER: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub const fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// How the process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// As a shell reports it: 128 + signal when a signal ended it.
    pub exit_code: i32,
    pub signal: Option<i32>,
    /// We were told to stop by a signal.
    pub interrupted: bool,
    /// Why it could not be started.
    pub error: Option<String>,
}

impl End {
    /// The status with which the run finishes.
    pub fn status(&self) -> &'static str {
        match (self.interrupted, self.exit_code) {
            (true, _) => "canceled",
            (false, 0) => "succeeded",
            (false, _) => "failed",
        }
    }
}

/// What the recorder has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
    pub duration_ms: u64,
    /// Output that could not be written to the spool.
    pub lost_bytes: u64,
}

/// Turns what a process does into events of its run.
pub struct Recorder {
    spool: Arc<Spool>,
    /// Begins every idempotency key.
    prefix: String,
    next: u64,
    begun: Instant,
    command: Value,
    streams: [Gathered; 2],
    whole: Sha256,
    lost: u64,
}

/// Output of one stream that is not an event yet.
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    since: Option<Instant>,
    /// Where the first of `bytes` stands in the stream.
    offset: u64,
}

impl Recorder {
    pub fn new(spool: Arc<Spool>, prefix: String, command: Value) -> Self {
        Recorder {
            spool,
            prefix,
            next: 0,
            begun: Instant::now(),
            command,
            streams: Default::default(),
            whole: Sha256::new(),
            lost: 0,
        }
    }

    /// The process runs.
    pub fn started(&mut self, pid: Option<u32>) -> io::Result<()> {
        self.begun = Instant::now();
        let mut payload = tool("exec.start", self.command.clone(), &digest_of(b""), 0);
        payload.insert("pid".into(), json!(pid));
        self.put("tool", payload)
    }

    /// The process wrote something.
    pub fn wrote(&mut self, stream: Stream, bytes: &[u8]) {
        let gathered = &mut self.streams[stream as usize];
        gathered.since.get_or_insert_with(Instant::now);
        gathered.bytes.extend_from_slice(bytes);
        while self.streams[stream as usize].bytes.len() >= PIECE {
            let cut = text_boundary(&self.streams[stream as usize].bytes[..PIECE]).unwrap_or(PIECE);
            self.cut(stream, cut);
        }
    }

    /// Makes events of what was gathered long enough ago.
    pub fn tick(&mut self, now: Instant) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let gathered = &self.streams[stream as usize];
            if gathered.since.is_some_and(|since| now.duration_since(since) >= GATHER) {
                // A character that has not come whole waits for its rest.
                let cut = text_boundary(&gathered.bytes).unwrap_or(gathered.bytes.len());
                self.cut(stream, cut);
            }
        }
    }

    /// The process has ended and everything that it wrote was given to `wrote`.
    pub fn ended(&mut self, end: &End, finish: bool) -> io::Result<Seen> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = self.streams[stream as usize].bytes.len();
            self.cut(stream, rest);
        }
        let seen = self.seen();
        let output = format!("sha256:{}", hex(&self.whole.clone().finalize()));
        let mut payload = tool("exec", self.command.clone(), &output, seen.duration_ms);
        payload.insert("exit_code".into(), json!(end.exit_code));
        payload.insert("signal".into(), json!(end.signal));
        payload.insert("stdout_bytes".into(), json!(seen.stdout_bytes));
        payload.insert("stderr_bytes".into(), json!(seen.stderr_bytes));
        if let Some(error) = &end.error {
            payload.insert("error".into(), json!(error));
        }
        if seen.lost_bytes > 0 {
            payload.insert("lost_bytes".into(), json!(seen.lost_bytes));
        }
        self.put("tool", payload)?;
        if finish {
            let mut payload = Map::new();
            payload.insert("status".into(), json!(end.status()));
            self.put("run.finished", payload)?;
        }
        Ok(seen)
    }

    pub fn seen(&self) -> Seen {
        let bytes = |stream: Stream| {
            let gathered = &self.streams[stream as usize];
            gathered.offset + gathered.bytes.len() as u64
        };
        Seen {
            stdout_bytes: bytes(Stream::Stdout),
            stderr_bytes: bytes(Stream::Stderr),
            duration_ms: millis(self.begun.elapsed()),
            lost_bytes: self.lost,
        }
    }

    /// Makes one event of the first `length` gathered bytes of a stream.
    fn cut(&mut self, stream: Stream, length: usize) {
        let at_ms = millis(self.begun.elapsed());
        let gathered = &mut self.streams[stream as usize];
        if length == 0 {
            return;
        }
        let rest = gathered.bytes.split_off(length);
        let piece = std::mem::replace(&mut gathered.bytes, rest);
        let offset = gathered.offset;
        gathered.offset += length as u64;
        gathered.since = (!gathered.bytes.is_empty()).then(Instant::now);
        if self.put("tool", output(stream, offset, &piece, at_ms)).is_err() {
            self.lost += length as u64;
        } else {
            self.whole.update(&piece);
        }
    }

    fn put(&mut self, event_type: &str, payload: Map<String, Value>) -> io::Result<()> {
        let event = AppendEvent {
            event_type: event_type.to_owned(),
            payload: Some(serde_json::value::to_raw_value(&payload)?),
            idempotency_key: Some(format!("{}{}", self.prefix, self.next)),
            expected_previous_seq: None,
        };
        self.spool.put(&event)?;
        self.next += 1;
        Ok(())
    }
}

/// An event about a piece of output. Its latency is 0, so that the receipt's sum is the duration of the
/// process; when it was cut is `at_ms`.
fn output(stream: Stream, offset: u64, piece: &[u8], at_ms: u64) -> Map<String, Value> {
    let params = json!({"stream": stream.name(), "offset": offset, "length": piece.len()});
    let mut payload = tool("exec.output", params, &digest_of(piece), 0);
    payload.insert("at_ms".into(), json!(at_ms));
    match std::str::from_utf8(piece) {
        Ok(text) => payload.insert("text".into(), json!(text)),
        Err(_) => payload.insert("base64".into(), json!(STANDARD.encode(piece))),
    };
    payload
}

/// An event about output that somebody else's process wrote.
pub fn output_event(stdout: bool, offset: u64, piece: &[u8], at_ms: u64) -> Value {
    let stream = if stdout { Stream::Stdout } else { Stream::Stderr };
    Value::Object(output(stream, offset, piece, at_ms))
}

/// The members that every `tool` event has (runtime-core §10.1).
fn tool(name: &str, params: Value, output_hash: &str, latency_ms: u64) -> Map<String, Value> {
    let mut payload = Map::new();
    payload.insert("tool".into(), json!(name));
    payload.insert("params_hash".into(), json!(sha256_prefixed(&canon(&params))));
    payload.insert("params".into(), params);
    payload.insert("output_hash".into(), json!(output_hash));
    payload.insert("latency_ms".into(), json!(latency_ms));
    payload.insert("side_effects".into(), json!([]));
    payload
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Where to cut so that no character is torn: only when the bytes are text up to an unfinished last character.
fn text_boundary(bytes: &[u8]) -> Option<usize> {
    let error = std::str::from_utf8(bytes).err()?;
    error.error_len().is_none().then(|| error.valid_up_to())
}

#[cfg(test)]
mod tests {
    use oa_contract::receipt::validate_known_event;

    use super::*;
    use crate::{
        data_dir::tests::{Scratch, scratch},
        exec::spool::Header,
    };

    fn recorder() -> (Recorder, Arc<Spool>, Scratch) {
        let directory = scratch();
        let header = Header::new("http://127.0.0.1:1", None, None, true);
        let spool = Arc::new(Spool::create(&directory.path().join("s"), &header).expect("a spool"));
        (Recorder::new(spool.clone(), "exec:".into(), json!({"argv": ["x"], "cwd": "/"})), spool, directory)
    }

    fn events(spool: &Spool) -> Vec<(String, String, Value)> {
        std::iter::from_fn(|| {
            let waiting = spool.waiting().expect("read")?;
            spool.acknowledge(&waiting).expect("acknowledged");
            let payload = serde_json::from_str(waiting.event.payload.as_deref()?.get()).expect("JSON");
            Some((waiting.event.idempotency_key?, waiting.event.event_type, payload))
        })
        .collect()
    }

    #[test]
    fn a_record_is_a_start_the_output_the_end_and_the_status() {
        let (mut recorder, spool, _directory) = recorder();
        recorder.started(Some(7)).expect("recorded");
        recorder.wrote(Stream::Stdout, b"out");
        recorder.wrote(Stream::Stderr, &[0xff, 0]);
        recorder.ended(&End { exit_code: 3, ..End::default() }, true).expect("recorded");
        let events = events(&spool);
        let keys: Vec<&str> = events.iter().map(|(key, _, _)| key.as_str()).collect();
        assert_eq!(keys, ["exec:0", "exec:1", "exec:2", "exec:3", "exec:4"]);
        assert!(events.iter().all(|(_, kind, payload)| validate_known_event(kind, payload).is_ok()));
        assert_eq!(events[1].2["text"], "out");
        assert_eq!(events[1].2["params"], json!({"stream": "stdout", "offset": 0, "length": 3}));
        assert_eq!(events[2].2["base64"], "/wA=");
        assert_eq!(events[3].2["output_hash"], digest_of(b"out\xff\0"));
        assert_eq!(
            (events[3].2["exit_code"].as_i64(), events[3].2["stdout_bytes"].as_u64()),
            (Some(3), Some(3))
        );
        assert_eq!(events[4].2, json!({"status": "failed"}));
    }

    #[test]
    fn pieces_are_bounded_and_join_to_the_output_without_a_torn_character() {
        let (mut recorder, spool, _directory) = recorder();
        let text = "ä".repeat(PIECE);
        for part in text.as_bytes().chunks(1_001) {
            recorder.wrote(Stream::Stdout, part);
        }
        recorder.wrote(Stream::Stdout, b"!");
        recorder.tick(Instant::now() + GATHER);
        recorder.wrote(Stream::Stdout, &"ö".as_bytes()[..1]);
        recorder.tick(Instant::now() + GATHER);
        recorder.wrote(Stream::Stdout, &"ö".as_bytes()[1..]);
        recorder.ended(&End::default(), false).expect("recorded");
        let pieces: Vec<String> = events(&spool)
            .iter()
            .filter_map(|(_, _, payload)| Some(payload["text"].as_str()?.to_owned()))
            .collect();
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE));
        assert_eq!(pieces.concat(), format!("{text}!ö"));
    }

    #[test]
    fn an_interrupted_process_leaves_a_canceled_run_whatever_its_code() {
        assert_eq!(End { interrupted: true, ..End::default() }.status(), "canceled");
        assert_eq!(End::default().status(), "succeeded");
    }
}
