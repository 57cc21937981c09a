//! Decides what a run's receipt says and which digests prove it (runtime-core §10.1), from one event at
//! a time: what is kept grows with the receipt's own entries, never with the log.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    canonical::{canonical_digest, compact, hex, prefixed, write_canon, write_string, write_u64},
    instant::Timestamp,
    refusal::Fault,
    signer::{Signer, verify},
    wire::runs::RunEvent,
};

pub const RECEIPT_SCHEMA: &str = "openagents.receipt.v1";
pub const PAYMENT_SCHEMA: &str = "openagents.treasury.payment_receipt.v1";
pub const SIGNATURE_SCHEMA: &str = "openagents.receipt_signature.v1";
pub const SIGNATURE_SCHEME: &str = "secp256k1_schnorr_no_aux_rand";
/// The policy bundle of a run whose metadata names none.
pub const DEFAULT_POLICY_BUNDLE: &str = "runtime.default";

/// The receipt of a run, `openagents.receipt.v1` (§10.1).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    pub schema: String,
    pub session_id: Uuid,
    pub trajectory_hash: String,
    pub policy_bundle_id: String,
    pub canonical_json_sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<ReceiptSignature>,
    /// In the `+00:00` form, which the hash covers.
    pub created_at: String,
    pub event_count: u64,
    pub first_seq: u64,
    pub last_seq: u64,
    pub metrics: Metrics,
    pub tool_calls: Vec<ToolCall>,
    pub verification: Vec<Verification>,
    pub payments: Vec<PaymentReceipt>,
}

/// The sums over a receipt's entries (§10.1). A sum that would not fit stays at the largest number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Metrics {
    pub tool_calls: u64,
    pub tool_latency_ms_total: u64,
    /// Whether every exit code was 0; `null` without any verification.
    pub verification_passed: Option<bool>,
    pub payments_msats_total: u64,
}

/// A `tool` event in the receipt (§10.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCall {
    pub tool: String,
    pub params_hash: String,
    pub output_hash: String,
    pub latency_ms: u64,
    pub side_effects: Vec<String>,
}

/// A `verification` event in the receipt (§10.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verification {
    pub command: String,
    pub exit_code: i32,
    pub cwd: Option<String>,
    pub duration_ms: Option<u64>,
}

/// A `payment` event as a receipt of its own, `openagents.treasury.payment_receipt.v1` (§10.1). Its hash
/// covers the trajectory and so changes with every later event.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PaymentReceipt {
    pub schema: String,
    pub rail: String,
    pub asset_id: String,
    pub amount_msats: u64,
    #[schemars(with = "Value")]
    pub payment_proof: Box<RawValue>,
    pub session_id: Uuid,
    pub trajectory_hash: String,
    pub policy_bundle_id: String,
    pub job_hash: Option<String>,
    pub status: String,
    pub canonical_json_sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<ReceiptSignature>,
}

/// A BIP-340 signature over a receipt's digest, `openagents.receipt_signature.v1` (§10.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiptSignature {
    pub schema: String,
    pub scheme: String,
    pub signer_pubkey: String,
    pub signed_sha256: String,
    pub signature_hex: String,
}

impl ReceiptSignature {
    pub fn new(signer: &Signer, digest: &[u8; 32]) -> Self {
        ReceiptSignature {
            schema: SIGNATURE_SCHEMA.to_owned(),
            scheme: SIGNATURE_SCHEME.to_owned(),
            signer_pubkey: signer.public_key_hex(),
            signed_sha256: hex(digest),
            signature_hex: hex(&signer.sign_digest(digest)),
        }
    }

    /// Whether this is a signature of the kind we make, over that digest, by the key that it names.
    pub fn proves(&self, digest_hex: &str) -> bool {
        self.schema == SIGNATURE_SCHEMA
            && self.scheme == SIGNATURE_SCHEME
            && self.signed_sha256 == digest_hex
            && verify(&self.signer_pubkey, &self.signed_sha256, &self.signature_hex)
    }
}

