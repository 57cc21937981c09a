//! Decides what credit is called and proved by (credit-fx §4 to §6): ids and fingerprints, the issue receipt, the
//! settlement receipt, the default notice, and the label on the agent's reputation.

use oa_contract::{
    Timestamp,
    canonical::{canonical_digest, canonical_hash, hex},
    receipt::ReceiptSignature,
    signer::Signer,
    wire::credit::{
        AskOffer, DeclareIntent, ENVELOPE_REQUEST, Envelope, INTENT_REQUEST, OFFER_REQUEST, Outcome,
        SETTLE_REQUEST, SettleEnvelope,
    },
};
use serde_json::{Map, Number, Value, json};
use sha2::{Digest as _, Sha256};

pub const ISSUE: &str = "openagents.credit.envelope_issue_receipt.v1";
pub const SETTLEMENT: &str = "openagents.credit.envelope_settlement_receipt.v1";
pub const DEFAULT: &str = "openagents.credit.default_notice.v1";

fn sha256_hex(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn id(prefix: &str, digest: &str) -> String {
    format!("{prefix}{}", digest.get(..24).unwrap_or(digest))
}

/// Every number as a float: how clients that went through a protobuf `Struct` have always hashed contexts.
pub fn doubled(value: &Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64().and_then(Number::from_f64) {
            Some(float) => Value::Number(float),
            None => value.clone(),
        },
        Value::Array(items) => Value::Array(items.iter().map(doubled).collect()),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, value)| (name.clone(), doubled(value))).collect())
        }
        _ => value.clone(),
    }
}

/// The key is trimmed.
pub fn intent_id(idempotency_key: &str) -> String {
    id("cepi_", &sha256_hex(idempotency_key))
}

/// Of the normalised request.
pub fn intent_fingerprint(intent: &DeclareIntent, policy_context: &Value) -> String {
    canonical_hash(&json!({
        "schema": INTENT_REQUEST,
        "idempotency_key": intent.idempotency_key,
        "agent_id": intent.agent_id,
        "scope_type": intent.scope_type,
        "scope_id": intent.scope_id,
        "max_sats": intent.max_sats,
        "exp": intent.exp,
        "policy_context_sha256": canonical_hash(&doubled(policy_context)),
    }))
}

/// Of the normalised request: what was asked for, not what was underwritten.
pub fn offer_fingerprint(asked: &AskOffer) -> String {
    canonical_hash(&json!({
        "schema": OFFER_REQUEST,
        "intent_id": asked.intent_id,
        "agent_id": asked.agent_id,
        "pool_id": asked.pool_id,
        "scope_type": asked.scope_type,
        "scope_id": asked.scope_id,
        "max_sats": asked.max_sats,
        "fee_bps": asked.fee_bps,
        "requires_verifier": asked.requires_verifier,
        "exp": asked.exp,
    }))
}

pub fn offer_id(fingerprint: &str) -> String {
    id("cepo_", fingerprint)
}

pub fn envelope_fingerprint(offer_id: &str, provider_id: &str) -> String {
    canonical_hash(&json!({"schema": ENVELOPE_REQUEST, "offer_id": offer_id, "provider_id": provider_id}))
}

pub fn envelope_id(fingerprint: &str) -> String {
    id("cepe_", fingerprint)
}

/// Of what says how it is settled; the context is no part of it.
pub fn settle_fingerprint(envelope_id: &str, asked: &SettleEnvelope) -> String {
    canonical_hash(&json!({
        "schema": SETTLE_REQUEST,
        "envelope_id": envelope_id,
        "verification_passed": asked.verification_passed,
        "verification_receipt_sha256": asked.verification_receipt_sha256.trim(),
        "provider_invoice_hash": sha256_hex(&asked.provider_invoice),
        "provider_host": asked.provider_host.trim().to_lowercase(),
        "max_fee_msats": asked.max_fee_msats,
    }))
}

pub fn settlement_id(fingerprint: &str) -> String {
    id("ceps_", fingerprint)
}

/// A receipt, whole, and its digest.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    pub schema: &'static str,
    pub document: Value,
    pub sha256: String,
}

