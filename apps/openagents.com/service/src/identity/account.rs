//! Decides how a user and a token are made outside of a sign-in: what `oa user add` and `oa token issue` call
//! straight on the store, and what `POST /api/tokens` shares with them.

use oa_contract::{Clock, Ids, Refusal, Stop, Timestamp, credential::hex, wire::identity::Secret};
use oa_store::{
    Store, Tx,
    tables::identity::{self as rows, PersonalToken, User},
};
use sha2::{Digest, Sha256};

use super::{
    PERSONAL,
    authenticate::{unauthenticated, user_key},
    new_secret, normal_email, orgs,
    sessions::is_good,
};

/// A user to be made.
#[derive(Clone, Debug, Default)]
pub struct NewUser {
    pub email: String,
    /// The part of the address before the `@`, if absent.
    pub name: Option<String>,
    pub admin: bool,
}

/// A personal token to be made.
#[derive(Clone, Debug, Default)]
pub struct NewToken {
    /// 1 to 100 characters.
    pub name: String,
    /// `runtime.read`, `runtime.write`, `tokens.manage`; none means `*`, which is all.
    pub abilities: Vec<String>,
    /// The exact moment from which the token is no good; none means never.
    pub expires_at: Option<Timestamp>,
}

impl NewToken {
    /// A token that may do everything and does not expire.
    pub fn named(name: impl Into<String>) -> Self {
        NewToken { name: name.into(), ..NewToken::default() }
    }
}

/// A personal token and, this once, its secret.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    pub secret: Secret,
    pub token: PersonalToken,
}

/// Makes a user, or changes the name and the role of the one with this address. Says whether it is new.
pub async fn add_user(
    store: &Store,
    clock: &dyn Clock,
    ids: &dyn Ids,
    new: NewUser,
) -> Result<(User, bool), Stop> {
    let email = normal_email(&new.email)?;
    let now = clock.now();
    let local = email.split('@').next().unwrap_or(&email).to_owned();
    let name = new.name.as_deref().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
    if name.as_ref().is_some_and(|name| name.chars().count() > 120) {
        return Err(Refusal::field("name", "name must be at most 120 characters").into());
    }
    let user = User {
        user_id: format!("user_{}", ids.uuid32()),
        provider_id: format!("local_{}", &hex(&Sha256::digest(email.as_bytes()))[..32]),
        name: name.clone().unwrap_or(local),
        admin: new.admin,
        created_at: now,
        updated_at: now,
        email,
    };
    store.write("identity_add_user", user_key(&user.email), (user.clone(), name), add).await
}

async fn add(tx: &mut Tx, (new, name): &(User, Option<String>)) -> Result<(User, bool), Stop> {
    let known = rows::user_by_email(tx, &new.email).await?;
    let created = known.is_none();
    let user = match known {
        None => new.clone(),
        Some(known) => User {
            name: name.clone().unwrap_or_else(|| known.name.clone()),
            admin: new.admin || known.admin,
            updated_at: new.updated_at,
            ..known
        },
    };
    rows::put_user(tx, &user).await?;
    // Whoever may run this command answers for the address.
    orgs::join_defaults(tx, &user.user_id, Some(&user.email), new.updated_at).await?;
    Ok((user, created))
}

/// The user with this address.
pub async fn find_user(store: &Store, email: &str) -> Result<Option<User>, Stop> {
    let email = normal_email(email)?;
    store.read("identity_find_user", (email,), by_email).await
}

async fn by_email(tx: &mut Tx, (email,): &(String,)) -> Result<Option<User>, Stop> {
    rows::user_by_email(tx, email).await
}

/// Makes a personal token of a user. The secret is in the answer and nowhere else.
pub async fn issue_token(
    store: &Store,
    clock: &dyn Clock,
    ids: &dyn Ids,
    user_id: &str,
    new: NewToken,
) -> Result<IssuedToken, Stop> {
    issue(store, clock, ids, new, Wish { user_id, with: None, most: u32::MAX }).await
}

/// Who wishes for a token.
pub(crate) struct Wish<'a> {
    pub user_id: &'a str,
    /// The personal token that asks for the new one, which then cannot outlive it.
    pub with: Option<&'a str>,
    /// How many tokens the user may have; whoever runs the service is not counted.
    pub most: u32,
}

pub(crate) async fn issue(
    store: &Store,
    clock: &dyn Clock,
    ids: &dyn Ids,
    new: NewToken,
    wish: Wish<'_>,
) -> Result<IssuedToken, Stop> {
    let new = checked(new)?;
    let (secret, hash) = new_secret(ids, PERSONAL);
    let token = PersonalToken {
        token_id: format!("pat_{}", ids.uuid32()),
        user_id: wish.user_id.to_owned(),
        name: new.name,
        hash,
        abilities: new.abilities,
        created_at: clock.now(),
        expires_at: new.expires_at,
        revoked_at: None,
        last_used_at: None,
    };
    let with = wish.with.map(str::to_owned);
    store.write("identity_issue_token", (), (token.clone(), with, wish.most), keep).await?;
    Ok(IssuedToken { secret, token })
}

