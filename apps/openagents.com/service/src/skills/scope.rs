//! Decides for which organisations a caller speaks: records are stored in the active one, and seen by the members
//! of each.

use oa_contract::{Caller, Refusal, Stop, wire::identity::Membership};

use crate::{Control, identity::signed_in};

/// A caller as the registry sees them.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub user_id: String,
    pub session_id: String,
    /// The active organisation first, then the others by id.
    pub orgs: Vec<String>,
    active: String,
    writable: Vec<String>,
}

impl Control {
    pub(super) async fn skill_scope(&self, caller: &Caller) -> Result<Scope, Stop> {
        let user = signed_in(caller)?;
        let orgs = self.orgs_of(user).await?;
        Ok(Scope::new(&user.user_id, &user.session_id, &orgs.active, &orgs.memberships))
    }
}

impl Scope {
    fn new(user_id: &str, session_id: &str, active: &str, memberships: &[Membership]) -> Self {
        let mut orgs: Vec<String> = memberships.iter().map(|one| one.org_id.clone()).collect();
        orgs.sort_by(|a, b| (a != active, a).cmp(&(b != active, b)));
        let writable = memberships.iter().filter(|one| writes(one)).map(|one| one.org_id.clone()).collect();
        let [user_id, session_id, active] = [user_id, session_id, active].map(str::to_owned);
        Scope { user_id, session_id, orgs, active, writable }
    }

    /// Where records are stored. A session may have chosen an organisation that its user has left since; nothing
    /// can be written there.
    pub fn active(&self) -> &str {
        &self.active
    }

    /// Refuses an organisation whose records the caller may only read.
    pub fn must_write(&self, org_id: &str) -> Result<(), Refusal> {
        match self.writable.iter().any(|one| one == org_id) {
            true => Ok(()),
            false => Err(Refusal::forbidden(format!(
                "your role in {org_id} does not let you change its registry; it takes the scope `runtime.write`"
            ))),
        }
    }
}

fn writes(membership: &Membership) -> bool {
    matches!(membership.role.as_str(), "owner" | "admin")
        || membership.role_scopes.iter().any(|scope| scope == "runtime.write")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(org_id: &str, role: &str, scopes: &[&str]) -> Membership {
        Membership {
            org_id: org_id.to_owned(),
            org_slug: org_id.replace(':', "-"),
            role: role.to_owned(),
            role_scopes: scopes.iter().map(|one| (*one).to_owned()).collect(),
            default_org: false,
        }
    }

    #[test]
    fn the_active_organisation_stands_first_and_roles_decide_who_writes() {
        let memberships = [
            membership("org:a", "member", &["runtime.read"]),
            membership("org:b", "member", &["runtime.write"]),
            membership("org:c", "admin", &[]),
            membership("user:u", "owner", &[]),
        ];
        let scope = Scope::new("u", "s", "org:c", &memberships);
        assert_eq!(scope.orgs, ["org:c", "org:a", "org:b", "user:u"]);
        assert_eq!(scope.active(), "org:c");
        for org_id in ["org:b", "org:c", "user:u"] {
            assert_eq!(scope.must_write(org_id), Ok(()), "{org_id}");
        }
        for org_id in ["org:a", "org:unknown"] {
            assert!(scope.must_write(org_id).is_err(), "{org_id}");
        }
    }
}
