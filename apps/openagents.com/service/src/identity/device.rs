//! Decides which device a session lives on: the one that the client names, or one named after the client.

use oa_contract::Refusal;

/// The name of a session's tokens, from `x-client`.
pub fn token_name(client: Option<&str>) -> String {
    let client = client.unwrap_or_default().trim().to_lowercase();
    match client.as_str() {
        "autopilot-ios" | "openagents-expo" => format!("mobile:{client}"),
        "autopilot-desktop" | "openagents-desktop" => format!("desktop:{client}"),
        _ => "device:unknown".to_owned(),
    }
}

/// A device id as it is kept; blank is none.
pub fn device_id(requested: Option<&str>) -> Result<Option<String>, Refusal> {
    let Some(id) = requested.map(str::trim).filter(|id| !id.is_empty()) else { return Ok(None) };
    let plain =
        id.len() <= 160 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":._-".contains(&byte));
    match plain {
        true => Ok(Some(id.to_lowercase())),
        false => {
            Err(Refusal::field("device_id", "device_id may hold at most 160 letters, digits and : . _ -"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_clients_name_their_tokens() {
        assert_eq!(token_name(Some(" Autopilot-Desktop ")), "desktop:autopilot-desktop");
        assert_eq!(token_name(Some("openagents-expo")), "mobile:openagents-expo");
        assert_eq!(token_name(Some("curl")), "device:unknown");
        assert_eq!(token_name(None), "device:unknown");
    }

    #[test]
    fn a_device_id_is_lowered_and_checked() {
        assert_eq!(device_id(Some(" iOS:7 ")), Ok(Some("ios:7".into())));
        assert_eq!(device_id(Some(" ")), Ok(None));
        for bad in ["a b", "ü", "a/b", &"x".repeat(161)] {
            assert_eq!(device_id(Some(bad)).expect_err(bad).field.as_deref(), Some("device_id"));
        }
    }
}