/// A token more needs room: they are listed, and looked through when they are all revoked.
pub(crate) async fn must_have_room(tx: &mut Tx, user_id: &str, most: u32) -> Result<(), Stop> {
    match rows::holds_tokens(tx, user_id, most).await? {
        false => Ok(()),
        true => Err(Refusal::conflict(format!(
            "you have {most} personal tokens, which is as many as one user may have (OA_PERSONAL_TOKENS_MAX); revoke one that you no longer need"
        ))
        .into()),
    }
}

async fn keep(tx: &mut Tx, (token, with, most): &(PersonalToken, Option<String>, u32)) -> Result<(), Stop> {
    if let Some(parent) = with {
        let parent = rows::token(tx, parent).await?;
        let parent = parent.filter(|parent| is_good(parent, token.created_at)).ok_or_else(unauthenticated)?;
        within(&parent, token)?;
    }
    if rows::user(tx, &token.user_id).await?.is_none() {
        return Err(Refusal::not_found(format!("there is no user {}", token.user_id)).into());
    }
    must_have_room(tx, &token.user_id, *most).await?;
    rows::put_token(tx, token).await
}

/// What a token makes ends with it at the latest.
fn within(parent: &PersonalToken, token: &PersonalToken) -> Result<(), Refusal> {
    match (parent.expires_at, token.expires_at) {
        (None, _) => Ok(()),
        (Some(end), Some(wanted)) if wanted <= end => Ok(()),
        (Some(end), _) => Err(Refusal::forbidden(format!(
            "this token cannot make one that outlives it: expiresAt may be {} at the latest",
            end.zulu_seconds()
        ))),
    }
}

/// A token as it may be made: named, its abilities trimmed, and `*` when there are none.
pub fn checked(new: NewToken) -> Result<NewToken, Refusal> {
    let name = new.name.trim().to_owned();
    if !(1..=100).contains(&name.chars().count()) {
        return Err(Refusal::field("name", "name must have 1 to 100 characters"));
    }
    let mut abilities: Vec<String> =
        new.abilities.iter().map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect();
    if abilities.len() > 100 || abilities.iter().any(|one| one.chars().count() > 100) {
        return Err(Refusal::field("abilities", "there may be 100 abilities of at most 100 characters each"));
    }
    if abilities.is_empty() {
        abilities.push("*".to_owned());
    }
    Ok(NewToken { name, abilities, ..new })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[test]
    fn a_token_needs_a_name_and_without_abilities_may_do_everything() {
        let made =
            checked(NewToken { abilities: vec![" ".into()], ..NewToken::named(" ci ") }).expect("checked");
        assert_eq!((made.name.as_str(), made.abilities), ("ci", vec!["*".to_owned()]));
        assert_eq!(checked(NewToken::named(" ")).expect_err("no name").field.as_deref(), Some("name"));
        assert!(checked(NewToken::named("ü".repeat(100))).is_ok());
        let long = NewToken { abilities: vec!["x".repeat(101)], ..NewToken::named("ci") };
        assert_eq!(checked(long).expect_err("too long").field.as_deref(), Some("abilities"));
    }

    #[tokio::test]
    async fn adding_a_user_twice_keeps_the_id_and_never_takes_the_role_away() {
        let world = World::new().await;
        let add = async |name: Option<&str>, admin| {
            let new = NewUser { email: " Ada@Example.com".into(), name: name.map(str::to_owned), admin };
            add_user(&world.control.store, &*world.control.clock, &*world.control.ids, new)
                .await
                .expect("added")
        };
        let (first, created) = add(None, true).await;
        assert!(created && first.admin);
        assert_eq!((first.email.as_str(), first.name.as_str()), ("ada@example.com", "ada"));
        let (second, created) = add(Some("Ada L"), false).await;
        assert!(!created && second.admin);
        assert_eq!((second.user_id, second.name.as_str()), (first.user_id, "Ada L"));
        let found = find_user(&world.control.store, "ADA@example.com").await.expect("read").expect("a user");
        assert_eq!(found.name, "Ada L");
    }

    #[tokio::test]
    async fn a_token_is_made_for_users_only_and_its_secret_is_not_kept() {
        let world = World::new().await;
        let issue = async |user_id: &str| {
            issue_token(
                &world.control.store,
                &*world.control.clock,
                &*world.control.ids,
                user_id,
                NewToken::named("ci"),
            )
            .await
        };
        assert!(matches!(issue("user_nobody").await, Err(Stop::Refusal(_))));
        let user = world.user("dev@example.com").await;
        let issued = issue(&user.user_id).await.expect("issued");
        assert!(issued.secret.reveal().starts_with("oa_pat_"));
        assert!(!world.files_hold(issued.secret.reveal()).await, "the secret is on the disk");
        assert!(world.files_hold(&issued.token.token_id).await, "the row is on the disk");
        assert!(!format!("{issued:?}").contains(issued.secret.reveal()));
    }
}
