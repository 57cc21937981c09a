//! `GET /.well-known/jwks.json`: the public keys of every sync token that may still be good. A shared secret is
//! never among them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use oa_contract::{
    Answer, Ask, Handle, Stop, Timestamp,
    matrix::SyncKeys,
    wire::sync::{KeySet, PublicKey},
};
use oa_store::{
    Tx,
    tables::sync_keys::{self as rows, SyncKey},
};

use crate::Control;

impl Handle<SyncKeys> for Control {
    async fn handle(&self, _: Ask<SyncKeys>) -> Result<Answer<KeySet>, Stop> {
        let served = self.store.read("sync_served_keys", self.clock.now(), served).await?;
        let keys = served.into_iter().map(show).collect();
        Ok(Answer::new(KeySet { keys }).with_header("cache-control", "public, max-age=60"))
    }
}

async fn served(tx: &mut Tx, now: &Timestamp) -> Result<Vec<SyncKey>, Stop> {
    rows::served(tx, *now).await
}

fn show(key: SyncKey) -> PublicKey {
    PublicKey {
        kty: "OKP".into(),
        crv: "Ed25519".into(),
        x: URL_SAFE_NO_PAD.encode(&key.public_key),
        kid: key.kid,
        alg: "EdDSA".into(),
        usage: "sig".into(),
    }
}