/// `metadata.policy_bundle_id` if that is a string, else the default (§10.1).
pub fn policy_bundle_id(metadata: &RawValue) -> String {
    let metadata: Value = serde_json::from_str(metadata.get()).unwrap_or_default();
    text(&metadata, "policy_bundle_id").unwrap_or_else(|| DEFAULT_POLICY_BUNDLE.to_owned())
}

/// An event of a type that has a meaning to receipts, but not the members that it must have (§9.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MalformedEvent {
    pub seq: u64,
    /// The sentence of §9.4.
    pub message: String,
}

impl fmt::Display for MalformedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for MalformedEvent {}

/// Says what the receipt would say about this event, so that an append can refuse it early (§23.3).
pub fn validate_known_event(event_type: &str, payload: &Value) -> Result<(), String> {
    Entry::read(event_type, payload).map(drop)
}

/// What an event contributes to the receipt.
enum Entry {
    Tool(ToolCall),
    Verification(Verification),
    Payment(Payment),
    Nothing,
}

/// A payment before the trajectory hash is known.
#[derive(Clone, Debug)]
struct Payment {
    rail: String,
    asset_id: String,
    amount_msats: u64,
    payment_proof: String,
    job_hash: Option<String>,
    status: String,
}

impl Entry {
    fn read(event_type: &str, payload: &Value) -> Result<Self, String> {
        let read: fn(&Map<String, Value>) -> Result<Entry, &'static str> = match event_type {
            "tool" => read_tool,
            "verification" => read_verification,
            "payment" => read_payment,
            _ => return Ok(Entry::Nothing),
        };
        let entry = payload.as_object().ok_or("payload must be object").and_then(read);
        entry.map_err(|what| format!("invalid {event_type} receipt payload: {what}"))
    }
}

fn read_tool(payload: &Map<String, Value>) -> Result<Entry, &'static str> {
    Ok(Entry::Tool(ToolCall {
        tool: member(payload, "tool").ok_or("missing tool")?,
        params_hash: member(payload, "params_hash").ok_or("missing params_hash")?,
        output_hash: member(payload, "output_hash").ok_or("missing output_hash")?,
        latency_ms: payload.get("latency_ms").and_then(Value::as_u64).ok_or("missing latency_ms")?,
        side_effects: strings(payload.get("side_effects")),
    }))
}

fn read_verification(payload: &Map<String, Value>) -> Result<Entry, &'static str> {
    Ok(Entry::Verification(Verification {
        command: member(payload, "command").ok_or("missing command")?,
        exit_code: exit_code(payload.get("exit_code"))?,
        cwd: member(payload, "cwd"),
        duration_ms: payload.get("duration_ms").and_then(Value::as_u64),
    }))
}

fn exit_code(value: Option<&Value>) -> Result<i32, &'static str> {
    let value = value.filter(|value| value.is_i64() || value.is_u64()).ok_or("missing exit_code")?;
    value.as_i64().and_then(|code| i32::try_from(code).ok()).ok_or("exit_code out of range")
}

fn read_payment(payload: &Map<String, Value>) -> Result<Entry, &'static str> {
    Ok(Entry::Payment(Payment {
        rail: member(payload, "rail").ok_or("missing rail")?,
        asset_id: member(payload, "asset_id").ok_or("missing asset_id")?,
        amount_msats: payload.get("amount_msats").and_then(Value::as_u64).ok_or("missing amount_msats")?,
        payment_proof: payload.get("payment_proof").map(compact).ok_or("missing payment_proof")?,
        job_hash: member(payload, "job_hash"),
        status: member(payload, "status").unwrap_or_else(|| "released".to_owned()),
    }))
}

