//! Decides what the proof of a run is when it leaves the house: one file of JSON lines that anybody can
//! check offline, and in which no byte can change unnoticed (docs/receipts.md).

use std::{
    fmt,
    io::{self, Write},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    canonical::{compact, hex},
    chain::ChainHash,
    instant::Timestamp,
    receipt::{Receipt, ReceiptBuilder, ReceiptSignature, strip_signatures},
    transition::{self, Transition},
    wire::runs::{Run, RunEvent, RunStatus},
};

pub const EXPORT_SCHEMA: &str = "openagents.run_export.v1";

/// The first line: the run without its events, and its receipt as served.
#[derive(Serialize, Deserialize)]
struct Header {
    schema: String,
    run: RunHead,
    receipt: Box<RawValue>,
}

#[derive(Serialize, Deserialize)]
struct RunHead {
    id: Uuid,
    worker_id: Option<String>,
    status: RunStatus,
    metadata: Box<RawValue>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// The last line. It is recognised by `END_MARK`, with which no event begins.
#[derive(Serialize, Deserialize)]
struct EndLine {
    end: End,
}

#[derive(Serialize, Deserialize)]
struct End {
    events: u64,
    chain: String,
    sha256: String,
}

const END_MARK: &[u8] = b"{\"end\":";
const EVENT_MARK: &[u8] = b"{\"seq\":";

/// Writes the proof of a run; `receipt` is the v1 receipt as served. Payloads must be one line each, as
/// the store keeps them.
pub fn write_export(run: &Run, receipt: &RawValue, out: &mut impl Write) -> io::Result<()> {
    let head = RunHead {
        id: run.id,
        worker_id: run.worker_id.clone(),
        status: run.status,
        metadata: run.metadata.clone(),
        created_at: run.created_at,
        updated_at: run.updated_at,
    };
    let header = Header { schema: EXPORT_SCHEMA.to_owned(), run: head, receipt: receipt.to_owned() };
    let mut sum = Sha256::new();
    write_line(&header, &mut sum, out)?;
    for event in &run.events {
        write_line(event, &mut sum, out)?;
    }
    let chain = match run.events.last() {
        Some(event) => event.hash.clone(),
        None => ChainHash::genesis(run.id).to_string(),
    };
    let end = End { events: run.events.len() as u64, chain, sha256: hex(&sum.clone().finalize()) };
    write_line(&EndLine { end }, &mut sum, out)
}

fn write_line<T: Serialize>(value: &T, sum: &mut Sha256, out: &mut impl Write) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    if line.contains(&b'\n') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a payload of the run spans several lines"));
    }
    line.push(b'\n');
    sum.update(&line);
    out.write_all(&line)
}

/// What a good proof says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub run_id: Uuid,
    pub status: RunStatus,
    pub events: u64,
    /// The last link of the chain.
    pub chain: String,
    /// The receipt's `canonical_json_sha256`.
    pub receipt_sha256: String,
    pub trajectory_hash: String,
    /// The public key that signed the receipt, if it is signed.
    pub signer: Option<String>,
}

/// The first thing in a file that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The first line.
    Header { why: String },
    /// An event's line. `seq` is the number that is due on this line.
    Event { seq: u64, line: u64, why: String },
    /// The last line, or that there is none.
    End { line: u64, why: String },
    /// A member of the receipt says something else than the events.
    Receipt { field: String, why: String },
    /// A signature of the receipt or of one of its payments.
    Signature { why: String },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Header { why } => write!(f, "the header (line 1) does not fit: {why}"),
            Unfit::Event { seq, line, why } => write!(f, "event {seq} (line {line}) does not fit: {why}"),
            Unfit::End { line, why } => write!(f, "the end line (line {line}) does not fit: {why}"),
            Unfit::Receipt { field, why } => write!(f, "the receipt's {field} does not fit: {why}"),
            Unfit::Signature { why } => write!(f, "the signature does not fit: {why}"),
        }
    }
}

impl std::error::Error for Unfit {}

impl Unfit {
    fn header(why: impl Into<String>) -> Self {
        Unfit::Header { why: why.into() }
    }

    fn receipt(field: impl Into<String>, why: impl Into<String>) -> Self {
        Unfit::Receipt { field: field.into(), why: why.into() }
    }

    fn signature(why: impl Into<String>) -> Self {
        Unfit::Signature { why: why.into() }
    }
}