/// What was hashed, less what is not told, with the name, the digest and the signature of it. Members in order.
fn receipt(
    schema: &'static str,
    prefix: &str,
    preimage: Value,
    untold: &[&str],
    label: Option<&Label>,
    signer: Option<&Signer>,
) -> Receipt {
    let digest = canonical_digest(&preimage);
    let sha256 = hex(&digest);
    let mut members = match preimage {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    members.retain(|name, value| !value.is_null() && !untold.contains(&name.as_str()));
    members.insert("receipt_id".into(), id(prefix, &sha256).into());
    members.insert("canonical_json_sha256".into(), sha256.clone().into());
    if let Some(label) = label {
        members.insert("label_event".into(), label.event.clone());
    }
    if let Some(signature) = signer.map(|signer| ReceiptSignature::new(signer, &digest)) {
        members.insert("signature".into(), json!(signature));
    }
    let mut sorted: Vec<_> = members.into_iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    Receipt { schema, document: Value::Object(sorted.into_iter().collect()), sha256 }
}

/// §5.1.
pub fn issued(envelope: &Envelope, signer: Option<&Signer>) -> Receipt {
    let preimage = json!({
        "schema": ISSUE,
        "offer_id": envelope.offer_id,
        "envelope_id": envelope.envelope_id,
        "agent_id": envelope.agent_id,
        "pool_id": envelope.pool_id,
        "provider_id": envelope.provider_id,
        "scope_type": envelope.scope_type,
        "scope_id": envelope.scope_id,
        "max_sats": envelope.max_sats,
        "fee_bps": envelope.fee_bps,
        "exp": envelope.exp,
        "issued_at": envelope.issued_at,
    });
    receipt(ISSUE, "ceir_", preimage, &[], None, signer)
}

/// What a settlement that paid says.
pub struct Paid<'a> {
    pub spent_sats: u64,
    pub fee_sats: u64,
    pub verification_receipt_sha256: &'a str,
    pub liquidity_receipt_sha256: &'a str,
    pub created_at: Timestamp,
}

/// §5.2.
pub fn settled(
    envelope: &Envelope,
    paid: &Paid<'_>,
    label: Option<&Label>,
    signer: Option<&Signer>,
) -> Receipt {
    let preimage = json!({
        "schema": SETTLEMENT,
        "envelope_id": envelope.envelope_id,
        "agent_id": envelope.agent_id,
        "pool_id": envelope.pool_id,
        "provider_id": envelope.provider_id,
        "scope_type": envelope.scope_type,
        "scope_id": envelope.scope_id,
        "outcome": Outcome::Success,
        "spent_sats": paid.spent_sats,
        "fee_sats": paid.fee_sats,
        "verification_receipt_sha256": paid.verification_receipt_sha256,
        "liquidity_receipt_sha256": paid.liquidity_receipt_sha256,
        "label_event_id": label.map(|label| &label.id),
        "label_event_sha256": label.map(|label| &label.sha256),
        "created_at": paid.created_at,
    });
    receipt(SETTLEMENT, "cesr_", preimage, &[], label, signer)
}

/// What a default is.
pub struct Defaulted<'a> {
    pub settlement_id: &'a str,
    pub reason: &'a str,
    pub loss_sats: u64,
    pub verification_receipt_sha256: Option<&'a str>,
    pub created_at: Timestamp,
}

/// §5.3. The settlement is hashed, and read from the answer around the notice.
pub fn defaulted(
    envelope: &Envelope,
    default: &Defaulted<'_>,
    label: Option<&Label>,
    signer: Option<&Signer>,
) -> Receipt {
    let preimage = json!({
        "schema": DEFAULT,
        "settlement_id": default.settlement_id,
        "envelope_id": envelope.envelope_id,
        "agent_id": envelope.agent_id,
        "pool_id": envelope.pool_id,
        "provider_id": envelope.provider_id,
        "scope_type": envelope.scope_type,
        "scope_id": envelope.scope_id,
        "reason": default.reason,
        "loss_sats": default.loss_sats,
        "verification_receipt_sha256": default.verification_receipt_sha256,
        "label_event_id": label.map(|label| &label.id),
        "label_event_sha256": label.map(|label| &label.sha256),
        "created_at": default.created_at,
    });
    receipt(DEFAULT, "cedn_", preimage, &["settlement_id"], label, signer)
}

/// A NIP-32 label (§6).
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    pub id: String,
    pub sha256: String,
    pub event: Value,
}

