//! Decides how a sign-in ends: the first attempt consumes the challenge, right or wrong; the right one begins a
//! session, and ends whatever session the same user had on the same device (control §5.1, §5.3).

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop, Timestamp,
    matrix::AuthVerify,
    wire::identity::{Secret, SignedIn},
};
use oa_store::{
    Tx,
    tables::identity::{self as rows, Challenge, User},
};

use super::{
    authenticate::{cookie_named, user_key},
    device, hash_of, orgs,
    propagation::{self, Notice, Telling},
    provider::{Identity, wrong_code},
    sessions::{self, Kept, Pair, Place, Reason},
    throttle, tokens, view,
};
use crate::{Control, audit};

impl Handle<AuthVerify> for Control {
    async fn handle(&self, ask: Ask<AuthVerify>) -> Result<Answer<SignedIn>, Stop> {
        let now = self.clock.now();
        let signed_in = self.sign_in(&ask, now).await;
        match &signed_in {
            Ok(SignedIn { user_id, session_id, new_user, .. }) => {
                let new_user = if *new_user { "true" } else { "false" };
                let attributes = [("provider", self.provider.name()), ("new_user", new_user)];
                let event = audit::Event {
                    name: "auth.verify.completed",
                    user_id: Some(user_id),
                    session_id: Some(session_id),
                    attributes: &attributes,
                    ..audit::Event::default()
                };
                audit::success(event, &ask.meta, now);
            }
            Err(stop) => audit::failure("auth.verify.failed", stop, &ask.meta, now),
        }
        let clearing = "oa_magic_challenge=; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=0";
        Ok(Answer::new(signed_in?).with_header("set-cookie", clearing))
    }
}

impl Control {
    async fn sign_in(&self, ask: &Ask<AuthVerify>, now: Timestamp) -> Result<SignedIn, Stop> {
        self.throttle.admit(throttle::VERIFY, &throttle::peer_key(&ask.meta.peer), now)?;
        self.provider.ready()?;
        let challenge_id = presented_challenge(ask).ok_or_else(wrong_code)?;
        let hash = hash_of(challenge_id);
        self.throttle.admit(throttle::CHALLENGE, &oa_contract::credential::hex(&hash.0), now)?;
        let challenge = self.store.write("identity_take_challenge", (), hash, rows::take_challenge).await?;
        let challenge = decide(challenge, ask.body.code.reveal(), now)?;
        let identity =
            self.provider.verify(&challenge.email, &challenge.provider_id, ask.body.code.reveal())?;
        let token_name = device::token_name(ask.meta.header("x-client"));
        let requested = ask.body.device_id.as_deref().or_else(|| ask.meta.header("x-device-id"));
        let device_id = device::device_id(requested)?.unwrap_or_else(|| token_name.clone());
        let pair = Pair::new(&*self.ids, &self.config.auth, now);
        let key = user_key(&identity.email);
        let arrival = Arrival {
            admin: self.config.accounts.admin_emails.contains(&identity.email),
            telling: self.telling(Telling::Later),
            identity,
            user_id: format!("user_{}", self.ids.uuid32()),
            place: Place { session_id: format!("sess_{}", self.ids.uuid32()), device_id, token_name },
            kept: pair.kept,
            now,
        };
        let place = arrival.place.clone();
        let (user, new_user, notice) =
            self.store.write("identity_begin_session", key, arrival, begin).await?;
        if user.admin {
            // The role may have come with this sign-in, and ended the tokens from before it.
            self.known_tokens.forget();
        }
        self.nudge(notice);
        Ok(reply(&user, place, pair.access, pair.refresh, new_user))
    }
}

/// The challenge of the body, otherwise of the cookie.
fn presented_challenge(ask: &Ask<AuthVerify>) -> Option<&str> {
    let named = ask.body.challenge_id.as_ref().map(|id| id.reveal().trim()).filter(|id| !id.is_empty());
    named.or_else(|| cookie_named(ask.meta.header("cookie"), "oa_magic_challenge"))
}

/// Whether there is anything to be tried, and a code to try it with.
fn decide(challenge: Option<Challenge>, code: &str, now: Timestamp) -> Result<Challenge, Refusal> {
    challenge.filter(|challenge| now < challenge.expires_at && !code.trim().is_empty()).ok_or_else(wrong_code)
}

