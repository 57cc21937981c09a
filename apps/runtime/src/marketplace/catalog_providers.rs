//! `GET /internal/v1/marketplace/catalog/providers`: who offers, whether or not they can be had now, ascending by
//! provider. Whoever speaks for one owner sees that owner's providers and those that serve everybody.

use std::sync::Arc;

use oa_contract::{
    Answer, Ask, Fault, Handle, Owner, Refusal, Stop,
    matrix::MarketplaceCatalogProviders,
    wire::marketplace::{ListProviders, ProviderCatalog},
};
use oa_market::{Index, Offer};

use crate::{Runtime, workers::snapshot::Moment};

const LARGEST_PAGE: u64 = 10_000;

#[derive(Debug)]
struct Wanted {
    /// Whose.
    owner: Option<Owner>,
    /// Besides the reserve pool, only this owner's are shown.
    shown_to: Option<Owner>,
    capability: Option<String>,
    after: Option<(String, String)>,
    page: Option<usize>,
}

impl Handle<MarketplaceCatalogProviders> for Runtime {
    async fn handle(&self, ask: Ask<MarketplaceCatalogProviders>) -> Result<Answer<ProviderCatalog>, Stop> {
        let wanted = read(ask.query)?;
        if let Some(owner) = &wanted.owner {
            ask.caller.must_speak_for(owner)?;
        }
        let wanted = Wanted { shown_to: ask.caller.owner(), ..wanted };
        self.market.refresh(&self.store, &self.hub).await?;
        let moment = Moment::of(self);
        let (offers, more) = self.market.with(|index| decide(index, &wanted));
        let next = match offers.last().filter(|_| more) {
            Some(last) => Some(place(last)?),
            None => None,
        };
        let entry = |offer: &Arc<Offer>| offer.entry(moment.now, moment.stale_after_ms);
        Ok(ProviderCatalog { providers: offers.iter().map(entry).collect(), next }.into())
    }
}

fn decide(index: &Index, wanted: &Wanted) -> (Vec<Arc<Offer>>, bool) {
    let shown = |offer: &&Arc<Offer>| {
        let standing = &offer.standing;
        let visible =
            wanted.shown_to.as_ref().is_none_or(|owner| standing.owner == *owner || standing.reserve_pool);
        let capable = wanted
            .capability
            .as_ref()
            .is_none_or(|wanted| offer.capabilities.iter().any(|one| one == wanted));
        visible && capable
    };
    let mut listed = index.listed(wanted.owner.as_ref(), wanted.after.clone()).filter(shown);
    let offers = listed.by_ref().take(wanted.page.unwrap_or(usize::MAX)).cloned().collect();
    (offers, listed.next().is_some())
}

fn read(query: ListProviders) -> Result<Wanted, Refusal> {
    let scope = query.owner_guest_scope.as_deref().map(str::trim).filter(|scope| !scope.is_empty());
    let owner = match query.owner_user_id.is_some() || scope.is_some() {
        true => Some(Owner::from_parts(query.owner_user_id, scope)?),
        false => None,
    };
    let page = match query.limit {
        None => None,
        Some(limit @ 1..=LARGEST_PAGE) => usize::try_from(limit).ok(),
        Some(_) => return Err(Refusal::invalid(format!("limit must be between 1 and {LARGEST_PAGE}"))),
    };
    let unknown = |_| Refusal::invalid("after must be the `next` of an earlier answer");
    Ok(Wanted {
        owner,
        shown_to: None,
        capability: query.capability.map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()),
        after: query.after.as_deref().map(serde_json::from_str).transpose().map_err(unknown)?,
        page,
    })
}

/// Where an offer stands in the list.
fn place(offer: &Offer) -> Result<String, Fault> {
    serde_json::to_string(&(&offer.provider_id, &offer.standing.worker_id))
        .map_err(|error| Fault::new("writing a place in the catalogue", error))
}
