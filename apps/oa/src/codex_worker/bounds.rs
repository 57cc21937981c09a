//! Decides how a message that is longer than control takes is cut: the longest texts first, and never silently.

use oa_contract::canonical::hex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Texts are cut to this many bytes first, then to half, and so on.
const FIRST: usize = 16 * 1024;
const LAST: usize = 64;

/// The message in at most `limit` bytes, and what was cut from it: `{bytes, sha256}` of the whole.
pub fn fit(text: &str, limit: usize) -> Option<(Value, Value)> {
    if text.len() <= limit {
        return None;
    }
    let digest = hex(&Sha256::digest(text.as_bytes()));
    let cut = json!({"bytes": text.len(), "sha256": digest});
    let mut value: Value = serde_json::from_str(text).unwrap_or(Value::Null);
    let mut longest = FIRST;
    while longest >= LAST {
        shorten(&mut value, longest);
        if value.to_string().len() <= limit {
            return Some((value, cut));
        }
        longest /= 2;
    }
    // Too many parts rather than too long ones: where it belongs is all that is kept.
    let kept = |name: &str| value.get(name).filter(|value| value.is_string()).cloned();
    let named: serde_json::Map<String, Value> = ["threadId", "turnId", "itemId"]
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), kept(name)?)))
        .collect();
    Some((Value::Object(named), cut))
}

fn shorten(value: &mut Value, longest: usize) {
    match value {
        Value::String(text) if text.len() > longest => {
            let at = text.floor_char_boundary(longest);
            *text = format!("{}… ({} bytes)", &text[..at], text.len());
        }
        Value::Array(items) => items.iter_mut().for_each(|item| shorten(item, longest)),
        Value::Object(members) => members.values_mut().for_each(|member| shorten(member, longest)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_left_alone_and_what_does_not_says_what_it_was() {
        assert_eq!(fit("{}", 10), None);
        let long = json!({"threadId": "t", "output": "ä".repeat(100_000), "exit": 3}).to_string();
        let (value, cut) = fit(&long, 20_000).expect("cut");
        assert!(value.to_string().len() <= 20_000);
        assert_eq!((&value["threadId"], &value["exit"]), (&json!("t"), &json!(3)));
        assert_eq!(cut["bytes"], long.len());
        let wide = json!({"threadId": "t", "all": vec![0; 100_000]}).to_string();
        assert_eq!(fit(&wide, 1_000).expect("cut").0, json!({"threadId": "t"}));
    }
}
