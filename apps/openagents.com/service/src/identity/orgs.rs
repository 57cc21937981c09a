//! Decides what a user is in which organisation (control §6), and which of them a request acts for.

mod activate;
mod memberships;

use oa_contract::{Refusal, Stop, Timestamp, User, wire::identity::Membership};
use oa_store::{
    Tx,
    tables::accounts::{self, Membership as Kept},
};

use crate::Control;

const OWNER_SCOPES: [&str; 6] = [
    "runtime.read",
    "runtime.write",
    "sync.subscribe",
    "policy.evaluate",
    "org.membership.read",
    "org.membership.write",
];
const MEMBER_SCOPES: [&str; 4] = ["runtime.read", "sync.subscribe", "policy.evaluate", "org.membership.read"];

/// Whoever proves an address of this domain belongs to the house.
const HOUSE_DOMAIN: &str = "@openagents.com";
const HOUSE: &str = "org:openagents";

/// The organisations of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orgs {
    /// The one that the request acts for.
    pub active: String,
    /// Ascending by `org_id`; never empty.
    pub memberships: Vec<Membership>,
}

impl Orgs {
    /// What the caller is in this organisation, if they are anything.
    pub fn membership(&self, org_id: &str) -> Option<&Membership> {
        self.memberships.iter().find(|one| one.org_id == org_id)
    }

    pub fn has(&self, org_id: &str) -> bool {
        self.membership(org_id).is_some()
    }

    /// The ids of all of them, ascending.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.memberships.iter().map(|one| one.org_id.as_str())
    }
}

impl Control {
    /// The organisations of a caller: one indexed question.
    pub async fn orgs_of(&self, user: &User) -> Result<Orgs, Stop> {
        let user_id = (user.user_id.clone(),);
        let memberships = self.store.read("orgs_of_caller", user_id, of_user).await?;
        Ok(Orgs { active: user.active_org_id.clone(), memberships })
    }
}

async fn of_user(tx: &mut Tx, (user_id,): &(String,)) -> Result<Vec<Membership>, Stop> {
    memberships_in(tx, user_id).await
}

/// The same inside a transaction of another decision.
pub(crate) async fn memberships_in(tx: &mut Tx, user_id: &str) -> Result<Vec<Membership>, Stop> {
    let kept = accounts::memberships(tx, user_id).await?.into_iter().map(show).collect();
    Ok(complete(user_id, kept))
}

/// Makes a user a member of what everybody, or everybody with this proven address, is a member of.
pub(crate) async fn join_defaults(
    tx: &mut Tx,
    user_id: &str,
    proven_email: Option<&str>,
    now: Timestamp,
) -> Result<(), Stop> {
    accounts::join(tx, &personal(user_id, now)).await?;
    match proven_email {
        Some(email) if email.ends_with(HOUSE_DOMAIN) => accounts::join(tx, &house(user_id, now)).await,
        _ => Ok(()),
    }
}

/// Administrators only.
pub fn require_admin(user: &User) -> Result<(), Refusal> {
    match user.admin {
        true => Ok(()),
        false => Err(Refusal::forbidden("Forbidden.")),
    }
}

/// The organisation that every user has.
pub(crate) fn personal_org(user_id: &str) -> String {
    format!("user:{user_id}")
}

fn personal(user_id: &str, now: Timestamp) -> Kept {
    Kept {
        user_id: user_id.to_owned(),
        org_id: personal_org(user_id),
        org_slug: format!("user-{user_id}"),
        role: "owner".to_owned(),
        role_scopes: OWNER_SCOPES.map(str::to_owned).to_vec(),
        default_org: true,
        created_at: now,
    }
}

fn house(user_id: &str, now: Timestamp) -> Kept {
    Kept {
        user_id: user_id.to_owned(),
        org_id: HOUSE.to_owned(),
        org_slug: "openagents".to_owned(),
        role: "member".to_owned(),
        role_scopes: MEMBER_SCOPES.map(str::to_owned).to_vec(),
        default_org: false,
        created_at: now,
    }
}

fn show(kept: Kept) -> Membership {
    let Kept { org_id, org_slug, role, role_scopes, default_org, .. } = kept;
    Membership { org_id, org_slug, role, role_scopes, default_org }
}

/// In order, with one default, and with the personal organisation: a user who has not come by since
/// organisations are kept has it all the same.
fn complete(user_id: &str, mut memberships: Vec<Membership>) -> Vec<Membership> {
    let own = personal_org(user_id);
    if !memberships.iter().any(|one| one.org_id == own) {
        memberships.push(show(personal(user_id, Timestamp::EPOCH)));
    }
    memberships.sort_unstable_by(|a, b| a.org_id.cmp(&b.org_id));
    if !memberships.iter().any(|one| one.default_org)
        && let Some(first) = memberships.first_mut()
    {
        first.default_org = true;
    }
    memberships
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn everybody_owns_their_own_and_the_house_has_its_members() {
        let world = World::new().await;
        let session = world.sign_in("dev@example.com", "a").await;
        let caller = world.signed_in(session.token.reveal()).await;
        let orgs = world.control.orgs_of(&caller).await.expect("orgs");
        assert_eq!(orgs.active, format!("user:{}", session.user_id));
        assert_eq!(orgs.ids().collect::<Vec<_>>(), [orgs.active.as_str()]);
        let session = world.sign_in("ada@openagents.com", "a").await;
        let orgs = world.control.orgs_of(&world.signed_in(session.token.reveal()).await).await.expect("orgs");
        let house = orgs.membership("org:openagents").expect("a member");
        assert_eq!((house.role.as_str(), house.default_org), ("member", false));
        assert!(!house.role_scopes.contains(&"runtime.write".to_owned()));
        assert!(orgs.ids().is_sorted() && orgs.ids().count() == 2);
    }

    #[tokio::test]
    async fn a_user_from_before_organisations_has_the_personal_one() {
        let world = World::new().await;
        let read = async |tx: &mut Tx, (): &()| memberships_in(tx, "user_of_old").await;
        let found = world.control.store.read("test_orgs", (), read).await.expect("read");
        assert_eq!((found[0].org_id.as_str(), found[0].default_org), ("user:user_of_old", true));
    }

    #[test]
    fn the_first_becomes_the_default_when_none_is() {
        let mut other = show(house("u", Timestamp::EPOCH));
        other.org_id = "aaa".into();
        let mut own = show(personal("u", Timestamp::EPOCH));
        own.default_org = false;
        let all = complete("u", vec![own, other]);
        assert_eq!((all[0].org_id.as_str(), all[0].default_org, all[1].default_org), ("aaa", true, false));
    }
}