/// Somebody who proved an address.
struct Arrival {
    identity: Identity,
    /// The address is one of those that make an administrator.
    admin: bool,
    telling: Telling,
    /// The id of the user, if there is none yet.
    user_id: String,
    place: Place,
    kept: Kept,
    now: Timestamp,
}

/// Finds or makes the user, ends the session that lives in the same place, and begins the new one.
async fn begin(tx: &mut Tx, arrival: &Arrival) -> Result<(User, bool, Option<Notice>), Stop> {
    let Arrival { identity, place, now, .. } = arrival;
    let by_email = rows::user_by_email(tx, &identity.email).await?;
    let by_provider = rows::user_by_provider(tx, &identity.provider_id).await?;
    let was_admin = [&by_email, &by_provider].into_iter().flatten().any(|known| known.admin);
    let (user, new_user) = recognise(by_email, by_provider, arrival);
    rows::put_user(tx, &user).await?;
    orgs::join_defaults(tx, &user.user_id, Some(&identity.email), *now).await?;
    if user.admin && !was_admin {
        // Whoever was given a token of this account before its address was proved must not rise with it.
        tokens::end_all(tx, &user.user_id, *now).await?;
    }
    let replaced = rows::active_on_device(tx, &user.user_id, &place.device_id).await?;
    let replaced = sessions::end(tx, replaced, Reason::DeviceReplaced, *now).await?;
    let notice = propagation::note(tx, arrival.telling, &replaced, Reason::DeviceReplaced, *now).await?;
    let session = sessions::begun(&user.user_id, &user.email, place, &arrival.kept, *now);
    rows::put_session(tx, &session).await?;
    Ok((user, new_user, notice))
}

/// By e-mail, then by the provider's identity, else new. Name and identity are refreshed; an identity that
/// belongs to somebody else stays with them.
fn recognise(by_email: Option<User>, by_provider: Option<User>, arrival: &Arrival) -> (User, bool) {
    let Identity { email, name, provider_id } = &arrival.identity;
    let (known, identity_is_free) = match (by_email, by_provider) {
        (Some(user), other) => {
            let free = other.is_none_or(|other| other.user_id == user.user_id);
            (user, free)
        }
        (None, Some(user)) => (user, true),
        (None, None) => {
            let user = User {
                user_id: arrival.user_id.clone(),
                email: email.clone(),
                name: name.clone(),
                provider_id: provider_id.clone(),
                admin: arrival.admin,
                created_at: arrival.now,
                updated_at: arrival.now,
            };
            return (user, true);
        }
    };
    let provider_id = if identity_is_free { provider_id.clone() } else { known.provider_id.clone() };
    // The list gives the role and never takes it; it is the proven address that counts.
    let admin = known.admin || (arrival.admin && known.email == *email);
    (User { name: name.clone(), provider_id, admin, updated_at: arrival.now, ..known }, false)
}

