//! Decides how a choice is announced: a commerce message as a signed Nostr event (marketplace §12.3). It is built
//! and returned; nobody sends it from here.

use oa_contract::{
    canonical::{compact, hex},
    signer::Signer,
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

const APP_DATA: u64 = 30_078;
const SCHEMA: &str = "openagents.bridge.commerce_message.v1";

/// An `accept`, and what it is about.
#[derive(Clone, Debug, Default)]
pub struct Accept<'a> {
    pub message_id: String,
    pub marketplace_id: &'a str,
    pub actor_id: &'a str,
    pub created_at_unix: u64,
    pub quote_id: Option<&'a str>,
    pub order_id: String,
    pub receipt_id: Option<&'a str>,
    pub objective_hash: Option<&'a str>,
    pub run_id: &'a str,
    /// Keeps its order of members.
    pub body: Value,
}

impl Accept<'_> {
    fn subjects(&self) -> [(&'static str, Option<&str>); 5] {
        [
            ("quote_id", self.quote_id),
            ("order_id", Some(&self.order_id)),
            ("receipt_id", self.receipt_id),
            ("objective_hash", self.objective_hash),
            ("run_id", Some(self.run_id)),
        ]
    }

    fn content(&self) -> String {
        let mut content = Map::new();
        content.insert("message_id".into(), self.message_id.as_str().into());
        content.insert("kind".into(), "accept".into());
        content.insert("marketplace_id".into(), self.marketplace_id.into());
        content.insert("actor_id".into(), self.actor_id.into());
        content.insert("created_at_unix".into(), self.created_at_unix.into());
        for (member, value) in self.subjects() {
            if let Some(value) = value {
                content.insert(member.into(), value.into());
            }
        }
        content.insert("body".into(), self.body.clone());
        compact(&Value::Object(content))
    }

    /// The event, signed. The same message has the same event.
    pub fn event(&self, signer: &Signer) -> Value {
        let content = self.content();
        let mut tags = vec![
            json!(["d", format!("openagents:commerce:accept:{}", self.message_id)]),
            json!(["oa_schema", SCHEMA]),
            json!(["oa_commerce_kind", "accept"]),
            json!(["oa_marketplace_id", self.marketplace_id]),
            json!(["oa_actor_id", self.actor_id]),
            json!(["oa_body_sha256", hex(&Sha256::digest(content.as_bytes()))]),
        ];
        let subjects = self.subjects().into_iter();
        let subjects = subjects.filter_map(|(member, value)| Some((member, value?)));
        let subjects = subjects.filter(|(_, value)| !value.trim().is_empty());
        tags.extend(subjects.map(|(member, value)| json!([format!("oa_{member}"), value])));
        let pubkey = signer.public_key_hex();
        let tags = Value::Array(tags);
        let id = event_id(&pubkey, self.created_at_unix, APP_DATA, &tags, &content);
        json!({
            "id": hex(&id),
            "pubkey": pubkey,
            "created_at": self.created_at_unix,
            "kind": APP_DATA,
            "tags": tags,
            "content": content,
            "sig": hex(&signer.sign_digest(&id)),
        })
    }
}

/// NIP-01.
fn event_id(pubkey: &str, created_at: u64, kind: u64, tags: &Value, content: &str) -> [u8; 32] {
    let text = compact(&json!([0, pubkey, created_at, kind, tags, content]));
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use oa_contract::signer;

    use super::*;

    #[test]
    fn an_event_names_and_proves_its_content() {
        let signer = Signer::from_secret(&"2a".repeat(32)).expect("a key");
        let accept = Accept {
            message_id: "decision_1".into(),
            marketplace_id: "openagents",
            actor_id: "user:11",
            created_at_unix: 1_700_000_000,
            quote_id: Some("quote-b"),
            order_id: "order_1".into(),
            receipt_id: None,
            objective_hash: None,
            run_id: "r",
            body: json!({"z": 1, "a": "é\n"}),
        };
        let event = accept.event(&signer);
        assert_eq!(
            event["content"],
            r#"{"message_id":"decision_1","kind":"accept","marketplace_id":"openagents","actor_id":"user:11","created_at_unix":1700000000,"quote_id":"quote-b","order_id":"order_1","run_id":"r","body":{"z":1,"a":"é\n"}}"#
        );
        let names: Vec<_> = event["tags"]
            .as_array()
            .expect("tags")
            .iter()
            .map(|tag| tag[0].as_str().expect("a name"))
            .collect();
        assert_eq!(
            names,
            [
                "d",
                "oa_schema",
                "oa_commerce_kind",
                "oa_marketplace_id",
                "oa_actor_id",
                "oa_body_sha256",
                "oa_quote_id",
                "oa_order_id",
                "oa_run_id"
            ]
        );
        let text = |member: &str| event[member].as_str().expect("a text").to_owned();
        assert!(signer::verify(&text("pubkey"), &text("id"), &text("sig")));
        assert_eq!(event, accept.event(&signer), "the same message has the same event");
        let told =
            json!([0, event["pubkey"], event["created_at"], event["kind"], event["tags"], event["content"]]);
        assert_eq!(hex(&Sha256::digest(serde_json::to_string(&told).expect("JSON"))), text("id"));
    }
}