/// Checks a proof from its bytes alone. With `expected_signer` (hex public key) the receipt must be signed
/// by that key; without, whoever signed it is reported and left to the reader to judge.
pub fn verify_export(text: &[u8], expected_signer: Option<&str>) -> Result<Verified, Unfit> {
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').zip(1u64..);
    let (line, _) = lines.next().ok_or_else(|| Unfit::header("the file is empty"))?;
    let (header, claimed) = read_header(line)?;
    let mut walk = Walk::new(&header.run, line);
    let mut end = None;
    while let Some((line, number)) = lines.next() {
        // A line that begins like no event, and after which no end line comes, is a damaged end line.
        let broken_end =
            || !line.starts_with(EVENT_MARK) && !lines.clone().any(|(line, _)| line.starts_with(END_MARK));
        if line.starts_with(END_MARK) || broken_end() {
            end = Some((line, number));
            break;
        }
        walk.event(line, number)?;
    }
    let (line, number) =
        end.ok_or_else(|| Unfit::End { line: walk.events + 2, why: "it is missing".to_owned() })?;
    let misfit = |why: String| Unfit::End { line: number, why };
    let end = read_strictly::<EndLine>(line).map_err(misfit)?.end;
    if lines.next().is_some() {
        return Err(misfit("something follows it".to_owned()));
    }
    walk.check_end(&end).map_err(misfit)?;
    let sum = hex(&walk.sum.clone().finalize());
    let (rebuilt, status) = walk.finish()?;
    check_receipt(&claimed, &rebuilt)?;
    let signer = check_signatures(&claimed, &rebuilt, expected_signer)?;
    if header.run.status != status {
        let (said, is) = (header.run.status.name(), status.name());
        return Err(Unfit::header(format!("the status is {said:?}, but the events lead to {is:?}")));
    }
    if end.sha256 != sum {
        // Everything that the receipt and the chain cover was found good above.
        return Err(misfit(format!(
            "the bytes before it have SHA-256 {sum}: the header or this line was changed"
        )));
    }
    Ok(Verified {
        run_id: header.run.id,
        status,
        events: end.events,
        chain: end.chain,
        receipt_sha256: rebuilt.canonical_json_sha256,
        trajectory_hash: rebuilt.trajectory_hash,
        signer,
    })
}

/// Parses a line and writes it again: unless that gives the same bytes, the line carries something that
/// the checks would not see (white space, another spelling, an unknown or repeated member).
fn read_strictly<T: DeserializeOwned + Serialize>(line: &[u8]) -> Result<T, String> {
    let body = line.strip_suffix(b"\n").ok_or("the line is cut off: it does not end in a newline")?;
    let value: T = serde_json::from_slice(body).map_err(|error| format!("it does not parse: {error}"))?;
    let again = serde_json::to_vec(&value).map_err(|error| format!("it cannot be written again: {error}"))?;
    if again != body {
        return Err("it is not written as an export writes it".to_owned());
    }
    Ok(value)
}

fn read_header(line: &[u8]) -> Result<(Header, Value), Unfit> {
    let header: Header = read_strictly(line).map_err(Unfit::header)?;
    if header.schema != EXPORT_SCHEMA {
        return Err(Unfit::header(format!("the schema is not {EXPORT_SCHEMA}")));
    }
    let claimed: Value = serde_json::from_str(header.receipt.get())
        .map_err(|error| Unfit::header(format!("the receipt does not parse: {error}")))?;
    // A repeated key would show one reader another receipt than the next.
    if compact(&claimed) != header.receipt.get() {
        return Err(Unfit::header("the receipt is not written as it is served"));
    }
    // The chain hangs on the run's id: without this check a changed id would be blamed on event 1.
    if claimed.get("session_id").and_then(Value::as_str) != Some(header.run.id.to_string().as_str()) {
        return Err(Unfit::header("the run's id is not the receipt's session_id"));
    }
    Ok((header, claimed))
}

/// The state of the walk over the events.
struct Walk {
    events: u64,
    chain: ChainHash,
    sum: Sha256,
    receipt: ReceiptBuilder,
    status: RunStatus,
}

impl Walk {
    fn new(run: &RunHead, header_line: &[u8]) -> Self {
        Walk {
            events: 0,
            chain: ChainHash::genesis(run.id),
            sum: Sha256::new().chain_update(header_line),
            receipt: ReceiptBuilder::new(run.id, &run.metadata, run.created_at),
            status: RunStatus::Created,
        }
    }

    fn event(&mut self, line: &[u8], number: u64) -> Result<(), Unfit> {
        let seq = self.events + 1;
        self.follow(line, seq).map_err(|why| Unfit::Event { seq, line: number, why })
    }

