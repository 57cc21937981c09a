//! Decides how secrets lie in the store: encrypted with the operator's key, when there is one. A secret that was
//! written under another key is as good as none.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oa_contract::{Fault, Ids, Stop};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::config::ToolsConfig;

const CLEAR: &str = "clear.";

pub struct Vault {
    key: Option<LessSafeKey>,
    /// `v1.`, with the name of the key.
    prefix: String,
}

impl Vault {
    pub fn new(config: &ToolsConfig) -> Self {
        let bytes = config.encryption_key.as_ref().and_then(|key| STANDARD.decode(key.reveal()).ok());
        let key = bytes.and_then(|bytes| UnboundKey::new(&AES_256_GCM, &bytes).ok()).map(LessSafeKey::new);
        Vault { key, prefix: format!("{}.", config.encryption_key_id) }
    }

    /// `place` says what the secret is for; it is good nowhere else.
    pub fn seal(&self, ids: &dyn Ids, place: &str, secret: &str) -> Result<String, Stop> {
        let Some(key) = &self.key else { return Ok(format!("{CLEAR}{}", STANDARD.encode(secret))) };
        let random = ids.secret();
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&random[..NONCE_LEN]);
        let mut bytes = secret.as_bytes().to_vec();
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(place.as_bytes()),
            &mut bytes,
        )
        .map_err(|_| Fault::msg("sealing a secret"))?;
        Ok(format!("{}{}", self.prefix, STANDARD.encode([&nonce[..], &bytes].concat())))
    }

    pub fn open(&self, place: &str, sealed: &str) -> Option<String> {
        if let Some(clear) = sealed.strip_prefix(CLEAR) {
            return String::from_utf8(STANDARD.decode(clear).ok()?).ok();
        }
        let mut bytes = STANDARD.decode(sealed.strip_prefix(&self.prefix)?).ok()?;
        let key = self.key.as_ref()?;
        if bytes.len() < NONCE_LEN {
            return None;
        }
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&bytes[..NONCE_LEN]);
        let opened = key.open_within(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(place.as_bytes()),
            &mut bytes,
            NONCE_LEN..,
        );
        String::from_utf8(opened.ok()?.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::wire::identity::Secret;

    use super::*;
    use crate::{env::Env, testing::still};

    fn vault(key: Option<[u8; 32]>, id: &str) -> Vault {
        let here = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let mut config = ToolsConfig::read(&Env(&|_| None), here).expect("a configuration");
        config.encryption_key = key.map(|key| Secret::new(STANDARD.encode(key)));
        config.encryption_key_id = id.into();
        Vault::new(&config)
    }

    #[test]
    fn a_sealed_secret_shows_nothing_and_opens_in_its_own_place_only() {
        let (_, ids) = still();
        let vault = vault(Some([3; 32]), "v1");
        let sealed = vault.seal(&*ids, "credential/7", "mac:preimage").expect("sealed");
        assert!(!sealed.contains("preimage") && !sealed.contains(&STANDARD.encode("mac:preimage")));
        assert_eq!(vault.open("credential/7", &sealed).as_deref(), Some("mac:preimage"));
        assert_eq!(vault.open("credential/8", &sealed), None);
        assert_ne!(vault.seal(&*ids, "credential/7", "mac:preimage").expect("sealed"), sealed);
    }

    #[test]
    fn another_key_opens_nothing_and_without_a_key_nothing_is_hidden() {
        let (_, ids) = still();
        let sealed = vault(Some([3; 32]), "v1").seal(&*ids, "p", "secret").expect("sealed");
        assert_eq!(vault(Some([4; 32]), "v1").open("p", &sealed), None);
        assert_eq!(vault(Some([3; 32]), "v2").open("p", &sealed), None);
        assert_eq!(vault(None, "v1").open("p", &sealed), None);
        let clear = vault(None, "v1").seal(&*ids, "p", "secret").expect("kept");
        assert_eq!(vault(Some([3; 32]), "v1").open("p", &clear).as_deref(), Some("secret"));
    }
}
