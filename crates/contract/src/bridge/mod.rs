//! Decides what is told to Nostr relays (runtime-core §17): events of a fixed form, signed so that whoever tells the
//! same thing again tells the same event.

mod ad;
mod pointer;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub use self::{
    ad::{Band, ProviderAd},
    pointer::{LiquidityPointer, PoolSnapshotPointer, ReceiptPointer},
};
use crate::{
    canonical::{compact, hex},
    signer::{self, Signer},
};

/// NIP-89: somebody who handles things.
pub const HANDLER: u32 = 31_990;
/// NIP-78: data of an application.
pub const APP_DATA: u32 = 30_078;
/// NIP-32: a label on somebody.
pub const LABEL: u32 = 1_985;

/// A required field that says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blank(pub &'static str);

impl fmt::Display for Blank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must not be empty", self.0)
    }
}

impl std::error::Error for Blank {}

fn said<'a>(field: &'static str, text: &'a str) -> Result<&'a str, Blank> {
    match text.trim().is_empty() {
        true => Err(Blank(field)),
        false => Ok(text),
    }
}

/// What is to be told, before anybody has put a name to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned {
    pub kind: u32,
    pub tags: Vec<Vec<String>>,
    pub content: String,
}

impl Unsigned {
    /// `created_at` is the moment of what is told, never that of the telling.
    pub fn signed(self, signer: &Signer, created_at: i64) -> Event {
        let pubkey = signer.public_key_hex();
        let id = event_id(&pubkey, created_at, self.kind, &self.tags, &self.content);
        Event {
            sig: hex(&signer.sign_digest(&id)),
            id: hex(&id),
            pubkey,
            created_at,
            kind: self.kind,
            tags: self.tags,
            content: self.content,
        }
    }

    /// Over everything that is told: two that tell the same have the same.
    pub fn digest(&self) -> String {
        hex(&Sha256::digest(compact(&json!([self.kind, self.tags, self.content])).as_bytes()))
    }
}

/// A NIP-01 event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub id: String,
    pub pubkey: String,
    pub created_at: i64,
    pub kind: u32,
    pub tags: Vec<Vec<String>>,
    pub content: String,
    pub sig: String,
}

/// What an event of ours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    ProviderAd,
    ReceiptPointer,
    LiquidityPointer,
    PoolSnapshot,
    CommerceMessage,
}

/// Which events a reader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// All but commerce messages.
    Phase0,
    V1,
}

impl Event {
    /// The first value of the first tag of this name.
    pub fn tag(&self, name: &str) -> Option<&str> {
        let named = self.tags.iter().find(|tag| tag.first().is_some_and(|first| first == name))?;
        named.get(1).map(String::as_str)
    }

    /// What a later event replaces: its kind and `d`, or nothing but itself.
    pub fn address(&self) -> String {
        match (self.kind, self.tag("d")) {
            (30_000..40_000, Some(name)) => format!("{}:{name}", self.kind),
            _ => self.id.clone(),
        }
    }

    /// Whether id and signature are those of what is told.
    pub fn is_authentic(&self) -> bool {
        let id = event_id(&self.pubkey, self.created_at, self.kind, &self.tags, &self.content);
        self.id == hex(&id) && signer::verify(&self.pubkey, &self.id, &self.sig)
    }

    /// Checks the event, and says what of ours it is.
    pub fn classify(&self, version: Version) -> Result<Told, &'static str> {
        if !self.is_authentic() {
            return Err("id or signature is not that of the event");
        }
        let told = match (self.kind, self.tag("oa_schema").unwrap_or_default()) {
            (HANDLER, ad::SCHEMA) => Told::ProviderAd,
            (APP_DATA, pointer::RECEIPT) => Told::ReceiptPointer,
            (APP_DATA, pointer::LIQUIDITY) => Told::LiquidityPointer,
            (APP_DATA, pointer::SNAPSHOT) => Told::PoolSnapshot,
            (APP_DATA, "openagents.bridge.commerce_message.v1") if version == Version::V1 => {
                Told::CommerceMessage
            }
            _ => return Err("kind and oa_schema are not those of an event that is known here"),
        };
        Ok(told)
    }

    /// As it is sent and kept.
    pub fn text(&self) -> String {
        compact(&json!(self))
    }

    /// An event that was built elsewhere, as a label is.
    pub fn read(value: &Value) -> Result<Self, serde_json::Error> {
        Event::deserialize(value)
    }
}

fn event_id(pubkey: &str, created_at: i64, kind: u32, tags: &[Vec<String>], content: &str) -> [u8; 32] {
    let text = compact(&json!([0, pubkey, created_at, kind, tags, content]));
    Sha256::digest(text.as_bytes()).into()
}

fn tag(name: &str, value: impl Into<String>) -> Vec<String> {
    vec![name.to_owned(), value.into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unsigned() -> Unsigned {
        Unsigned {
            kind: APP_DATA,
            tags: vec![tag("d", "a:b"), tag("oa_schema", "x")],
            content: "é\n\"".into(),
        }
    }

    fn signer() -> Signer {
        Signer::from_secret(&"2a".repeat(32)).expect("a key")
    }

    #[test]
    fn the_id_is_the_digest_of_the_array_that_nip_01_describes() {
        let event = unsigned().signed(&signer(), 1_700_000_000);
        let told = r#"[0,"5be5e9478209674a96e60f1f037f6176540fd001fa1d64694770c56a7709c42c",1700000000,30078,[["d","a:b"],["oa_schema","x"]],"é\n\""]"#;
        assert_eq!(event.id, hex(&Sha256::digest(told.as_bytes())));
        assert!(event.is_authentic());
        assert_eq!(event, unsigned().signed(&signer(), 1_700_000_000), "told again, it is the same event");
    }

    #[test]
    fn an_event_that_was_changed_is_not_authentic() {
        let event = unsigned().signed(&signer(), 7);
        let changed: [fn(&mut Event); 4] = [
            |event| event.created_at += 1,
            |event| event.content.push('.'),
            |event| event.tags[0][1].push('.'),
            |event| event.sig.replace_range(..2, "00"),
        ];
        for change in changed {
            let mut event = event.clone();
            change(&mut event);
            assert!(!event.is_authentic());
        }
    }

    #[test]
    fn an_addressable_event_is_known_by_kind_and_name_and_any_other_by_its_id() {
        let event = unsigned().signed(&signer(), 7);
        assert_eq!(event.address(), "30078:a:b");
        let label = Unsigned { kind: LABEL, ..unsigned() }.signed(&signer(), 7);
        assert_eq!(label.address(), label.id);
    }

    #[test]
    fn an_event_survives_its_text() {
        let event = unsigned().signed(&signer(), 7);
        let value = serde_json::from_str(&event.text()).expect("JSON");
        assert_eq!(Event::read(&value).expect("an event"), event);
    }

    #[test]
    fn only_the_later_reader_knows_commerce_messages() {
        let tags = vec![tag("d", "c"), tag("oa_schema", "openagents.bridge.commerce_message.v1")];
        let event = Unsigned { tags, ..unsigned() }.signed(&signer(), 7);
        assert_eq!(event.classify(Version::V1), Ok(Told::CommerceMessage));
        assert!(event.classify(Version::Phase0).is_err());
        assert!(unsigned().signed(&signer(), 7).classify(Version::V1).is_err());
    }
}