/// A string member; any other type counts as missing.
fn member(object: &Map<String, Value>, name: &str) -> Option<String> {
    object.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.as_object().and_then(|object| member(object, name))
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Parses a stored payload. What the store holds went through `normalise` and always parses.
fn parse_payload(event: &RunEvent) -> Result<Value, MalformedEvent> {
    serde_json::from_str(event.payload.get())
        .map_err(|error| MalformedEvent { seq: event.seq, message: format!("unreadable payload: {error}") })
}

/// Hashes `canon([{seq, event_type, payload, idempotency_key, recorded_at} …])` one event at a time: the
/// `trajectory_hash` of §10.1.
#[derive(Clone, Debug, Default)]
pub struct TrajectoryHasher {
    hasher: Sha256,
    /// One event's text; kept between events for its room.
    line: Vec<u8>,
    begun: bool,
}

impl TrajectoryHasher {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, event: &RunEvent) -> Result<(), MalformedEvent> {
        self.push_parsed(event, &parse_payload(event)?);
        Ok(())
    }

    /// The members in the order of their keys, as `canon` would put them.
    fn push_parsed(&mut self, event: &RunEvent, payload: &Value) {
        let line = &mut self.line;
        line.clear();
        line.extend_from_slice(if self.begun { b",{\"event_type\":" } else { b"[{\"event_type\":" });
        write_string(&event.event_type, line);
        line.extend_from_slice(b",\"idempotency_key\":");
        match &event.idempotency_key {
            Some(key) => write_string(key, line),
            None => line.extend_from_slice(b"null"),
        }
        line.extend_from_slice(b",\"payload\":");
        write_canon(payload, line);
        line.extend_from_slice(b",\"recorded_at\":");
        write_string(&event.recorded_at.offset(), line);
        line.extend_from_slice(b",\"seq\":");
        write_u64(event.seq, line);
        line.push(b'}');
        self.hasher.update(&line);
        self.begun = true;
    }

    pub fn finish(self) -> String {
        let end: &[u8] = if self.begun { b"]" } else { b"[]" };
        prefixed(&self.hasher.chain_update(end).finalize())
    }
}

/// Builds the receipt of a run from its events in ascending `seq`. A copy of a builder goes on on its
/// own, so a service may keep one per run and finish a copy whenever a receipt is asked for.
#[derive(Clone, Debug)]
pub struct ReceiptBuilder {
    session_id: Uuid,
    policy_bundle_id: String,
    created_at: String,
    trajectory: TrajectoryHasher,
    event_count: u64,
    first_seq: u64,
    last_seq: u64,
    metrics: Metrics,
    tool_calls: Vec<ToolCall>,
    verification: Vec<Verification>,
    payments: Vec<Payment>,
}

impl ReceiptBuilder {
    pub fn new(run_id: Uuid, metadata: &RawValue, created_at: Timestamp) -> Self {
        ReceiptBuilder {
            session_id: run_id,
            policy_bundle_id: policy_bundle_id(metadata),
            created_at: created_at.offset(),
            trajectory: TrajectoryHasher::new(),
            event_count: 0,
            first_seq: 0,
            last_seq: 0,
            metrics: Metrics::default(),
            tool_calls: Vec::new(),
            verification: Vec::new(),
            payments: Vec::new(),
        }
    }

    /// Adds the next event. After an error the builder is as it was before.
    pub fn push(&mut self, event: &RunEvent) -> Result<(), MalformedEvent> {
        let payload = parse_payload(event)?;
        let entry = Entry::read(&event.event_type, &payload)
            .map_err(|message| MalformedEvent { seq: event.seq, message })?;
        if let Entry::Payment(payment) = &entry
            && self.metrics.payments_msats_total.checked_add(payment.amount_msats).is_none()
        {
            let message = "invalid payment receipt payload: amount_msats overflows the total".to_owned();
            return Err(MalformedEvent { seq: event.seq, message });
        }
        self.trajectory.push_parsed(event, &payload);
        if self.event_count == 0 {
            self.first_seq = event.seq;
        }
        self.last_seq = event.seq;
        self.event_count += 1;
        self.add(entry);
        Ok(())
    }

    fn add(&mut self, entry: Entry) {
        let metrics = &mut self.metrics;
        match entry {
            Entry::Tool(call) => {
                metrics.tool_calls += 1;
                metrics.tool_latency_ms_total = metrics.tool_latency_ms_total.saturating_add(call.latency_ms);
                self.tool_calls.push(call);
            }
            Entry::Verification(entry) => {
                let before = metrics.verification_passed.unwrap_or(true);
                metrics.verification_passed = Some(before && entry.exit_code == 0);
                self.verification.push(entry);
            }
            Entry::Payment(payment) => {
                metrics.payments_msats_total =
                    metrics.payments_msats_total.saturating_add(payment.amount_msats);
                self.payments.push(payment);
            }
            Entry::Nothing => {}
        }
    }