/// The moment is the request's own, so that whoever repeats it builds the same label.
pub fn label(envelope: &Envelope, success: bool, at: Timestamp, signer: &Signer) -> Label {
    let pubkey = signer.public_key_hex();
    let created_at = at.unix_seconds();
    let scope = &envelope.scope_id;
    let tags = json!([
        ["L", "openagents.credit"],
        ["l", if success { "success" } else { "default" }, "openagents.credit"],
        ["p", envelope.agent_id],
        ["p", envelope.provider_id],
        ["t", format!("openagents.credit:scope:{scope}")],
    ]);
    let content = format!("envelope={} scope={scope}", envelope.envelope_id);
    // An array keeps its order, so the canonical form is the one that NIP-01 asks for.
    let digest = canonical_digest(&json!([0, pubkey, created_at, 1985, tags, content]));
    let id = hex(&digest);
    let event = json!({
        "id": id, "pubkey": pubkey, "created_at": created_at, "kind": 1985, "tags": tags, "content": content,
        "sig": hex(&signer.sign_digest(&digest)),
    });
    Label { sha256: canonical_hash(&event), id, event }
}

#[cfg(test)]
mod tests {
    use oa_contract::wire::credit::{EnvelopeStatus, ScopeType};

    use super::*;

    fn moment(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("a moment")
    }

    fn signer() -> Signer {
        Signer::from_secret(&"2a".repeat(32)).expect("a key")
    }

    fn envelope() -> Envelope {
        Envelope {
            envelope_id: "cepe_6591955be72f4b7c9c30a1a4".into(),
            offer_id: "cepo_5ce267a57b533db5f7b99d2f".into(),
            agent_id: "a".repeat(64),
            pool_id: "b".repeat(64),
            provider_id: "c".repeat(64),
            scope_type: ScopeType::Nip90,
            scope_id: "oa.sandbox_run.v1:job-7".into(),
            max_sats: 2_000,
            fee_bps: 50,
            exp: moment("2026-03-01T12:30:00Z"),
            status: EnvelopeStatus::Accepted,
            issued_at: moment("2026-03-01T12:00:05.123456Z"),
        }
    }

    #[test]
    fn intents_and_offers_have_the_names_of_the_vectors() {
        let context = json!({"reason": "demo", "attempt": 1});
        assert_eq!(
            canonical_hash(&doubled(&context)),
            "c0696b9fc65304107f1b9f89fe082585c630e0390903ee7b5fabef6fd50da368"
        );
        assert_eq!(intent_id("intent-0001"), "cepi_a92e5ebfb5d5097d653df7d0");
        let intent = DeclareIntent {
            agent_signature: None,
            schema: INTENT_REQUEST.into(),
            idempotency_key: "intent-0001".into(),
            agent_id: "a".repeat(64),
            scope_type: ScopeType::Nip90,
            scope_id: "oa.sandbox_run.v1:job-7".into(),
            max_sats: 5_000,
            exp: moment("2026-03-01T14:30:00+02:00"),
            policy_context: None,
        };
        assert_eq!(
            intent_fingerprint(&intent, &context),
            "2f14dd687db902a1ff147e6452859de04b2682730fa0c4bf8eb19d2686f8c81e"
        );
        let mut sent = serde_json::to_value(&intent).expect("JSON");
        sent["exp"] = json!("2026-03-01 12:30:00Z");
        let blank: DeclareIntent = serde_json::from_value(sent).expect("a blank for the T");
        assert_eq!(intent_fingerprint(&blank, &context), intent_fingerprint(&intent, &context));
        let offer = AskOffer {
            schema: OFFER_REQUEST.into(),
            agent_id: "a".repeat(64),
            pool_id: "b".repeat(64),
            intent_id: None,
            scope_type: ScopeType::Nip90,
            scope_id: "oa.sandbox_run.v1:job-7".into(),
            max_sats: 4_500,
            fee_bps: 100,
            requires_verifier: true,
            exp: moment("2026-03-01T12:30:00Z"),
        };
        let fingerprint = offer_fingerprint(&offer);
        assert_eq!(fingerprint, "5ce267a57b533db5f7b99d2f986ace86ffd9f8d3918ddfcba00a353dfb05561c");
        assert_eq!(offer_id(&fingerprint), "cepo_5ce267a57b533db5f7b99d2f");
    }

    #[test]
    fn an_envelope_has_the_name_the_receipt_and_the_signature_of_the_vectors() {
        let fingerprint = envelope_fingerprint("cepo_5ce267a57b533db5f7b99d2f", &"c".repeat(64));
        assert_eq!(fingerprint, "6591955be72f4b7c9c30a1a436b2824204502f6551b927ffa815e855cded95e2");
        assert_eq!(envelope_id(&fingerprint), envelope().envelope_id);
        let receipt = issued(&envelope(), Some(&signer()));
        assert_eq!(receipt.sha256, "ca34bd21ec757a10cd0c8553f94148ee3d0715bacbc475dc296ffdea089b1d1e");
        assert_eq!(receipt.document["receipt_id"], "ceir_ca34bd21ec757a10cd0c8553");
        assert_eq!(
            receipt.document["signature"]["signature_hex"],
            "3f62446213d2360b041f8727df80b9edf88b99434976fa4f18e4fd9f6d6889df7f4ebffad8d8576a14866b7a94a1588efb78992ea56a00fca6f4ec161c9f5248"
        );
        let keys: Vec<_> = receipt.document.as_object().expect("an object").keys().collect();
        assert!(keys.is_sorted());
        assert!(issued(&envelope(), None).document.get("signature").is_none());
    }

