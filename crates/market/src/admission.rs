//! Decides which sandbox jobs are taken at all (marketplace §3.7), in this order.

use oa_contract::{
    Refusal,
    wire::jobs::{NetworkPolicy, SandboxRunRequest},
};

const MOST_COMMANDS: usize = 20;
const LONGEST_COMMAND: usize = 4096;
const MOST_ENV: usize = 32;
const LONGEST_TIMEOUT_SECS: u32 = 300;
const MOST_MEMORY_MB: u32 = 8192;
const MOST_CPUS: f32 = 8.0;

pub fn admit(request: &SandboxRunRequest) -> Result<(), Refusal> {
    let resources = &request.sandbox.resources;
    let rules = [
        (request.commands.is_empty(), "sandbox request must include at least one command"),
        (request.commands.len() > MOST_COMMANDS, "sandbox request exceeds 20 command cap"),
        (
            request.commands.iter().any(|command| command.cmd.len() > LONGEST_COMMAND),
            "sandbox command exceeds 4096 byte cap",
        ),
        (request.env.len() > MOST_ENV, "sandbox env exceeds 32 entry cap"),
        (
            request.sandbox.network_policy != NetworkPolicy::None,
            "sandbox network_policy must be none in Phase 0",
        ),
        (resources.timeout_secs > LONGEST_TIMEOUT_SECS, "sandbox timeout_secs exceeds 300 second cap"),
        (resources.memory_mb > MOST_MEMORY_MB, "sandbox memory_mb exceeds 8192 cap"),
        (resources.cpus > MOST_CPUS, "sandbox cpus exceeds 8.0 cap"),
    ];
    match rules.into_iter().find(|(broken, _)| *broken) {
        Some((_, message)) => Err(Refusal::invalid(message)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(change: impl Fn(&mut Value)) -> Option<String> {
        let mut request =
            json!({"sandbox": {"image_digest": "x", "resources": {}}, "commands": [{"cmd": "true"}]});
        change(&mut request);
        let request = serde_json::from_value(request).expect("a request");
        admit(&request).err().map(|refusal| refusal.message)
    }

    #[test]
    fn each_limit_has_its_sentence_and_the_first_that_is_broken_speaks() {
        let resource = |member: &'static str, value: Value| {
            said(move |request| request["sandbox"]["resources"][member] = value.clone())
        };
        let commands = |commands: Value| said(move |request| request["commands"] = commands.clone());
        let env = |count: usize| {
            let env: serde_json::Map<_, _> = (0..count).map(|n| (format!("K{n}"), json!("v"))).collect();
            said(move |request| request["env"] = Value::Object(env.clone()))
        };
        for (said, message) in [
            (commands(json!([])), "sandbox request must include at least one command"),
            (commands(json!(vec![json!({"cmd": ""}); 21])), "sandbox request exceeds 20 command cap"),
            (commands(json!([{"cmd": "é".repeat(2049)}])), "sandbox command exceeds 4096 byte cap"),
            (env(33), "sandbox env exceeds 32 entry cap"),
            (
                said(|request| request["sandbox"]["network_policy"] = json!("full")),
                "sandbox network_policy must be none in Phase 0",
            ),
            (resource("timeout_secs", json!(301)), "sandbox timeout_secs exceeds 300 second cap"),
            (resource("memory_mb", json!(8193)), "sandbox memory_mb exceeds 8192 cap"),
            (resource("cpus", json!(8.1)), "sandbox cpus exceeds 8.0 cap"),
            (
                said(|request| {
                    request["commands"] = json!([]);
                    request["sandbox"]["network_policy"] = json!("full");
                }),
                "sandbox request must include at least one command",
            ),
        ] {
            assert_eq!(said.as_deref(), Some(message));
        }
        for fine in [
            resource("timeout_secs", json!(300)),
            resource("memory_mb", json!(0)),
            resource("cpus", json!(8)),
            resource("cpus", json!(-1)),
            resource("disk_mb", json!(u32::MAX)),
            env(32),
            commands(json!(vec![json!({"cmd": "a".repeat(4096)}); 20])),
        ] {
            assert_eq!(fine, None);
        }
    }
}
