//! `GET /internal/v1/credit/agents/:agent_id/exposure`: what an agent has open, and what it would be offered (credit-fx
//! §4.6). Nobody knows an agent before it does something, so one that is unknown has the figures of a new one.

use oa_contract::{
    Answer, Ask, Caller, Handle, Refusal, Stop, Timestamp, matrix::CreditExposure, wire::credit::Exposure,
};
use oa_store::{
    Tx,
    tables::{
        credit as table,
        credit_sums::{self, Whose},
    },
};

use super::{
    CreditPolicy, health, inputs, public_key,
    underwriting::{self, Terms},
};
use crate::Runtime;

struct Looking {
    agent_id: String,
    caller: Caller,
    policy: CreditPolicy,
    now: Timestamp,
}

impl Handle<CreditExposure> for Runtime {
    async fn handle(&self, ask: Ask<CreditExposure>) -> Result<Answer<Exposure>, Stop> {
        let looking = Looking {
            agent_id: public_key(&ask.path.agent_id)?,
            caller: ask.caller,
            policy: self.config.credit.clone(),
            now: self.now(),
        };
        Ok(self.store.read("credit.exposure", looking, look).await?.into())
    }
}

async fn look(tx: &mut Tx, looking: &Looking) -> Result<Exposure, Stop> {
    let Looking { agent_id, caller, policy, now } = looking;
    let owner = table::agent(tx, agent_id).await?.map(|agent| agent.owner_key);
    if let (Some(bound), Some(owner)) = (caller.owner(), owner)
        && bound.to_string() != owner
    {
        return Err(Refusal::forbidden("agent_id belongs to another owner").into());
    }
    let inputs = inputs(tx, agent_id, policy, *now).await?;
    let decision = underwriting::decide(&inputs, &Terms::from(policy));
    Ok(Exposure {
        schema: "openagents.credit.agent_exposure_response.v1".into(),
        agent_id: agent_id.clone(),
        open_envelope_count: inputs.open.count,
        open_exposure_sats: inputs.open.sats,
        settled_count_30d: inputs.settled,
        success_volume_sats_30d: inputs.success_volume_sats,
        pass_rate_30d: inputs.pass_rate(),
        loss_count_30d: inputs.losses,
        underwriting_limit_sats: decision.limit_sats,
        underwriting_fee_bps: decision.fee_bps,
        requires_verifier: true,
        computed_at: *now,
        owed_msats: credit_sums::owed(tx, agent_id).await?,
        halted: health::halted(tx, policy, Whose::Agent(agent_id), *now).await?,
        default_count_30d: inputs.defaults,
    })
}