    fn settle() -> SettleEnvelope {
        SettleEnvelope {
            schema: SETTLE_REQUEST.into(),
            envelope_id: envelope().envelope_id,
            verification_passed: true,
            verification_receipt_sha256: sha256_hex("verification-demo"),
            provider_invoice: "lnbc2500n1demo".into(),
            provider_host: " Provider.Example ".into(),
            max_fee_msats: 10_000,
            policy_context: None,
        }
    }

    const SETTLED: &str = "bfc67ed9d66b7644aa5ce449b9441b170c84bc80b6b162c8fdc8c751da394a4c";

    #[test]
    fn a_settlement_has_the_name_of_the_vectors() {
        assert_eq!(
            sha256_hex("verification-demo"),
            "befc31aa0b50567f453f5309d3203cb5e32202f9d4c4194c39d1f014a0d1032b"
        );
        assert_eq!(
            sha256_hex("lnbc2500n1demo"),
            "8499e5d8a8212065bb777061d009287d4a49bfc105d02847e585c84213bdb743"
        );
        let fingerprint = settle_fingerprint(&envelope().envelope_id, &settle());
        assert_eq!(fingerprint, SETTLED);
        assert_eq!(settlement_id(&fingerprint), "ceps_bfc67ed9d66b7644aa5ce449");
    }

    #[test]
    fn a_label_has_the_id_the_signature_and_the_digest_of_the_vectors() {
        let label = label(&envelope(), true, Timestamp::from_unix_seconds(1_772_366_410), &signer());
        assert_eq!(label.id, "ac2b23aad79a3f7b26a40ee6edc32d787da32bf5504474c3c93b653f75690421");
        assert_eq!(
            label.event["sig"],
            "fd5dc8d6844c6e9f4a8a7c559dc4d5befc1b0219357304622a1aedf6fcef5b92dc23c864a3b27748b79998f2fa3c31cfdbe8e62acfd5721b9df87093e277e952"
        );
        assert_eq!(label.sha256, "debdc37bf70ee112e60971bcea96ee306807dd9616e420e3156582498696dbbc");
    }

    #[test]
    fn settlements_and_defaults_have_the_digests_of_the_vectors() {
        let created_at = moment("2026-03-01T12:00:10.500Z");
        let (verification, liquidity) = (sha256_hex("verification-demo"), sha256_hex("liq-demo"));
        assert_eq!(liquidity, "9d25d069d845c4fce80c9083f1598dd0363ffc49cc6aaf48edb4a190cf47679b");
        let paid = Paid {
            spent_sats: 250,
            fee_sats: 2,
            verification_receipt_sha256: &verification,
            liquidity_receipt_sha256: &liquidity,
            created_at,
        };
        let label = label(&envelope(), true, created_at, &signer());
        let receipt = settled(&envelope(), &paid, Some(&label), Some(&signer()));
        assert_eq!(receipt.sha256, "b427b6b46968384816cb26cee683e2a949c434db0d1c50d4375709f344b0555d");
        assert_eq!(receipt.document["receipt_id"], "cesr_b427b6b46968384816cb26ce");
        assert_eq!(receipt.document["label_event"]["kind"], 1985);
        let bare = settled(&envelope(), &paid, None, None);
        assert_eq!(bare.sha256, "222380e4187df3e14642fdc6b37cd6a2e64f36fc571cb53df1516d19dd6878c3");
        assert!(bare.document.get("label_event_id").is_none(), "what is null is not told");
        let name = settlement_id(SETTLED);
        let default = Defaulted {
            settlement_id: &name,
            reason: "verification_failed",
            loss_sats: 0,
            verification_receipt_sha256: Some(&verification),
            created_at,
        };
        let notice = defaulted(&envelope(), &default, None, None);
        assert_eq!(notice.sha256, "bafeb64c80d0ee72798fbc7646b0c74bfd9ac909ca190719db089dae8f71e281");
        assert_eq!(notice.document["receipt_id"], "cedn_bafeb64c80d0ee72798fbc76");
        assert!(notice.document.get("settlement_id").is_none());
    }
}
