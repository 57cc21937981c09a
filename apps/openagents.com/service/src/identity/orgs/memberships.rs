//! `GET /api/orgs/memberships`: what the caller is, and where.

use oa_contract::{
    Answer, Ask, Handle, Stop,
    matrix::OrgsMemberships,
    wire::accounts::{MembershipList, Memberships},
};

use crate::{Control, identity::signed_in};

impl Handle<OrgsMemberships> for Control {
    async fn handle(&self, ask: Ask<OrgsMemberships>) -> Result<Answer<MembershipList>, Stop> {
        let orgs = self.orgs_of(signed_in(&ask.caller)?).await?;
        let data = Memberships { active_org_id: orgs.active, memberships: orgs.memberships };
        Ok(MembershipList { data }.into())
    }
}
