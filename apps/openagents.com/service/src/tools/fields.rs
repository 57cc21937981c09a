//! Decides how the free members of a call are read: under either spelling, trimmed, and refused by their name when
//! they are of another kind.

use oa_contract::Refusal;
use serde_json::{Map, Value};

/// The members of an object, under `snake_case` or `camelCase`.
#[derive(Clone, Copy)]
pub struct Members<'a> {
    map: &'a Map<String, Value>,
    /// What stands before the name in a refusal: `request.`, `policy.`.
    place: &'static str,
}

impl<'a> Members<'a> {
    pub fn of(map: &'a Map<String, Value>, place: &'static str) -> Self {
        Members { map, place }
    }

    pub fn field(&self, name: &str) -> String {
        format!("{}{name}", self.place)
    }

    pub fn refuse(&self, name: &str, why: impl std::fmt::Display) -> Refusal {
        let field = self.field(name);
        let message = format!("{field} {why}");
        Refusal::field(field, message)
    }

    /// A member that is there and not null.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        let found = self.map.get(name).or_else(|| self.map.get(&camel(name)));
        found.filter(|value| !value.is_null())
    }

    /// A text, trimmed; blank is absent.
    pub fn text(&self, name: &str, most: usize) -> Result<Option<&'a str>, Refusal> {
        match text(self.get(name), most) {
            Ok(text) => Ok(text),
            Err(why) => Err(self.refuse(name, why)),
        }
    }

    pub fn required(&self, name: &str, most: usize) -> Result<&'a str, Refusal> {
        self.text(name, most)?.ok_or_else(|| self.refuse(name, "is required"))
    }

    /// A whole number that is not negative, or decimal digits.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match number(value) {
            Some(number) => Ok(Some(number)),
            None => Err(self.refuse(name, "must be a whole number that is not negative")),
        }
    }

    /// `true`, `false`, or the words for them.
    pub fn switch(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => switch(value).map(Some).ok_or_else(|| self.refuse(name, "must be true or false")),
        }
    }
}

fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let mut out = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        out.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    out
}

/// `opt_str(most)` of control §3.
pub fn text(value: Option<&Value>, most: usize) -> Result<Option<&str>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            let text = text.trim();
            match text.chars().count() {
                0 => Ok(None),
                long if long > most => Err(format!("must be at most {most} characters")),
                _ if text.contains('\0') => Err("must not contain the character U+0000".into()),
                _ => Ok(Some(text)),
            }
        }
        Some(_) => Err("must be a string".into()),
    }
}

/// `pos_int` of control §3.
pub fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(digits) => {
            let digits = digits.trim();
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
        }
        _ => None,
    }
}

pub fn switch(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(on) => Some(*on),
        Value::String(word) => match word.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" => Some(true),
            "0" | "false" | "no" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_member_is_found_under_both_spellings() {
        let value = json!({"toolCallId": " t1 ", "max_spend_msats": "42", "body": null, "flag": "YES"});
        let members = Members::of(value.as_object().expect("an object"), "request.");
        assert_eq!(members.text("tool_call_id", 10), Ok(Some("t1")));
        assert_eq!(members.number("max_spend_msats"), Ok(Some(42)));
        assert_eq!(members.switch("flag"), Ok(Some(true)));
        assert!(members.get("body").is_none());
    }

    #[test]
    fn another_kind_is_refused_by_its_name() {
        let value = json!({"a": 1, "b": -1, "c": "1.5", "d": 2, "e": "x", "f": ""});
        let members = Members::of(value.as_object().expect("an object"), "request.");
        assert_eq!(members.text("a", 9).expect_err("a number").field.as_deref(), Some("request.a"));
        for name in ["b", "c", "e", "f"] {
            assert!(members.number(name).is_err(), "{name}");
        }
        assert!(members.switch("d").is_err());
        assert_eq!(members.text("f", 9), Ok(None));
        assert!(members.required("f", 9).is_err());
    }
}
