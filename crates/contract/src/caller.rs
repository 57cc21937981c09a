//! Decides who is asking: what a credential proves once it has been verified, and which owner it speaks for.

use std::fmt;

use crate::refusal::Refusal;

/// Whoever owns runs, workers and money: `user:<id>` or `guest:<scope>` (runtime-core §2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    User(u64),
    Guest(String),
}

impl Owner {
    /// Exactly one of the two must be given; a blank scope beside a user id is tolerated (§14.2).
    pub fn from_parts(user_id: Option<u64>, guest_scope: Option<&str>) -> Result<Self, Refusal> {
        let scope = guest_scope.map(str::trim).filter(|scope| !scope.is_empty());
        match (user_id, scope) {
            (Some(id), None) => Ok(Owner::User(id)),
            (None, Some(scope)) => Ok(Owner::Guest(scope.to_owned())),
            _ => Err(Refusal::invalid("owner_user_id or owner_guest_scope must be provided (but not both)")),
        }
    }

    /// Reads the key form again. Another spelling of an owner is no owner: two names would be two accounts.
    pub fn parse(key: &str) -> Option<Self> {
        let owner = match key.split_once(':')? {
            ("user", id) => id.parse().ok().map(Owner::User),
            ("guest", scope) if !scope.is_empty() && scope.trim() == scope => {
                Some(Owner::Guest(scope.to_owned()))
            }
            _ => None,
        };
        owner.filter(|owner| owner.to_string() == key)
    }

    /// Whether a name looks like an owner's and is none: it could be taken for one.
    pub fn misspelt(name: &str) -> bool {
        let kind = name.split(':').next().unwrap_or_default().trim().to_ascii_lowercase();
        matches!(kind.as_str(), "user" | "guest") && name.contains(':') && Owner::parse(name).is_none()
    }

    pub fn user_id(&self) -> Option<u64> {
        match self {
            Owner::User(id) => Some(*id),
            Owner::Guest(_) => None,
        }
    }

    pub fn guest_scope(&self) -> Option<&str> {
        match self {
            Owner::User(_) => None,
            Owner::Guest(scope) => Some(scope),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::User(id) => write!(f, "user:{id}"),
            Owner::Guest(scope) => write!(f, "guest:{scope}"),
        }
    }
}

/// A verified caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// No credential was needed or asked for.
    Anyone,
    /// Another service of ours. `owner` binds the credential to one owner; without it the caller is an
    /// operator and may name any.
    Service { name: String, owner: Option<Owner> },
    /// A person, or a program with a person's token.
    User(User),
}

/// What a session or a personal token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub user_id: String,
    pub email: String,
    /// The number under which the runtime knows the user (control spec §4).
    pub owner_user_id: u64,
    /// `session_id`, or `pat:<token_id>`.
    pub session_id: String,
    /// The organisation that the credential acts for: a session's own choice, a personal token's default.
    pub active_org_id: String,
    /// Whether the user may do what administrators may.
    pub admin: bool,
    pub credential: Credential,
    pub abilities: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    Session,
    PersonalToken,
}

impl User {
    /// `*` means all. A session may do whatever its user may, and every token may ask about and end itself.
    pub fn may(&self, ability: &str) -> bool {
        self.credential == Credential::Session
            || ability == "self"
            || self.abilities.iter().any(|one| one == "*" || one == ability)
    }
}

impl Caller {
    /// The owner that the credential is bound to, if it is.
    pub fn owner(&self) -> Option<Owner> {
        match self {
            Caller::Anyone => None,
            Caller::Service { owner, .. } => owner.clone(),
            Caller::User(user) => Some(Owner::User(user.owner_user_id)),
        }
    }

    /// An owner named in a request must be the one the credential speaks for (docs/security.md, Owners).
    pub fn must_speak_for(&self, named: &Owner) -> Result<(), Refusal> {
        match self.owner() {
            Some(bound) if bound != *named => {
                Err(Refusal::forbidden(format!("this credential speaks for {bound}, not for {named}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether something that belongs to `owner` (or to nobody in particular) may be seen.
    pub fn may_see(&self, owner: Option<&Owner>) -> bool {
        match self.owner() {
            None => true,
            Some(bound) => owner == Some(&bound),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_owner_is_named() {
        assert_eq!(Owner::from_parts(Some(7), Some("  ")), Ok(Owner::User(7)));
        assert_eq!(Owner::from_parts(None, Some(" lab ")), Ok(Owner::Guest("lab".into())));
        assert!(Owner::from_parts(None, None).is_err());
        assert!(Owner::from_parts(Some(7), Some("lab")).is_err());
    }

    #[test]
    fn an_owner_is_read_back_from_its_key() {
        for owner in [Owner::User(u64::MAX), Owner::Guest("a:b c".into())] {
            assert_eq!(Owner::parse(&owner.to_string()), Some(owner));
        }
        assert_eq!(Owner::parse("user:minus"), None);
    }

    #[test]
    fn an_owner_has_one_spelling() {
        for name in ["user:007", "user:+7", "user: 7", "User:7", "guest: a", "guest:a ", "GUEST:a", "user:"] {
            assert_eq!(Owner::parse(name), None, "{name}");
            assert!(Owner::misspelt(name), "{name}");
        }
        assert!(
            !Owner::misspelt("user:7") && !Owner::misspelt("autopilot:user-1") && !Owner::misspelt("user")
        );
    }

    #[test]
    fn a_bound_credential_neither_names_nor_sees_another_owner() {
        let bound = Caller::Service { name: "control".into(), owner: Some(Owner::User(1)) };
        assert!(bound.must_speak_for(&Owner::User(1)).is_ok());
        assert!(bound.must_speak_for(&Owner::User(2)).is_err());
        assert!(!bound.may_see(None));
        let operator = Caller::Service { name: "operator".into(), owner: None };
        assert!(operator.may_see(Some(&Owner::User(2))));
    }
}
