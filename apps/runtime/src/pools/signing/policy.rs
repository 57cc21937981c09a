//! Decides what a sound signer set is, and how many signatures an act takes (§8.2, §17.7).

use oa_contract::{
    Refusal, Timestamp,
    canonical::{canonical_hash, unhex},
    wire::pool_signing::{PoolSigner, PutSignerSet, SignerPolicy, SignerPolicyAction, SignerSet},
};
use oa_store::tables::pool_signing::SIGNER_SET_SCHEMA;
use serde_json::json;

use crate::pools::{AUTO_PAYOUT_SATS, schema};

const SCHEMA: &str = "openagents.liquidity.pool_signer_set_upsert_request.v1";
const POLICY: &str = "openagents.liquidity.pool_signer_policy.v1";
/// More signers than that sign nothing together.
const MOST_SIGNERS: usize = 64;
const LONGEST_LABEL: usize = 255;

pub const INVOICE_PAY_SMALL: &str = "invoice_pay_small";
pub const INVOICE_PAY_LARGE: &str = "invoice_pay_large";
pub const ONCHAIN_WITHDRAWAL: &str = "onchain_withdrawal_batch";
pub const OPEN_CHANNEL: &str = "open_channel";
pub const CLOSE_CHANNEL: &str = "close_channel";
/// A change of the signers themselves (§17.1).
pub const SIGNER_SET_CHANGE: &str = "signer_set_change";

/// The set that is asked for, checked.
pub fn read(pool_id: &str, body: PutSignerSet, now: Timestamp) -> Result<SignerSet, Refusal> {
    schema(&body.schema, SCHEMA)?;
    let wrong = |message: &str| Refusal::invalid(message);
    if body.signers.is_empty() {
        return Err(wrong("signers is required"));
    }
    if body.signers.len() > MOST_SIGNERS {
        return Err(Refusal::invalid(format!("signers must be at most {MOST_SIGNERS}")));
    }
    if body.threshold == 0 {
        return Err(wrong("threshold must be > 0"));
    }
    let count = u32::try_from(body.signers.len()).unwrap_or(u32::MAX);
    if body.threshold > count {
        return Err(wrong("threshold cannot exceed signer count"));
    }
    let mut signers: Vec<PoolSigner> = Vec::with_capacity(body.signers.len());
    for signer in body.signers {
        let signer = sound(signer)?;
        if signers.iter().any(|known| known.pubkey == signer.pubkey) {
            return Err(wrong("duplicate signer pubkey"));
        }
        signers.push(signer);
    }
    let policy = body.policy.unwrap_or_else(|| usual(body.threshold));
    if policy.schema.trim() != POLICY {
        return Err(Refusal::invalid(format!("policy.schema must be {POLICY}")));
    }
    for action in &policy.actions {
        match action.required_signatures {
            Some(0) => return Err(wrong("required_signatures must be > 0")),
            Some(required) if required > count => {
                return Err(wrong("required_signatures cannot exceed signer count"));
            }
            _ => {}
        }
    }
    let digest = canonical_hash(&json!({
        "schema": SIGNER_SET_SCHEMA, "pool_id": pool_id, "threshold": body.threshold, "signers": signers,
        "policy": policy,
    }));
    Ok(SignerSet {
        pool_id: pool_id.to_owned(),
        schema: SIGNER_SET_SCHEMA.into(),
        threshold: body.threshold,
        signers,
        policy,
        canonical_json_sha256: digest,
        created_at: now,
        updated_at: now,
    })
}

fn sound(signer: PoolSigner) -> Result<PoolSigner, Refusal> {
    let pubkey = signer.pubkey.trim().to_ascii_lowercase();
    if pubkey.is_empty() {
        return Err(Refusal::invalid("pubkey is required"));
    }
    if let Some(letter) = pubkey.chars().find(|letter| !letter.is_ascii_hexdigit()) {
        return Err(Refusal::invalid(format!("pubkey must be hex: {letter:?} is no digit")));
    }
    if unhex::<32>(&pubkey).is_none() {
        return Err(Refusal::invalid("pubkey must be 32-byte xonly hex"));
    }
    if signer.label.as_ref().is_some_and(|label| label.len() > LONGEST_LABEL) {
        return Err(Refusal::invalid(format!("label must be at most {LONGEST_LABEL} bytes")));
    }
    Ok(PoolSigner { pubkey, ..signer })
}