fn reply(user: &User, place: Place, access: Secret, refresh: Secret, new_user: bool) -> SignedIn {
    SignedIn {
        ok: true,
        user_id: user.user_id.clone(),
        status: "authenticated".into(),
        user: view(user),
        redirect: "/".into(),
        token_type: "Bearer".into(),
        token: access,
        token_name: place.token_name,
        refresh_token: refresh,
        session_id: place.session_id,
        new_user,
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::{Service, matrix::AuthEmail, wire::identity::VerifyCode};

    use super::*;
    use crate::testing::{CODE, World, email};

    fn attempt(challenge_id: &str, code: &str) -> VerifyCode {
        VerifyCode { code: Secret::new(code), challenge_id: Some(Secret::new(challenge_id)), device_id: None }
    }

    async fn challenge(world: &World) -> String {
        let sent = world.ask::<AuthEmail>(email("dev@example.com")).await.expect("sent");
        sent.body.challenge_id.reveal().to_owned()
    }

    #[tokio::test]
    async fn the_right_code_begins_a_session_and_clears_the_cookie() {
        let world = World::new().await;
        let id = challenge(&world).await;
        let headers = [("x-client", "autopilot-desktop"), ("cookie", &format!("oa_magic_challenge={id}"))];
        let body = VerifyCode { challenge_id: None, ..attempt(&id, CODE) };
        let answer = world.ask_with::<AuthVerify>(body, &headers).await.expect("signed in");
        assert!(answer.headers[0].1.contains("Max-Age=0"));
        let signed_in = answer.body;
        assert_eq!(signed_in.token_name, "desktop:autopilot-desktop");
        assert_eq!((signed_in.user.name.as_str(), signed_in.new_user), ("dev Mock", true));
        assert!(
            signed_in.token.reveal().starts_with("oa_at_")
                && signed_in.refresh_token.reveal().starts_with("oa_rt_")
        );
        for secret in [signed_in.token.reveal(), signed_in.refresh_token.reveal()] {
            assert!(!world.files_hold(secret).await, "a secret is kept in clear");
        }
        let again = world.sign_in("dev@example.com", "other").await;
        assert_eq!((again.user_id, again.new_user), (signed_in.user_id, false));
    }

    #[tokio::test]
    async fn one_attempt_consumes_the_challenge_right_or_wrong() {
        let world = World::new().await;
        let id = challenge(&world).await;
        for code in ["000000", CODE] {
            let refused = world.ask::<AuthVerify>(attempt(&id, code)).await.expect_err("refused");
            assert_eq!((refused.status(Service::Control), refused.field.as_deref()), (422, Some("code")));
        }
    }

    #[tokio::test]
    async fn a_challenge_ends_at_its_exact_moment_and_five_attempts_at_one_are_enough() {
        let world = World::new().await;
        let id = challenge(&world).await;
        world.clock.advance_millis(600_000);
        for _ in 0..5 {
            let refused = world.ask::<AuthVerify>(attempt(&id, CODE)).await.expect_err("too late");
            assert_eq!(refused.field.as_deref(), Some("code"));
        }
        let refused = world.ask::<AuthVerify>(attempt(&id, CODE)).await.expect_err("too often");
        assert_eq!(refused.status(Service::Control), 429);
    }

    #[tokio::test]
    async fn a_second_sign_in_on_a_device_ends_the_first_there_only() {
        let world = World::new().await;
        let elsewhere = world.sign_in("dev@example.com", "phone").await;
        let first = world.sign_in("dev@example.com", "laptop").await;
        let second = world.sign_in("dev@example.com", "Laptop").await;
        let session = async |id: &str| world.session(id).await.expect("a session");
        assert_eq!(session(&first.session_id).await.revoked_reason.as_deref(), Some("device_replaced"));
        assert_eq!(session(&second.session_id).await.status.name(), "active");
        assert_eq!(session(&elsewhere.session_id).await.status.name(), "active");
    }

    #[tokio::test]
    async fn tokens_from_before_a_role_was_given_do_not_carry_it() {
        let env = [("OA_AUTH_PROVIDER_MODE", "mock"), ("OA_ADMIN_EMAILS", "root@example.com")];
        let world = World::with_runtime(&env).await;
        let user = world.user("root@example.com").await;
        let before = world.personal_token(&user.user_id, crate::identity::NewToken::named("before")).await;
        let first = world.sign_in("root@example.com", "a").await;
        assert!(world.signed_in(first.token.reveal()).await.admin);
        assert!(world.caller(before.reveal()).await.is_err());
        let after = world.personal_token(&user.user_id, crate::identity::NewToken::named("after")).await;
        world.sign_in("root@example.com", "b").await;
        assert!(world.signed_in(after.reveal()).await.admin);
    }

    #[tokio::test]
    async fn a_malformed_device_is_refused_under_its_field() {
        let world = World::new().await;
        let id = challenge(&world).await;
        let body = VerifyCode { device_id: Some("my laptop".into()), ..attempt(&id, CODE) };
        let refused = world.ask::<AuthVerify>(body).await.expect_err("refused");
        assert_eq!((refused.status(Service::Control), refused.field.as_deref()), (422, Some("device_id")));
    }

    #[tokio::test]
    async fn the_eleventh_attempt_of_a_minute_waits() {
        let world = World::new().await;
        for n in 0..10 {
            world.ask::<AuthVerify>(attempt(&format!("challenge_{n}"), CODE)).await.expect_err("unknown");
        }
        let refused = world.ask::<AuthVerify>(attempt("challenge_10", CODE)).await.expect_err("refused");
        assert_eq!((refused.status(Service::Control), refused.retry_after_ms), (429, Some(60_000)));
    }
}
