//! Decides how a digest is signed and checked: BIP-340 over secp256k1 without auxiliary randomness, so
//! that the same digest always has the same signature (runtime-core §10.1).

use std::{fmt, sync::LazyLock};

use secp256k1::{All, Keypair, Message, Secp256k1, SecretKey, XOnlyPublicKey, schnorr};

use crate::canonical::{hex, unhex};

/// One context for the process: building it costs far more than a signature needs from it.
static CURVE: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);

/// Why a text is not a secret key. It never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadSecret {
    /// Neither 64 hex digits nor a well-formed `nsec1…`.
    Form,
    /// An `nsec1…` with a wrong checksum: mistyped.
    Checksum,
    /// Zero, or not below the order of the curve.
    Range,
}

impl fmt::Display for BadSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadSecret::Form => "a secret key is 64 hex digits or an nsec1… text",
            BadSecret::Checksum => "the checksum of the nsec1… text is wrong",
            BadSecret::Range => "the secret key is not a valid number for secp256k1",
        })
    }
}

impl std::error::Error for BadSecret {}

/// The key that signs receipts (§10.1).
#[derive(Clone)]
pub struct Signer {
    keys: Keypair,
}

impl Signer {
    /// Reads a secret as 64 hex digits or as NIP-19 `nsec1…`; white space around it is ignored.
    pub fn from_secret(text: &str) -> Result<Self, BadSecret> {
        let text = text.trim();
        let bytes = match unhex::<32>(text) {
            Some(bytes) => bytes,
            None => decode_nsec(text)?,
        };
        let secret = SecretKey::from_slice(&bytes).map_err(|_| BadSecret::Range)?;
        Ok(Signer { keys: Keypair::from_secret_key(&CURVE, &secret) })
    }

    /// The x-only public key, 64 hex digits.
    pub fn public_key_hex(&self) -> String {
        hex(&self.keys.x_only_public_key().0.serialize())
    }

    /// BIP-340 over the 32 bytes as they are.
    pub fn sign_digest(&self, digest: &[u8; 32]) -> [u8; 64] {
        let message = Message::from_digest(*digest);
        CURVE.sign_schnorr_no_aux_rand(&message, &self.keys).serialize()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("public_key", &self.public_key_hex()).finish_non_exhaustive()
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        self.keys.non_secure_erase();
    }
}

/// BIP-340 verification of hex texts; anything malformed does not verify.
pub fn verify(pubkey_hex: &str, digest_hex: &str, signature_hex: &str) -> bool {
    let parts = (unhex::<32>(pubkey_hex), unhex::<32>(digest_hex), unhex::<64>(signature_hex));
    let (Some(pubkey), Some(digest), Some(signature)) = parts else { return false };
    let Ok(pubkey) = XOnlyPublicKey::from_slice(&pubkey) else { return false };
    let Ok(signature) = schnorr::Signature::from_slice(&signature) else { return false };
    CURVE.verify_schnorr(&signature, &Message::from_digest(digest), &pubkey).is_ok()
}

/// The 32 letters of bech32, each worth its place.
const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// `nsec` as the checksum sees it: the high bits of each letter, a zero, the low bits.
const PREFIX: [u8; 9] = [3, 3, 3, 3, 0, b'n' & 31, b's' & 31, b'e' & 31, b'c' & 31];
/// 32 bytes make 52 letters with four bits left over; six letters are the checksum.
const DATA: usize = 52;
const CHECKSUM: usize = 6;

fn decode_nsec(text: &str) -> Result<[u8; 32], BadSecret> {
    // Bech32 may be written in either case, but not in both at once.
    let lower = text.to_ascii_lowercase();
    if text != lower && text != text.to_ascii_uppercase() {
        return Err(BadSecret::Form);
    }
    let letters = lower.strip_prefix("nsec1").ok_or(BadSecret::Form)?;
    let values: Option<Vec<u8>> = letters
        .bytes()
        .map(|letter| LETTERS.iter().position(|known| *known == letter).and_then(|at| u8::try_from(at).ok()))
        .collect();
    let values = values.filter(|values| values.len() == DATA + CHECKSUM).ok_or(BadSecret::Form)?;
    if checksum(PREFIX.iter().chain(&values)) != 1 {
        return Err(BadSecret::Checksum);
    }
    join_bits(&values[..DATA]).ok_or(BadSecret::Form)
}