    fn follow(&mut self, line: &[u8], due: u64) -> Result<(), String> {
        let event: RunEvent = read_strictly(line)?;
        if event.seq != due {
            return Err(format!("its seq is {}", event.seq));
        }
        let link = self.chain.next(&event);
        if ChainHash::parse(&event.hash) != Some(link) {
            return Err(format!(
                "its hash is {}, but its content after the event before leads to {link}",
                event.hash
            ));
        }
        self.receipt.push(&event).map_err(|error| error.message)?;
        // An imported log may hold a finish that never took effect; the status then stays.
        if let Ok(Some(asked)) = Transition::of(&event.event_type, &event.payload) {
            self.status = transition::apply(self.status, asked).unwrap_or(self.status);
        }
        self.chain = link;
        self.events = due;
        self.sum.update(line);
        Ok(())
    }

    fn check_end(&self, end: &End) -> Result<(), String> {
        if end.events != self.events {
            return Err(format!("it counts {} events, but there are {}", end.events, self.events));
        }
        if end.chain != self.chain.to_string() {
            return Err(format!("its chain is not {}, the last link", self.chain));
        }
        Ok(())
    }

    fn finish(self) -> Result<(Receipt, RunStatus), Unfit> {
        let receipt = self
            .receipt
            .finish(None)
            .map_err(|fault| Unfit::receipt("canonical_json_sha256", fault.to_string()))?;
        Ok((receipt, self.status))
    }
}

/// Compares what the receipt says with what the events say, member by member. Its own digest comes last:
/// it follows from all the rest, so any other difference is the better name.
fn check_receipt(claimed: &Value, rebuilt: &Receipt) -> Result<(), Unfit> {
    let mut said = claimed.clone();
    let mut is = serde_json::to_value(rebuilt)
        .map_err(|error| Unfit::receipt("text", format!("it cannot be written: {error}")))?;
    strip_signatures(&mut said);
    let digests = (take_digest(&mut said), take_digest(&mut is));
    let misfit = first_difference(&said, &is, "")
        .or_else(|| first_difference(&digests.0, &digests.1, "canonical_json_sha256"));
    match misfit {
        Some((field, why)) => Err(Unfit::receipt(field, why)),
        None => Ok(()),
    }
}

fn take_digest(receipt: &mut Value) -> Value {
    receipt
        .as_object_mut()
        .and_then(|members| members.shift_remove("canonical_json_sha256"))
        .unwrap_or_default()
}

/// The path of the first member in which the two differ, and how.
fn first_difference(said: &Value, is: &Value, path: &str) -> Option<(String, String)> {
    match (said, is) {
        (Value::Object(said), Value::Object(is)) => {
            let path_of = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            let foreign = said.keys().find(|key| !is.contains_key(*key));
            is.iter()
                .find_map(|(key, is)| match said.get(key) {
                    Some(said) => first_difference(said, is, &path_of(key)),
                    None => Some((path_of(key), "it is missing".to_owned())),
                })
                .or_else(|| foreign.map(|key| (path_of(key), "the events give no such member".to_owned())))
        }
        (Value::Array(said), Value::Array(is)) if said.len() == is.len() => {
            let mut pairs = said.iter().zip(is).enumerate();
            pairs.find_map(|(at, (said, is))| first_difference(said, is, &format!("{path}[{at}]")))
        }
        (Value::Array(said), Value::Array(is)) => {
            Some((path.to_owned(), format!("it has {} entries, the events give {}", said.len(), is.len())))
        }
        // Compared as text, because -0.0 and 0.0 are equal numbers with different hashes.
        _ => {
            let (said, is) = (compact(said), compact(is));
            (said != is).then(|| (path.to_owned(), format!("it is {said}, the events give {is}")))
        }
    }
}

/// Checks the signature of the receipt and those of its payments: all by one key, or none at all. The
/// digests that they cover are the rebuilt ones.
fn check_signatures(
    claimed: &Value,
    rebuilt: &Receipt,
    expected_signer: Option<&str>,
) -> Result<Option<String>, Unfit> {
    let signer = signer_of(claimed, &rebuilt.canonical_json_sha256, "the receipt's")?;
    let payments = claimed.get("payments").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (at, (claimed, rebuilt)) in payments.iter().zip(&rebuilt.payments).enumerate() {
        let whose = format!("that of payments[{at}]");
        if signer_of(claimed, &rebuilt.canonical_json_sha256, &whose)? != signer {
            return Err(Unfit::signature(format!("{whose} is not by the receipt's signer")));
        }
    }
    match (expected_signer, &signer) {
        (Some(expected), None) => {
            Err(Unfit::signature(format!("there is none, but {expected} should have signed")))
        }
        (Some(expected), Some(is)) if !expected.eq_ignore_ascii_case(is) => {
            Err(Unfit::signature(format!("it is by {is}, not by {expected}")))
        }
        _ => Ok(signer),
    }
}

