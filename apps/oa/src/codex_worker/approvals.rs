//! Decides how codex's questions for permission are answered: by rule, or by whoever is asked, and in codex's own words.

use clap::ValueEnum;
use serde_json::{Value, json};

/// The rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// No, and the agent goes on without
    #[default]
    Decline,
    /// Yes to everything
    Accept,
    /// Whoever watches the worker decides, with an event worker.approval
    Ask,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Accept,
    AcceptForSession,
    Decline,
    /// No, and the turn ends.
    Cancel,
}

impl Decision {
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "accept" => Decision::Accept,
            "acceptForSession" => Decision::AcceptForSession,
            "decline" => Decision::Decline,
            "cancel" => Decision::Cancel,
            _ => return None,
        })
    }

    pub fn word(self) -> &'static str {
        match self {
            Decision::Accept => "accept",
            Decision::AcceptForSession => "acceptForSession",
            Decision::Decline => "decline",
            Decision::Cancel => "cancel",
        }
    }
}

/// Whether this question of codex is one for permission.
pub fn is_for_permission(method: &str) -> bool {
    answer(method, &Value::Null, Decision::Decline).is_some()
}

/// The decision in the words of the method; `None` for a question that we do not know.
pub fn answer(method: &str, params: &Value, decision: Decision) -> Option<Value> {
    let yes = matches!(decision, Decision::Accept | Decision::AcceptForSession);
    Some(match method {
        "item/commandExecution/requestApproval" | "item/fileChange/requestApproval" => {
            json!({"decision": decision.word()})
        }
        "item/permissions/requestApproval" => {
            let scope = if decision == Decision::AcceptForSession { "session" } else { "turn" };
            let granted = if yes { params["permissions"].clone() } else { json!({}) };
            json!({"permissions": granted, "scope": scope})
        }
        // The words of older versions.
        "execCommandApproval" | "applyPatchApproval" => json!({"decision": match decision {
            Decision::Accept => "approved",
            Decision::AcceptForSession => "approved_for_session",
            Decision::Decline => "denied",
            Decision::Cancel => "abort",
        }}),
        // A form cannot be filled in with a yes.
        "mcpServer/elicitation/request" => json!({"action": match decision {
            Decision::Cancel => "cancel",
            _ => "decline",
        }}),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_given_in_the_words_of_the_question() {
        let params = json!({"permissions": {"network": {"enabled": true}}});
        let said = |method, decision| answer(method, &params, decision).expect("a question for permission");
        let command = "item/commandExecution/requestApproval";
        assert_eq!(said(command, Decision::AcceptForSession), json!({"decision": "acceptForSession"}));
        assert_eq!(said("execCommandApproval", Decision::Decline), json!({"decision": "denied"}));
        let permissions = "item/permissions/requestApproval";
        assert_eq!(said(permissions, Decision::Decline)["permissions"], json!({}));
        assert_eq!(said(permissions, Decision::Accept)["permissions"], params["permissions"]);
        assert_eq!(answer("account/chatgptAuthTokens/refresh", &params, Decision::Accept), None);
    }

    #[test]
    fn every_decision_of_the_contract_is_understood() {
        for word in oa_contract::wire::codex::DECISIONS {
            assert_eq!(Decision::parse(word).map(Decision::word), Some(word));
        }
        assert_eq!(Decision::parse("yes"), None);
    }
}
