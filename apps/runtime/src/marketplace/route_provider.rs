//! `POST /internal/v1/marketplace/route/provider`: who would be chosen now, and why (marketplace §5.1). Changes
//! nothing and is counted nowhere.

use oa_contract::{
    Answer, Ask, Handle, Owner, Refusal, Stop, matrix::MarketplaceRouteProvider, wire::jobs::Resources,
    wire::marketplace::Selection,
};
use oa_market::{Candidate, Need, index::Ranked};

use crate::{
    Runtime,
    workers::{owner, snapshot::Moment},
};

/// Candidates that are told of beside the one that is chosen.
const EXPLAINED: usize = 8;

impl Handle<MarketplaceRouteProvider> for Runtime {
    async fn handle(&self, ask: Ask<MarketplaceRouteProvider>) -> Result<Answer<Selection>, Stop> {
        let owner = owner(&ask.caller, ask.body.owner_user_id, ask.body.owner_guest_scope.as_deref())?;
        let moment = Moment::of(self);
        let ranked = self.ranked(&owner, &ask.body.capability, None, moment).await?;
        Ok(selection(&ranked, moment)?.into())
    }
}

impl Runtime {
    /// Who can do it now, best first.
    pub(super) async fn ranked(
        &self,
        owner: &Owner,
        capability: &str,
        resources: Option<&Resources>,
        moment: Moment,
    ) -> Result<Ranked, Stop> {
        self.market.refresh(&self.store, &self.hub).await?;
        let need =
            Need { capability, owner, resources, now: moment.now, stale_after_ms: moment.stale_after_ms };
        Ok(self.market.rank(need, EXPLAINED))
    }
}

/// The best of them, with the reasons.
pub(super) fn selection(ranked: &Ranked, moment: Moment) -> Result<Selection, Refusal> {
    let best = ranked.candidates.first().ok_or_else(|| nobody(ranked))?;
    Ok(selected(best, ranked, moment))
}

/// This one of them, with the reasons.
pub(super) fn selected(chosen: &Candidate, ranked: &Ranked, moment: Moment) -> Selection {
    let mut considered = vec![chosen.considered(None)];
    let is_chosen = |one: &&Candidate| one.offer.standing.worker_id != chosen.offer.standing.worker_id;
    considered.extend(ranked.candidates.iter().filter(is_chosen).map(|one| one.considered(Some(chosen))));
    considered.extend(ranked.passed.iter().cloned());
    Selection {
        provider: chosen.offer.entry(moment.now, moment.stale_after_ms),
        tier: chosen.tier,
        considered,
    }
}

/// Nobody can do it; of whoever was looked at it is said why not.
pub(super) fn nobody(ranked: &Ranked) -> Refusal {
    let mut message = "no eligible provider".to_owned();
    for one in ranked.passed.iter().take(4) {
        message.push_str(&format!("; {}: {}", one.provider_id, one.reason));
    }
    Refusal::not_found(message)
}
