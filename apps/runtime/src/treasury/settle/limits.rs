//! Decides how large a sandbox job may be (marketplace §3.7).

use oa_contract::{
    Refusal,
    wire::jobs::{NetworkPolicy, SandboxRunRequest},
};

/// The first rule that a job breaks, in the order of the specification.
pub fn within_limits(request: &SandboxRunRequest) -> Result<(), Refusal> {
    let resources = &request.sandbox.resources;
    let rules = [
        (request.commands.is_empty(), "sandbox request must include at least one command"),
        (request.commands.len() > 20, "sandbox request exceeds 20 command cap"),
        (
            request.commands.iter().any(|command| command.cmd.len() > 4_096),
            "sandbox command exceeds 4096 byte cap",
        ),
        (request.env.len() > 32, "sandbox env exceeds 32 entry cap"),
        (
            request.sandbox.network_policy != NetworkPolicy::None,
            "sandbox network_policy must be none in Phase 0",
        ),
        (resources.timeout_secs > 300, "sandbox timeout_secs exceeds 300 second cap"),
        (resources.memory_mb > 8_192, "sandbox memory_mb exceeds 8192 cap"),
        (resources.cpus > 8.0, "sandbox cpus exceeds 8.0 cap"),
    ];
    match rules.into_iter().find(|(broken, _)| *broken) {
        Some((_, message)) => Err(Refusal::invalid(message)),
        None => Ok(()),
    }
}