    /// The receipt over all events so far, signed if there is a signer.
    pub fn finish(self, signer: Option<&Signer>) -> Result<Receipt, Fault> {
        let trajectory_hash = self.trajectory.finish();
        let mut payments = Vec::with_capacity(self.payments.len());
        for payment in self.payments {
            let mut receipt = payment.receipt(self.session_id, &trajectory_hash, &self.policy_bundle_id)?;
            let digest = preimage_digest(&receipt)?;
            receipt.canonical_json_sha256 = hex(&digest);
            receipt.signature = signer.map(|signer| ReceiptSignature::new(signer, &digest));
            payments.push(receipt);
        }
        let mut receipt = Receipt {
            schema: RECEIPT_SCHEMA.to_owned(),
            session_id: self.session_id,
            trajectory_hash,
            policy_bundle_id: self.policy_bundle_id,
            canonical_json_sha256: String::new(),
            signature: None,
            created_at: self.created_at,
            event_count: self.event_count,
            first_seq: self.first_seq,
            last_seq: self.last_seq,
            metrics: self.metrics,
            tool_calls: self.tool_calls,
            verification: self.verification,
            payments,
        };
        let digest = preimage_digest(&receipt)?;
        receipt.canonical_json_sha256 = hex(&digest);
        receipt.signature = signer.map(|signer| ReceiptSignature::new(signer, &digest));
        Ok(receipt)
    }
}

impl Payment {
    fn receipt(
        self,
        session_id: Uuid,
        trajectory_hash: &str,
        policy_bundle_id: &str,
    ) -> Result<PaymentReceipt, Fault> {
        let payment_proof = RawValue::from_string(self.payment_proof)
            .map_err(|error| Fault::new("writing a payment proof", error))?;
        Ok(PaymentReceipt {
            schema: PAYMENT_SCHEMA.to_owned(),
            rail: self.rail,
            asset_id: self.asset_id,
            amount_msats: self.amount_msats,
            payment_proof,
            session_id,
            trajectory_hash: trajectory_hash.to_owned(),
            policy_bundle_id: policy_bundle_id.to_owned(),
            job_hash: self.job_hash,
            status: self.status,
            canonical_json_sha256: String::new(),
            signature: None,
        })
    }
}

/// The digest of a receipt or payment receipt without its own digest and signatures (§10.1).
fn preimage_digest<T: Serialize>(receipt: &T) -> Result<[u8; 32], Fault> {
    let mut value =
        serde_json::to_value(receipt).map_err(|error| Fault::new("writing a receipt for its hash", error))?;
    strip_signatures(&mut value);
    if let Some(members) = value.as_object_mut() {
        members.shift_remove("canonical_json_sha256");
    }
    Ok(canonical_digest(&value))
}

/// Takes the signatures of a receipt and of its payments out; a payment proof keeps its members.
pub(crate) fn strip_signatures(receipt: &mut Value) {
    let Some(members) = receipt.as_object_mut() else { return };
    members.shift_remove("signature");
    for payment in members.get_mut("payments").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(members) = payment.as_object_mut() {
            members.shift_remove("signature");
        }
    }
}

/// Which signatures are good enough: the "contract-critical receipt check" of §9.4.
#[derive(Clone, Debug, Default)]
pub struct VerifierPolicy {
    /// Refuse a receipt without a signature (`RUNTIME_VERIFIER_STRICT`).
    pub strict: bool,
    /// If not empty, the only public keys that may sign, lower-case hex.
    pub active_signers: Vec<String>,
}