/// The BCH checksum of BIP-173; a correct text leaves 1.
fn checksum<'a>(values: impl Iterator<Item = &'a u8>) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    values.fold(1, |sum, value| {
        let shifted = ((sum & 0x01ff_ffff) << 5) ^ u32::from(*value);
        let taps = GENERATOR.iter().enumerate().filter(|(bit, _)| (sum >> (25 + bit)) & 1 == 1);
        taps.fold(shifted, |sum, (_, tap)| sum ^ tap)
    })
}

/// Joins groups of five bits to bytes; the four bits left over must be zero.
fn join_bits(values: &[u8]) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let mut rest = 0u32;
    let mut bits = 0;
    let mut filled = 0;
    for value in values {
        rest = (rest << 5) | u32::from(*value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            *bytes.get_mut(filled)? = u8::try_from(rest >> bits).ok()?;
            rest &= (1 << bits) - 1;
            filled += 1;
        }
    }
    (filled == 32 && rest == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NSEC: &str = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5";
    const NSEC_HEX: &str = "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa";

    #[test]
    fn the_public_key_of_the_golden_secret_is_the_golden_one() {
        let signer = Signer::from_secret(&"2a".repeat(32)).expect("a secret");
        assert_eq!(
            signer.public_key_hex(),
            "5be5e9478209674a96e60f1f037f6176540fd001fa1d64694770c56a7709c42c"
        );
    }

    #[test]
    fn an_nsec_is_read_like_its_hex() {
        assert_eq!(decode_nsec(NSEC).map(|bytes| hex(&bytes)).as_deref(), Ok(NSEC_HEX));
        let of = |text: &str| Signer::from_secret(text).map(|signer| signer.public_key_hex());
        assert_eq!(of(NSEC), of(NSEC_HEX));
        assert_eq!(of(&NSEC.to_uppercase()), of(NSEC_HEX));
        assert_eq!(of(&format!(" {NSEC}\n")), of(NSEC_HEX));
    }

    #[test]
    fn a_mistyped_secret_is_refused_with_the_reason() {
        let error = |text: &str| Signer::from_secret(text).map(|_| ()).expect_err("no secret");
        assert_eq!(error(&NSEC.replace("vl029", "vl02q")), BadSecret::Checksum);
        assert_eq!(error(&NSEC.replace("vl029", "vl02b")), BadSecret::Form);
        assert_eq!(error(""), BadSecret::Form);
        assert_eq!(error(&NSEC[..60]), BadSecret::Form);
        assert_eq!(error(&NSEC.replacen('v', "V", 1)), BadSecret::Form);
        assert_eq!(error(&"00".repeat(32)), BadSecret::Range);
        assert_eq!(error(&"ff".repeat(32)), BadSecret::Range);
    }

    #[test]
    fn the_same_digest_has_the_same_signature_and_it_verifies() {
        let signer = Signer::from_secret(NSEC_HEX).expect("a secret");
        let digest = [7; 32];
        let signature = hex(&signer.sign_digest(&digest));
        assert_eq!(signature, hex(&signer.sign_digest(&digest)));
        assert!(verify(&signer.public_key_hex(), &hex(&digest), &signature));
        assert!(!verify(&signer.public_key_hex(), &hex(&[8; 32]), &signature));
        assert!(!verify(&signer.public_key_hex(), &hex(&digest), &"00".repeat(64)));
        assert!(!verify("", &hex(&digest), &signature));
    }

    #[test]
    fn the_first_published_signature_of_bip_340_verifies() {
        assert!(verify(
            "f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9",
            &"00".repeat(32),
            "e907831f80848d1069a5371b402410364bdf1c5f8307b0084c55f1ce2dca821525f66a4a85ea8b71e482a74f382d2ce5ebeee8fdb2172f477df4900d310536c0",
        ));
    }

    #[test]
    fn debug_output_does_not_show_the_secret() {
        let signer = Signer::from_secret(NSEC_HEX).expect("a secret");
        let shown = format!("{signer:?}");
        assert!(shown.contains(&signer.public_key_hex()));
        assert!(!shown.contains(NSEC_HEX) && !shown.contains("67dea2ed"));
    }
}
