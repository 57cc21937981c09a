//! Decides how automation gets a user and a token without a sign-in (control §5.3): only where it was switched
//! on beside the mock provider, which itself lives on loopback addresses alone. Nothing is proved of the
//! address, so nothing follows from it: no role, no organisation but the personal one.

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop, Timestamp,
    credential::hex,
    matrix::AuthRegister,
    wire::{
        accounts::{Register, RegisterReply, Registered, RegisteredAutopilot, RegisteredUser},
        autopilots::CreateAutopilot,
    },
};
use oa_store::{
    Tx,
    tables::{
        autopilots::Autopilot,
        identity::{self as rows, PersonalToken, User},
    },
};
use sha2::{Digest, Sha256};

use super::{
    PERSONAL, account::must_have_room, authenticate::user_key, me::handle_of, new_secret, normal_email, orgs,
};
use crate::{
    Control, audit,
    autopilots::create::{self, New},
    identity::settings::SignupConfig,
};

const LONGEST: usize = 120;
const MOST_ABILITIES: usize = 100;

impl Handle<AuthRegister> for Control {
    async fn handle(&self, ask: Ask<AuthRegister>) -> Result<Answer<RegisterReply>, Stop> {
        let now = self.clock.now();
        let signup = self.config.accounts.signup.as_ref().ok_or_else(not_served)?;
        let wish = decide(&ask.body, signup, &self.config.accounts.admin_emails)?;
        let (secret, hash) = new_secret(&*self.ids, PERSONAL);
        let token = PersonalToken {
            token_id: format!("pat_{}", self.ids.uuid32()),
            user_id: String::new(),
            name: wish.token_name.clone(),
            hash,
            abilities: wish.abilities.clone(),
            created_at: now,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
        };
        let user_id = format!("user_{}", self.ids.uuid32());
        let autopilot = match ask.body.create_autopilot {
            Some(true) => {
                let display_name = ask.body.autopilot_display_name.clone();
                let body = CreateAutopilot { display_name, ..CreateAutopilot::default() };
                let id = format!("autopilot_{}", self.ids.uuid32());
                Some(create::decide(body, id, &user_id, now, self.config.autopilots_max)?)
            }
            _ => None,
        };
        let key = user_key(&wish.email);
        let new = (wish.clone(), user_id, token, autopilot, now, self.config.tokens_max);
        let (user, created, autopilot) = self.store.write("identity_register", key, new, keep).await?;
        let domain = user.email.rsplit('@').next().unwrap_or_default();
        let attributes = [
            ("created", if created { "true" } else { "false" }),
            ("token_name", wish.token_name.as_str()),
            ("autopilot_created", if autopilot.is_some() { "true" } else { "false" }),
            ("email_domain", domain),
        ];
        let event = audit::Event {
            name: "auth.register.completed",
            user_id: Some(&user.user_id),
            attributes: &attributes,
            ..audit::Event::default()
        };
        audit::success(event, &ask.meta, now);
        let data = Registered {
            created,
            token_type: "Bearer".into(),
            token: secret,
            token_name: wish.token_name,
            token_abilities: wish.abilities,
            user: RegisteredUser {
                handle: handle_of(&user.email),
                id: user.user_id,
                name: user.name,
                email: user.email,
            },
            autopilot: autopilot.map(|made| RegisteredAutopilot {
                id: made.autopilot_id,
                handle: made.handle,
                display_name: made.display_name,
                status: made.status,
                visibility: made.visibility,
            }),
        };
        Ok(Answer::new(RegisterReply { data }).with_status(if created { 201 } else { 200 }))
    }
}

fn not_served() -> Refusal {
    Refusal::not_found("Sign-up without a sign-in is not served here.")
}

/// A sign-up that may be done.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wish {
    email: String,
    name: Option<String>,
    token_name: String,
    abilities: Vec<String>,
}

fn decide(body: &Register, signup: &SignupConfig, admins: &[String]) -> Result<Wish, Refusal> {
    let email = normal_email(&body.email)?;
    let domain = email.rsplit('@').next().unwrap_or_default();
    if !signup.domains.is_empty() && !signup.domains.iter().any(|one| one == domain) {
        return Err(Refusal::field("email", "addresses of this domain cannot sign up here"));
    }
    if admins.contains(&email) {
        return Err(administrator());
    }
    let name = short("name", body.name.as_deref())?;
    let token_name =
        short("tokenName", body.token_name.as_deref())?.unwrap_or_else(|| signup.token_name.clone());
    let abilities = abilities(body.token_abilities.as_deref().unwrap_or_default())?;
    short("autopilotDisplayName", body.autopilot_display_name.as_deref())?;
    Ok(Wish { email, name, token_name, abilities })
}

