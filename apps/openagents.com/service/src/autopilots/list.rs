//! Decides which autopilots a user sees: their own, the last changed first.

use oa_contract::{Answer, Ask, Handle, Stop, matrix::AutopilotsList, wire::autopilots::AutopilotList};
use oa_store::{
    Tx,
    tables::{
        autopilots::{self as rows, Autopilot},
        threads::Before,
    },
};

use super::{page_size, view};
use crate::{
    Control,
    identity::signed_in,
    threads::{before, cursor},
};

impl Handle<AutopilotsList> for Control {
    async fn handle(&self, ask: Ask<AutopilotsList>) -> Result<Answer<AutopilotList>, Stop> {
        let user_id = signed_in(&ask.caller)?.user_id.clone();
        let limit = page_size(ask.query.limit);
        let asked = (user_id, before(ask.query.before.as_deref())?, limit + 1);
        let mut found = self.store.read("autopilots_list", asked, read).await?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next = found.last().filter(|_| more).map(|last| cursor(last.updated_at, &last.autopilot_id));
        let data = found.into_iter().map(view).collect::<Result<_, _>>()?;
        Ok(AutopilotList { data, next }.into())
    }
}

async fn read(tx: &mut Tx, (user_id, before, limit): &(String, Before, u32)) -> Result<Vec<Autopilot>, Stop> {
    rows::list(tx, user_id, before, *limit).await
}