impl VerifierPolicy {
    /// Checks a receipt and each of its payments; the error is the sentence of §9.4.
    pub fn check(&self, receipt: &Receipt) -> Result<(), &'static str> {
        if self.strict && receipt.signature.is_none() {
            return Err("receipt signer missing (RUNTIME_VERIFIER_STRICT=true)");
        }
        if let Some(signature) = &receipt.signature {
            if !self.knows(signature) {
                return Err("receipt signer pubkey is not in active key graph");
            }
            if !signature.proves(&receipt.canonical_json_sha256) {
                return Err("receipt signature verification failed");
            }
        }
        receipt.payments.iter().try_for_each(|payment| self.check_payment(payment))
    }

    /// Whether receipts that this key signs will be believed; asked before anything is done that will need one.
    pub fn check_signer(&self, signer: Option<&Signer>) -> Result<(), &'static str> {
        match signer {
            None if self.strict => Err("receipt signer missing (RUNTIME_VERIFIER_STRICT=true)"),
            Some(signer)
                if !self.active_signers.is_empty()
                    && !self.active_signers.contains(&signer.public_key_hex()) =>
            {
                Err("receipt signer pubkey is not in active key graph")
            }
            _ => Ok(()),
        }
    }

    fn check_payment(&self, payment: &PaymentReceipt) -> Result<(), &'static str> {
        let Some(signature) = &payment.signature else { return Ok(()) };
        if !self.knows(signature) {
            return Err("payment receipt signer pubkey is not in active key graph");
        }
        if !signature.proves(&payment.canonical_json_sha256) {
            return Err("payment receipt signature verification failed");
        }
        Ok(())
    }

    fn knows(&self, signature: &ReceiptSignature) -> bool {
        self.active_signers.is_empty() || self.active_signers.contains(&signature.signer_pubkey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        canonical::{canon, sha256_prefixed},
        golden,
    };
    use serde_json::json;

    fn build(signer: Option<&Signer>) -> Receipt {
        let run = golden::run();
        let mut builder = ReceiptBuilder::new(run.id, &run.metadata, run.created_at);
        for event in &run.events {
            builder.push(event).expect("a good event");
        }
        builder.finish(signer).expect("a receipt")
    }

    fn signer() -> Signer {
        Signer::from_secret(&"2a".repeat(32)).expect("a secret")
    }

    #[test]
    fn the_golden_run_has_the_golden_hashes_and_signatures() {
        let receipt = build(Some(&signer()));
        assert_eq!(
            receipt.trajectory_hash,
            "sha256:86d5f49e22fc79bcf35cf771544ce5e5ed42625485ad322e8481589ae88e3268"
        );
        assert_eq!(
            receipt.payments[0].canonical_json_sha256,
            "547814b974ec442726649ee71e43130c08d12005bedb60f8c05280238293ed3c"
        );
        assert_eq!(
            receipt.canonical_json_sha256,
            "f7704a7bd397b61e55306f02916036df7b2553879739943c39ca0a009ee250c6"
        );
        let signature = receipt.signature.expect("a signature");
        assert_eq!(
            signature.signer_pubkey,
            "5be5e9478209674a96e60f1f037f6176540fd001fa1d64694770c56a7709c42c"
        );
        assert_eq!(
            signature.signature_hex,
            "36ce4022c9e5e1e3ff1a8e40469dc2a199e169bb572c55036ca5ec7ec1f49fd327a3162aedad30bf01033c80942b6a6f6ad92fea39885ab60fb82032020300de"
        );
        assert_eq!(
            receipt.payments[0].signature.as_ref().map(|signature| signature.signature_hex.as_str()),
            Some(
                "245b0b7139dae99f32ff776363949bfcd3352ffab95acfeb56b4bfd93a206210a357307930d23938ca12e1ad1a52db52f95ddb591479e95fbb31b6e498275904"
            )
        );
    }

    #[test]
    fn the_wire_has_the_specified_order_and_writes_nulls_but_no_absent_signature() {
        let text = serde_json::to_string(&build(None)).expect("JSON");
        let want = r#"{"schema":"openagents.receipt.v1","session_id":"01951d2a-6c15-7c9f-99c2-cf8ad72a23f0","trajectory_hash":"sha256:86d5f49e22fc79bcf35cf771544ce5e5ed42625485ad322e8481589ae88e3268","policy_bundle_id":"policy.golden.v1","canonical_json_sha256":"f7704a7bd397b61e55306f02916036df7b2553879739943c39ca0a009ee250c6","created_at":"2026-02-01T00:00:00.250+00:00","event_count":5,"first_seq":1,"last_seq":5,"metrics":{"tool_calls":1,"tool_latency_ms_total":42,"verification_passed":true,"payments_msats_total":1500},"tool_calls":[{"tool":"shell","params_hash":"sha256:aa","output_hash":"sha256:bb","latency_ms":42,"side_effects":["fs"]}],"verification":[{"command":"cargo test","exit_code":0,"cwd":"/workspace","duration_ms":900}],"payments":[{"schema":"openagents.treasury.payment_receipt.v1","rail":"lightning","asset_id":"BTC_LN","amount_msats":1500,"payment_proof":{"type":"internal_ledger","reservation_id":"rsv_1","provider_id":"prov-1"},"session_id":"01951d2a-6c15-7c9f-99c2-cf8ad72a23f0","trajectory_hash":"sha256:86d5f49e22fc79bcf35cf771544ce5e5ed42625485ad322e8481589ae88e3268","policy_bundle_id":"policy.golden.v1","job_hash":"job1","status":"released","canonical_json_sha256":"547814b974ec442726649ee71e43130c08d12005bedb60f8c05280238293ed3c"}]}"#;
        assert_eq!(text, want);
    }

    #[test]
    fn an_empty_run_has_a_receipt_of_zeros_and_nulls() {
        let run = golden::run();
        let receipt = ReceiptBuilder::new(run.id, &golden::raw("null"), run.created_at)
            .finish(None)
            .expect("a receipt");
        assert_eq!(receipt.policy_bundle_id, "runtime.default");
        assert_eq!((receipt.event_count, receipt.first_seq, receipt.last_seq), (0, 0, 0));
        assert_eq!(receipt.trajectory_hash, sha256_prefixed("[]"));
        let metrics = serde_json::to_string(&receipt.metrics).expect("JSON");
        assert_eq!(
            metrics,
            r#"{"tool_calls":0,"tool_latency_ms_total":0,"verification_passed":null,"payments_msats_total":0}"#
        );
    }

    #[test]
    fn the_streamed_trajectory_hash_is_the_one_over_the_whole_array() {
        let run = golden::run();
        let mut hasher = TrajectoryHasher::new();
        let mut whole = Vec::new();
        for event in &run.events {
            hasher.push(event).expect("a good event");
            let payload: Value = serde_json::from_str(event.payload.get()).expect("JSON");
            whole.push(json!({
                "seq": event.seq, "event_type": event.event_type, "payload": payload,
                "idempotency_key": event.idempotency_key, "recorded_at": event.recorded_at.offset(),
            }));
        }
        assert_eq!(hasher.finish(), sha256_prefixed(&canon(&Value::Array(whole))));
    }

    #[test]
    fn a_malformed_event_is_named_with_the_specified_sentence() {
        let tool = json!({"tool": "t", "params_hash": "p", "output_hash": "o", "latency_ms": 1});
        let verification = json!({"command": "c", "exit_code": 0});
        let payment = json!({"rail": "r", "asset_id": "a", "amount_msats": 1, "payment_proof": null});
        for (event_type, good) in [("tool", tool), ("verification", verification), ("payment", payment)] {
            let say = |what: &str| Err(format!("invalid {event_type} receipt payload: {what}"));
            assert_eq!(validate_known_event(event_type, &good), Ok(()));
            assert_eq!(validate_known_event(event_type, &json!([])), say("payload must be object"));
            for name in good.as_object().expect("an object").keys() {
                let mut bad = good.clone();
                bad.as_object_mut().expect("an object").remove(name);
                assert_eq!(validate_known_event(event_type, &bad), say(&format!("missing {name}")));
                // Another type counts as missing; only the proof may be anything.
                bad[name] = json!(-1.5);
                let want = if name == "payment_proof" { Ok(()) } else { say(&format!("missing {name}")) };
                assert_eq!(validate_known_event(event_type, &bad), want);
            }
        }
        let far = json!({"command": "c", "exit_code": 2147483648u64});
        assert_eq!(
            validate_known_event("verification", &far),
            Err("invalid verification receipt payload: exit_code out of range".to_owned())
        );
        assert_eq!(validate_known_event("run.step", &Value::Null), Ok(()));
    }

    #[test]
    fn a_malformed_event_leaves_the_builder_as_it_was() {
        let run = golden::run();
        let mut builder = ReceiptBuilder::new(run.id, &run.metadata, run.created_at);
        for event in &run.events {
            let error = builder.push(&golden::event(9, "tool", "{}")).expect_err("malformed");
            assert_eq!(
                (error.seq, error.to_string().as_str()),
                (9, "invalid tool receipt payload: missing tool")
            );
            builder.push(event).expect("a good event");
        }
        let receipt = builder.finish(None).expect("a receipt");
        assert_eq!(receipt.canonical_json_sha256, build(None).canonical_json_sha256);
    }

    #[test]
    fn optional_members_of_another_type_count_as_absent() {
        let run = golden::run();
        let mut builder = ReceiptBuilder::new(run.id, &run.metadata, run.created_at);
        for (event_type, payload) in [
            (
                "tool",
                r#"{"tool":"t","params_hash":"p","output_hash":"o","latency_ms":18446744073709551615,"side_effects":["a",1,null,"b"]}"#,
            ),
            ("tool", r#"{"tool":"t","params_hash":"p","output_hash":"o","latency_ms":1,"side_effects":"a"}"#),
            ("verification", r#"{"command":"c","exit_code":-1,"cwd":1,"duration_ms":-1}"#),
            ("verification", r#"{"command":"c","exit_code":0}"#),
            (
                "payment",
                r#"{"rail":"r","asset_id":"a","amount_msats":1,"payment_proof":{"z":1e16,"a":1.0},"job_hash":1}"#,
            ),
        ] {
            builder.push(&golden::event(1, event_type, payload)).expect("a good event");
        }
        let receipt = builder.finish(None).expect("a receipt");
        assert_eq!(receipt.tool_calls[0].side_effects, ["a", "b"]);
        assert!(receipt.tool_calls[1].side_effects.is_empty());
        assert_eq!(receipt.metrics.tool_latency_ms_total, u64::MAX);
        assert_eq!(receipt.metrics.verification_passed, Some(false));
        assert_eq!((&receipt.verification[0].cwd, receipt.verification[0].duration_ms), (&None, None));
        let payment = &receipt.payments[0];
        assert_eq!((payment.job_hash.as_deref(), payment.status.as_str()), (None, "released"));
        assert_eq!(payment.payment_proof.get(), r#"{"z":1e+16,"a":1.0}"#);
    }

    #[test]
    fn a_signed_receipt_passes_the_verifier_and_a_changed_one_does_not() {
        let policy = VerifierPolicy { strict: true, active_signers: vec![signer().public_key_hex()] };
        let good = build(Some(&signer()));
        assert_eq!(policy.check(&good), Ok(()));
        let mut changed = good.clone();
        changed.canonical_json_sha256 = "00".repeat(32);
        assert_eq!(policy.check(&changed), Err("receipt signature verification failed"));
        let mut changed = good.clone();
        changed.payments[0].canonical_json_sha256 = "00".repeat(32);
        assert_eq!(policy.check(&changed), Err("payment receipt signature verification failed"));
        let others = VerifierPolicy { strict: false, active_signers: vec!["00".repeat(32)] };
        assert_eq!(others.check(&good), Err("receipt signer pubkey is not in active key graph"));
    }

    #[test]
    fn only_a_strict_verifier_asks_for_a_signature() {
        let unsigned = build(None);
        assert_eq!(VerifierPolicy::default().check(&unsigned), Ok(()));
        let strict = VerifierPolicy { strict: true, ..Default::default() };
        assert_eq!(strict.check(&unsigned), Err("receipt signer missing (RUNTIME_VERIFIER_STRICT=true)"));
        assert_eq!(strict.check_signer(None), Err("receipt signer missing (RUNTIME_VERIFIER_STRICT=true)"));
        assert_eq!(strict.check_signer(Some(&signer())), Ok(()));
    }

    #[test]
    fn a_receipt_is_read_back_from_its_own_text() {
        let text = serde_json::to_string(&build(Some(&signer()))).expect("JSON");
        let back: Receipt = serde_json::from_str(&text).expect("a receipt");
        assert_eq!(serde_json::to_string(&back).expect("JSON"), text);
    }
}