/// Who signed the digest; `None` if nobody did.
fn signer_of(claimed: &Value, digest_hex: &str, whose: &str) -> Result<Option<String>, Unfit> {
    let Some(signature) = claimed.get("signature") else { return Ok(None) };
    let signature = ReceiptSignature::deserialize(signature)
        .map_err(|error| Unfit::signature(format!("{whose} does not parse: {error}")))?;
    if !signature.proves(digest_hex) {
        return Err(Unfit::signature(format!("{whose} does not verify over {digest_hex}")));
    }
    Ok(Some(signature.signer_pubkey))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{golden, signer::Signer};

    fn signer() -> Signer {
        Signer::from_secret(&"2a".repeat(32)).expect("a secret")
    }

    fn receipt(run: &Run, signer: Option<&Signer>) -> Box<RawValue> {
        let mut builder = ReceiptBuilder::new(run.id, &run.metadata, run.created_at);
        for event in &run.events {
            builder.push(event).expect("a good event");
        }
        serde_json::value::to_raw_value(&builder.finish(signer).expect("a receipt")).expect("JSON")
    }

    fn export(run: &Run, receipt: &RawValue) -> Vec<u8> {
        let mut out = Vec::new();
        write_export(run, receipt, &mut out).expect("an export");
        out
    }

    fn good() -> Vec<u8> {
        let run = golden::run();
        export(&run, &receipt(&run, Some(&signer())))
    }

    /// Replaces a text, and makes the end line fit again as a forger would.
    fn forge(file: &[u8], from: &str, to: &str) -> Vec<u8> {
        let text = String::from_utf8(file.to_vec()).expect("UTF-8");
        assert!(text.contains(from), "{from} is not in the file");
        let text = text.replacen(from, to, 1);
        let at = text.rfind("{\"end\":").expect("an end line");
        let sum = hex(&Sha256::digest(&text.as_bytes()[..at]));
        let old = at + text[at..].find("\"sha256\":\"").expect("a sum") + 10;
        [&text[..old], &sum, &text[old + 64..]].concat().into_bytes()
    }

    #[test]
    fn an_untouched_export_verifies() {
        let verified = verify_export(&good(), Some(&signer().public_key_hex())).expect("a good proof");
        let run = golden::run();
        assert_eq!((verified.run_id, verified.status, verified.events), (run.id, run.status, 5));
        assert_eq!(Some(&verified.chain), run.events.last().map(|event| &event.hash));
        assert_eq!(
            verified.receipt_sha256,
            "f7704a7bd397b61e55306f02916036df7b2553879739943c39ca0a009ee250c6"
        );
        assert_eq!(
            verified.trajectory_hash,
            "sha256:86d5f49e22fc79bcf35cf771544ce5e5ed42625485ad322e8481589ae88e3268"
        );
        assert_eq!(verified.signer, Some(signer().public_key_hex()));
    }

    #[test]
    fn an_unsigned_export_verifies_unless_a_signer_is_expected() {
        let run = golden::run();
        let file = export(&run, &receipt(&run, None));
        assert_eq!(verify_export(&file, None).expect("a good proof").signer, None);
        let unfit = verify_export(&file, Some(&signer().public_key_hex())).expect_err("unsigned");
        assert!(matches!(unfit, Unfit::Signature { .. }), "{unfit}");
    }

    #[test]
    fn a_run_without_events_can_be_proved() {
        let run = Run { events: Vec::new(), status: RunStatus::Created, ..golden::run() };
        let file = export(&run, &receipt(&run, None));
        let verified = verify_export(&file, None).expect("a good proof");
        assert_eq!(verified.chain, ChainHash::genesis(run.id).to_string());
    }

    #[test]
    fn another_signer_than_the_expected_one_is_named() {
        let unfit = verify_export(&good(), Some(&"ab".repeat(32))).expect_err("another signer");
        assert_eq!(
            unfit.to_string(),
            format!(
                "the signature does not fit: it is by {}, not by {}",
                signer().public_key_hex(),
                "ab".repeat(32)
            )
        );
    }

    /// Every way in which one byte is changed here: bit flips, and the bytes that JSON lines hang on.
    fn changes(byte: u8) -> impl Iterator<Item = u8> {
        let flips = [0x01, 0x20, 0x80].map(|mask| byte ^ mask);
        flips.into_iter().chain(*b"\n ").filter(move |changed| *changed != byte)
    }

    #[test]
    fn every_changed_byte_is_caught_and_blamed_on_its_line() {
        let file = good();
        let mut line = 1;
        for at in 0..file.len() {
            for changed in changes(file[at]) {
                let mut copy = file.clone();
                copy[at] = changed;
                let what =
                    format!("byte {at} (line {line}): {:?} to {:?}", file[at] as char, changed as char);
                let unfit = verify_export(&copy, None).expect_err(&what);
                match (line, &unfit) {
                    (2..=6, Unfit::Event { seq, line: named, .. }) => {
                        assert_eq!((*seq, *named), (line - 1, line))
                    }
                    (2..=6, _) => panic!("{what} is blamed elsewhere: {unfit}"),
                    (_, Unfit::Event { .. }) => panic!("{what} is blamed on an event: {unfit}"),
                    _ => {}
                }
            }
            line += u64::from(file[at] == b'\n');
        }
    }

    #[test]
    fn every_cut_and_every_dropped_byte_is_caught() {
        let file = good();
        for at in 0..file.len() {
            assert!(verify_export(&file[..at], None).is_err(), "cut at {at}");
            let dropped = [&file[..at], &file[at + 1..]].concat();
            assert!(verify_export(&dropped, None).is_err(), "without byte {at}");
        }
        let more = [&file[..], b"\n"].concat();
        assert!(matches!(verify_export(&more, None), Err(Unfit::End { line: 7, .. })));
    }

    #[test]
    fn a_forger_who_mends_the_end_line_is_still_found_by_the_field() {
        let file = good();
        let blame = |from: &str, to: &str| match verify_export(&forge(&file, from, to), None) {
            Err(Unfit::Receipt { field, .. }) => field,
            other => panic!("{from} to {to}: {other:?}"),
        };
        assert_eq!(
            blame("\"tool_latency_ms_total\":42", "\"tool_latency_ms_total\":41"),
            "metrics.tool_latency_ms_total"
        );
        assert_eq!(blame("policy.golden.v1\",\"z\"", "policy.golden.v2\",\"z\""), "policy_bundle_id");
        assert_eq!(blame("f7704a7b", "f7704a7c"), "canonical_json_sha256");
        assert_eq!(blame("547814b9", "547814b8"), "payments[0].canonical_json_sha256");
        assert_eq!(blame("\"first_seq\":1,", "\"first_seq\":1,\"extra\":1,"), "extra");
        assert_eq!(blame("\"first_seq\":1,", ""), "first_seq");
        assert_eq!(blame("\"side_effects\":[\"fs\"]", "\"side_effects\":[]"), "tool_calls[0].side_effects");
        assert_eq!(
            blame("created_at\":\"2026-02-01T00:00:00.250Z", "created_at\":\"2026-02-01T00:00:00.251Z"),
            "created_at"
        );
    }

    #[test]
    fn a_forged_signature_or_status_is_found() {
        let file = good();
        let unfit = verify_export(&forge(&file, "36ce4022", "36ce4023"), None).expect_err("forged");
        assert!(matches!(unfit, Unfit::Signature { .. }), "{unfit}");
        let unfit = verify_export(&forge(&file, "245b0b71", "245b0b72"), None).expect_err("forged");
        assert!(unfit.to_string().contains("that of payments[0]"), "{unfit}");
        let status = "\"status\":\"succeeded\",\"metadata\"";
        let unfit = verify_export(&forge(&file, status, &status.replace("succeeded", "failed")), None);
        let why = "the status is \"failed\", but the events lead to \"succeeded\"".to_owned();
        assert_eq!(unfit, Err(Unfit::Header { why }));
    }

    #[test]
    fn a_dropped_event_is_named_by_the_number_that_is_due() {
        let text = String::from_utf8(good()).expect("UTF-8");
        let kept: Vec<&str> =
            text.split_inclusive('\n').enumerate().filter(|(at, _)| *at != 3).map(|(_, line)| line).collect();
        let unfit = verify_export(kept.concat().as_bytes(), None).expect_err("an event is missing");
        assert_eq!(unfit, Unfit::Event { seq: 3, line: 4, why: "its seq is 4".to_owned() });
        let kept: Vec<&str> =
            text.split_inclusive('\n').enumerate().filter(|(at, _)| *at != 5).map(|(_, line)| line).collect();
        let unfit = verify_export(kept.concat().as_bytes(), None).expect_err("the last event is missing");
        assert!(matches!(unfit, Unfit::End { line: 6, .. }), "{unfit}");
    }

    #[test]
    fn a_payload_of_several_lines_is_not_exported() {
        let mut run = golden::run();
        run.events[0].payload = golden::raw("{\n}");
        let receipt = receipt(&golden::run(), None);
        assert!(write_export(&run, &receipt, &mut Vec::new()).is_err());
    }
}