/// Whoever could make a token for an administrator would be one.
fn administrator() -> Refusal {
    Refusal::forbidden("This address belongs to an administrator, who has to sign in.")
}

/// Trimmed; blank is absent.
fn short(field: &'static str, text: Option<&str>) -> Result<Option<String>, Refusal> {
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    match text {
        Some(text) if text.chars().count() > LONGEST => {
            Err(Refusal::field(field, format!("{field} must be at most {LONGEST} characters")))
        }
        text => Ok(text.map(str::to_owned)),
    }
}

fn abilities(given: &[String]) -> Result<Vec<String>, Refusal> {
    let all: Vec<String> =
        given.iter().map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect();
    if all.len() > MOST_ABILITIES || all.iter().any(|one| one.chars().count() > LONGEST) {
        let message = format!("there may be {MOST_ABILITIES} abilities of at most {LONGEST} characters each");
        return Err(Refusal::field("tokenAbilities", message));
    }
    Ok(if all.is_empty() { vec!["*".to_owned()] } else { all })
}

/// `a.b-c@…` is called `A B C`.
fn name_of(email: &str) -> String {
    let local = email.split('@').next().unwrap_or_default();
    let words = local.split(['.', '-', '_', ' ']).filter(|word| !word.is_empty()).map(|word| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_uppercase().chain(letters).collect::<String>())
            .unwrap_or_default()
    });
    let name: String = words.collect::<Vec<_>>().join(" ").chars().take(LONGEST).collect();
    if name.is_empty() { "User".to_owned() } else { name }
}

/// Finds or makes the user and keeps the token with them, and the autopilot that was asked for.
async fn keep(
    tx: &mut Tx,
    (wish, user_id, token, autopilot, now, most): &(Wish, String, PersonalToken, Option<New>, Timestamp, u32),
) -> Result<(User, bool, Option<Autopilot>), Stop> {
    let known = rows::user_by_email(tx, &wish.email).await?;
    let created = known.is_none();
    let user = match known {
        Some(known) if known.admin => return Err(administrator().into()),
        Some(known) => {
            let name = wish.name.clone().unwrap_or_else(|| known.name.clone());
            User { name, updated_at: *now, ..known }
        }
        None => User {
            user_id: user_id.clone(),
            provider_id: format!("api_bootstrap_{}", &hex(&Sha256::digest(wish.email.as_bytes()))[..32]),
            name: wish.name.clone().unwrap_or_else(|| name_of(&wish.email)),
            email: wish.email.clone(),
            admin: false,
            created_at: *now,
            updated_at: *now,
        },
    };
    rows::put_user(tx, &user).await?;
    orgs::join_defaults(tx, &user.user_id, None, *now).await?;
    must_have_room(tx, &user.user_id, *most).await?;
    rows::put_token(tx, &PersonalToken { user_id: user.user_id.clone(), ..token.clone() }).await?;
    let made = match autopilot {
        Some(new) => {
            let user_id = user.user_id.clone();
            let new = New { autopilot: Autopilot { user_id, ..new.autopilot.clone() }, ..new.clone() };
            Some(create::insert(tx, &new).await?)
        }
        None => None,
    };
    Ok((user, created, made))
}

#[cfg(test)]
mod tests {
    use oa_contract::Service;

    use super::*;
    use crate::testing::World;

    fn body(email: &str) -> Register {
        Register { email: email.to_owned(), ..Register::default() }
    }

    async fn open(more: &[(&str, &str)]) -> World {
        let mut env = vec![("OA_AUTH_PROVIDER_MODE", "mock"), ("OA_AUTH_API_SIGNUP_ENABLED", "1")];
        env.extend_from_slice(more);
        World::with_runtime(&env).await
    }

    #[test]
    fn a_name_is_made_of_the_address() {
        assert_eq!(name_of("a.b-c@ex.com"), "A B C");
        assert_eq!(name_of("..@ex.com"), "User");
        assert_eq!(name_of(&format!("{}@ex.com", "x".repeat(200))).chars().count(), 120);
    }

    #[tokio::test]
    async fn sign_up_is_not_served_unless_it_is_switched_on() {
        let refused = World::new().await.ask::<AuthRegister>(body("a@ex.com")).await.expect_err("refused");
        assert_eq!(refused.status(Service::Control), 404);
    }

