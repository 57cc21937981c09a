//! Decides how a sign-in begins: a code goes to the address, a challenge to whoever asked (control §5.3).

use oa_contract::{
    Answer, Ask, Handle, Stop, Timestamp,
    matrix::AuthEmail,
    wire::identity::{CodeSent, Secret},
};
use oa_store::{
    Tx,
    tables::identity::{self as rows, Challenge},
};

use super::{hash_of, normal_email};
use crate::{Control, audit};

/// Challenges that nobody came back for are swept out in passing, so many at a time.
const SWEEP: u32 = 100;

impl Handle<AuthEmail> for Control {
    async fn handle(&self, ask: Ask<AuthEmail>) -> Result<Answer<CodeSent>, Stop> {
        let now = self.clock.now();
        let sent = self.send_code(&ask, now).await;
        match &sent {
            Ok(answer) => {
                let domain = answer.body.email.rsplit('@').next().unwrap_or_default();
                let attributes = [("provider", self.provider.name()), ("email_domain", domain)];
                let event = audit::Event {
                    name: "auth.challenge.requested",
                    attributes: &attributes,
                    ..audit::Event::default()
                };
                audit::success(event, &ask.meta, now);
            }
            Err(stop) => audit::failure("auth.challenge.failed", stop, &ask.meta, now),
        }
        sent
    }
}

impl Control {
    async fn send_code(&self, ask: &Ask<AuthEmail>, now: Timestamp) -> Result<Answer<CodeSent>, Stop> {
        let email = normal_email(&ask.body.email)?;
        let sent = self.provider.start(&email, now)?;
        let challenge_id = format!("challenge_{}", self.ids.uuid32());
        let challenge = Challenge {
            hash: hash_of(&challenge_id),
            email: email.clone(),
            provider_id: sent.provider_id,
            expires_at: sent.expires_at,
        };
        self.store.write("identity_keep_challenge", (), (challenge, now), keep).await?;
        let ttl = self.config.auth.challenge_ttl_seconds;
        let cookie = format!(
            "oa_magic_challenge={challenge_id}; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age={ttl}"
        );
        let body =
            CodeSent { ok: true, status: "code-sent".into(), email, challenge_id: Secret::new(challenge_id) };
        Ok(Answer::new(body).with_header("set-cookie", cookie))
    }
}

async fn keep(tx: &mut Tx, (challenge, now): &(Challenge, Timestamp)) -> Result<(), Stop> {
    rows::purge_challenges(tx, *now, SWEEP).await?;
    rows::put_challenge(tx, challenge).await
}

#[cfg(test)]
mod tests {
    use oa_contract::Service;

    use super::*;
    use crate::testing::{World, email};

    #[tokio::test]
    async fn a_code_is_sent_and_the_challenge_is_also_a_cookie() {
        let world = World::new().await;
        let answer = world.ask::<AuthEmail>(email(" Dev@Example.com ")).await.expect("sent");
        assert_eq!(
            (answer.body.email.as_str(), answer.body.status.as_str()),
            ("dev@example.com", "code-sent")
        );
        let id = answer.body.challenge_id.reveal();
        let cookie = format!("oa_magic_challenge={id}; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=600");
        assert_eq!(answer.headers, [("set-cookie", cookie)]);
        assert!(!world.files_hold(id).await, "the challenge is kept in clear");
    }

    #[tokio::test]
    async fn an_address_without_an_at_is_refused_under_its_field() {
        let world = World::new().await;
        let refused = world.ask::<AuthEmail>(email("dev")).await.expect_err("refused");
        assert_eq!((refused.status(Service::Control), refused.field.as_deref()), (422, Some("email")));
    }

    #[tokio::test]
    async fn the_thirty_first_request_of_a_minute_waits() {
        let world = World::new().await;
        for _ in 0..30 {
            world.ask::<AuthEmail>(email("dev")).await.expect_err("the address is refused, but counted");
        }
        let refused = world.ask::<AuthEmail>(email("dev@example.com")).await.expect_err("refused");
        assert_eq!((refused.status(Service::Control), refused.retry_after_ms), (429, Some(60_000)));
        world.clock.advance_millis(60_000);
        world.ask::<AuthEmail>(email("dev@example.com")).await.expect("sent");
    }

    #[tokio::test]
    async fn without_a_provider_nothing_is_sent() {
        let world = World::without_provider().await;
        let refused = world.ask::<AuthEmail>(email("dev@example.com")).await.expect_err("refused");
        assert_eq!(refused.status(Service::Control), 503);
        assert!(refused.message.contains("WorkOS identity provider is required"));
    }
}