fn usual(threshold: u32) -> SignerPolicy {
    let action = |class: &str, max: Option<u64>, required: u32| SignerPolicyAction {
        action_class: class.into(),
        single_signer_max_sats: max,
        required_signatures: Some(required),
    };
    let mut actions = vec![action(INVOICE_PAY_SMALL, Some(AUTO_PAYOUT_SATS), 1)];
    let rest = [INVOICE_PAY_LARGE, OPEN_CHANNEL, CLOSE_CHANNEL, ONCHAIN_WITHDRAWAL];
    actions.extend(rest.map(|class| action(class, None, threshold)));
    SignerPolicy { schema: POLICY.into(), actions }
}

/// How many signatures an act takes: one up to the limit of single signers, else what its class asks for, else the
/// threshold.
pub fn required(set: &SignerSet, class: &str, sats: Option<u64>) -> Result<u32, Refusal> {
    let action = set.policy.actions.iter().find(|action| action.action_class == class);
    let single = action.and_then(|action| action.single_signer_max_sats);
    let required = match (single, sats) {
        (Some(most), Some(sats)) if sats <= most => 1,
        _ => action.and_then(|action| action.required_signatures).unwrap_or(set.threshold),
    };
    match required {
        0 => Err(Refusal::conflict("the pool's policy asks for no signature")),
        required if required as usize > set.signers.len() => {
            Err(Refusal::conflict("the pool's policy asks for more signatures than there are signers"))
        }
        required => Ok(required),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "08679d1300a172367f984c5bfb215bba05fca60f55b5e245e90f5676ea1a908c";

    fn signer(pubkey: &str) -> PoolSigner {
        PoolSigner { pubkey: pubkey.into(), label: None }
    }

    fn body(threshold: u32, signers: &[&str]) -> PutSignerSet {
        let signers = signers.iter().map(|key| signer(key)).collect();
        PutSignerSet { schema: SCHEMA.into(), threshold, signers, policy: None }
    }

    fn refusal(body: PutSignerSet) -> String {
        read("p", body, Timestamp::EPOCH).expect_err("refused").message
    }

    #[test]
    fn a_set_that_cannot_sign_is_refused_with_the_reason() {
        assert_eq!(refusal(body(1, &[])), "signers is required");
        assert_eq!(refusal(body(0, &[KEY])), "threshold must be > 0");
        assert_eq!(refusal(body(2, &[KEY])), "threshold cannot exceed signer count");
        assert_eq!(refusal(body(1, &[" "])), "pubkey is required");
        assert!(refusal(body(1, &["xyz"])).starts_with("pubkey must be hex: "));
        assert_eq!(refusal(body(1, &["abcd"])), "pubkey must be 32-byte xonly hex");
        assert_eq!(refusal(body(1, &[KEY, &KEY.to_uppercase()])), "duplicate signer pubkey");
        let with = |required| PutSignerSet {
            policy: Some(SignerPolicy {
                schema: POLICY.into(),
                actions: vec![SignerPolicyAction {
                    action_class: OPEN_CHANNEL.into(),
                    single_signer_max_sats: None,
                    required_signatures: Some(required),
                }],
            }),
            ..body(1, &[KEY])
        };
        assert_eq!(refusal(with(0)), "required_signatures must be > 0");
        assert_eq!(refusal(with(2)), "required_signatures cannot exceed signer count");
    }

    #[test]
    fn a_small_sum_takes_one_signature_and_others_what_the_policy_asks() {
        let keys: Vec<String> = (1..=3).map(|n| format!("{n:064x}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let mut set = read("p", body(2, &keys), Timestamp::EPOCH).expect("a set");
        assert_eq!(required(&set, INVOICE_PAY_SMALL, Some(100_000)), Ok(1));
        assert_eq!(required(&set, INVOICE_PAY_LARGE, Some(100_001)), Ok(2));
        assert_eq!(required(&set, SIGNER_SET_CHANGE, None), Ok(2));
        set.policy.actions[1].single_signer_max_sats = Some(500_000);
        set.policy.actions[1].required_signatures = Some(3);
        assert_eq!(required(&set, INVOICE_PAY_LARGE, Some(400_000)), Ok(1));
        assert_eq!(required(&set, INVOICE_PAY_LARGE, Some(500_001)), Ok(3));
        set.policy.actions[1].required_signatures = Some(4);
        assert!(required(&set, INVOICE_PAY_LARGE, None).is_err());
    }
}