    #[tokio::test]
    async fn a_user_is_made_once_and_gets_a_token_each_time() {
        let world = open(&[]).await;
        let first = world.ask::<AuthRegister>(body("A.b-c@ex.com")).await.expect("registered");
        assert_eq!(first.status, Some(201));
        let data = first.body.data;
        assert_eq!((data.user.name.as_str(), data.user.handle.as_str()), ("A B C", "a-b-c"));
        assert_eq!((data.token_name.as_str(), data.token_abilities), ("api-bootstrap", vec!["*".to_owned()]));
        assert!(world.whoami(data.token.reveal()).await.is_ok());
        let again = world.ask::<AuthRegister>(body("a.b-c@ex.com")).await.expect("registered");
        assert_eq!((again.status, again.body.data.created), (Some(200), false));
        assert_eq!(again.body.data.user.id, data.user.id);
        assert!(!world.files_hold(data.token.reveal()).await, "the secret is on the disk");
    }

    #[tokio::test]
    async fn an_autopilot_is_made_with_the_user_when_it_is_asked_for() {
        let world = open(&[]).await;
        let named = |name: &str| Register {
            create_autopilot: Some(true),
            autopilot_display_name: Some(name.to_owned()),
            ..body("a@ex.com")
        };
        let first = world.ask::<AuthRegister>(named(" Night Watch ")).await.expect("registered").body.data;
        let made = first.autopilot.expect("an autopilot");
        assert_eq!((made.handle.as_str(), made.display_name.as_str()), ("night-watch", "Night Watch"));
        assert_eq!((made.status.as_str(), made.visibility.as_str()), ("active", "private"));
        let again = world.ask::<AuthRegister>(named("Night Watch")).await.expect("registered").body.data;
        let other = again.autopilot.expect("another");
        assert_eq!((again.created, other.handle.as_str()), (false, "night-watch-2"));
        let ask = (first.user.id, other.id);
        let read = async |tx: &mut Tx, (user_id, id): &(String, String)| {
            oa_store::tables::autopilots::of_owner(tx, user_id, id).await
        };
        let kept = world.control.store.read("test_autopilot", ask, read).await.expect("a read");
        assert_eq!(kept.expect("it is the user's").handle, "night-watch-2");
        let unnamed = Register { create_autopilot: Some(true), ..body("b@ex.com") };
        let unnamed = world.ask::<AuthRegister>(unnamed).await.expect("registered").body.data;
        assert_eq!(unnamed.autopilot.expect("an autopilot").display_name, "Autopilot");
        let none = world.ask::<AuthRegister>(body("c@ex.com")).await.expect("registered").body.data;
        assert!(none.autopilot.is_none());
    }

    #[tokio::test]
    async fn nothing_follows_from_an_address_that_nobody_proved() {
        let world = open(&[("OA_ADMIN_EMAILS", "Root@Ex.com")]).await;
        let house = world.ask::<AuthRegister>(body("eve@openagents.com")).await.expect("registered");
        let session = world.whoami(house.body.data.token.reveal()).await.expect("a view");
        assert_eq!(session.memberships.len(), 1);
        let refused = world.ask::<AuthRegister>(body("root@ex.com")).await.expect_err("refused");
        assert_eq!(refused.status(Service::Control), 403);
        let admin = world.sign_in("root@ex.com", "a").await;
        assert!(world.signed_in(admin.token.reveal()).await.admin);
        assert!(!world.signed_in(house.body.data.token.reveal()).await.admin);
        let member = world.sign_in("eve@openagents.com", "a").await;
        assert_eq!(world.whoami(member.token.reveal()).await.expect("a view").memberships.len(), 2);
    }

    #[tokio::test]
    async fn each_field_has_its_limit() {
        let world = open(&[("OA_AUTH_API_SIGNUP_ALLOWED_DOMAINS", "ex.com")]).await;
        let long = Some("x".repeat(121));
        for (field, body) in [
            ("email", body(" ")),
            ("email", body("a@other.com")),
            ("name", Register { name: long.clone(), ..body("a@ex.com") }),
            ("tokenName", Register { token_name: long.clone(), ..body("a@ex.com") }),
            (
                "tokenAbilities",
                Register { token_abilities: Some(Vec::from_iter(long.clone())), ..body("a@ex.com") },
            ),
            ("autopilotDisplayName", Register { autopilot_display_name: long.clone(), ..body("a@ex.com") }),
        ] {
            let refused = world.ask::<AuthRegister>(body).await.expect_err(field);
            assert_eq!((refused.status(Service::Control), refused.field.as_deref()), (422, Some(field)));
        }
    }

    #[tokio::test]
    async fn sign_up_and_sign_in_share_one_window() {
        let world = open(&[]).await;
        for _ in 0..15 {
            let _ = world.ask::<AuthRegister>(body("")).await;
            let _ = world.ask::<oa_contract::matrix::AuthEmail>(crate::testing::email("")).await;
        }
        let refused = world.ask::<AuthRegister>(body("a@ex.com")).await.expect_err("refused");
        assert_eq!(refused.status(Service::Control), 429);
    }
}
