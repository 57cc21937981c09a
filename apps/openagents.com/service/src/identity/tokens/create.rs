//! Decides how a caller makes a personal token: never one that reaches further than the credential it is made with.

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop, Timestamp, User,
    matrix::TokensCreate,
    wire::identity::{CreateToken, CreatedToken, TokenReply, seconds},
};

use crate::{
    Control,
    identity::{
        NewToken,
        account::{Wish, checked, issue},
        signed_in,
    },
};

impl Handle<TokensCreate> for Control {
    async fn handle(&self, ask: Ask<TokensCreate>) -> Result<Answer<TokenReply>, Stop> {
        let user = signed_in(&ask.caller)?;
        let new = decide(ask.body, user)?;
        let wish = Wish {
            user_id: &user.user_id,
            with: user.session_id.strip_prefix("pat:"),
            most: self.config.tokens_max,
        };
        let issued = issue(&self.store, &*self.clock, &*self.ids, new, wish).await?;
        let data = CreatedToken {
            token: issued.secret,
            tokenable_id: issued.token.user_id,
            name: issued.token.name,
            abilities: issued.token.abilities,
            expires_at: seconds(issued.token.expires_at),
        };
        Ok(TokenReply { data }.into())
    }
}

fn decide(body: CreateToken, user: &User) -> Result<NewToken, Refusal> {
    let expires_at = match body.expires_at.as_deref() {
        None => None,
        Some(text) => Some(moment(text)?),
    };
    let new =
        checked(NewToken { name: body.name, abilities: body.abilities.unwrap_or_default(), expires_at })?;
    match new.abilities.iter().find(|ability| !user.may(ability)) {
        Some(ability) => Err(Refusal::forbidden(format!(
            "this token cannot hand on the ability `{ability}`: it does not carry it"
        ))),
        None => Ok(new),
    }
}

/// The exact moment, kept as it is given.
fn moment(text: &str) -> Result<Timestamp, Refusal> {
    Timestamp::parse(text.trim())
        .ok_or_else(|| Refusal::field("expires_at", "expiresAt must be an RFC 3339 date and time"))
}

#[cfg(test)]
mod tests {
    use oa_contract::Service;

    use super::*;
    use crate::testing::World;

    fn body(abilities: &[&str], expires_at: Option<&str>) -> CreateToken {
        CreateToken {
            name: "ci".into(),
            abilities: Some(abilities.iter().map(|one| (*one).to_owned()).collect()),
            expires_at: expires_at.map(str::to_owned),
        }
    }

    #[tokio::test]
    async fn the_secret_is_answered_once_and_the_expiry_is_exact() {
        let world = World::new().await;
        let session = world.sign_in("dev@example.com", "a").await;
        let new = body(&["runtime.read"], Some("2030-01-01T01:00:00+01:00"));
        let answer = world.ask_as::<TokensCreate>(session.token.reveal(), new).await.expect("made").body.data;
        assert_eq!(answer.expires_at.as_deref(), Some("2030-01-01T00:00:00Z"));
        assert_eq!(answer.tokenable_id, session.user_id);
        assert!(world.whoami(answer.token.reveal()).await.is_ok());
        assert!(!world.files_hold(answer.token.reveal()).await);
        let refused = world
            .ask_as::<TokensCreate>(session.token.reveal(), body(&[], Some("soon")))
            .await
            .expect_err("refused");
        assert_eq!((refused.status(Service::Control), refused.field.as_deref()), (422, Some("expires_at")));
    }

    #[tokio::test]
    async fn a_moment_in_the_past_makes_a_token_that_is_good_for_nothing() {
        let world = World::new().await;
        let session = world.sign_in("dev@example.com", "a").await;
        let made = world
            .ask_as::<TokensCreate>(session.token.reveal(), body(&[], Some("2020-01-01T00:00:00Z")))
            .await;
        assert!(world.whoami(made.expect("made").body.data.token.reveal()).await.is_err());
    }

    #[tokio::test]
    async fn a_token_hands_on_only_what_it_carries() {
        let world = World::new().await;
        let user = world.user("dev@example.com").await;
        let abilities = vec!["tokens.manage".into(), "runtime.read".into()];
        let token =
            world.personal_token(&user.user_id, NewToken { abilities, ..NewToken::named("ci") }).await;
        for further in [body(&[], None), body(&["*"], None), body(&["runtime.write"], None)] {
            let refused = world.ask_as::<TokensCreate>(token.reveal(), further).await.expect_err("refused");
            assert_eq!(refused.status(Service::Control), 403);
        }
        assert!(world.ask_as::<TokensCreate>(token.reveal(), body(&["runtime.read"], None)).await.is_ok());
    }

    #[tokio::test]
    async fn a_token_makes_none_that_outlives_it() {
        let world = World::new().await;
        let user = world.user("dev@example.com").await;
        let end = world.now().plus_seconds(60);
        let new = NewToken { expires_at: Some(end), ..NewToken::named("short") };
        let token = world.personal_token(&user.user_id, new).await;
        let make = async |expires_at: Option<&str>| {
            world.ask_as::<TokensCreate>(token.reveal(), body(&[], expires_at)).await
        };
        assert_eq!(make(None).await.expect_err("endless").status(Service::Control), 403);
        let later = end.plus_millis(1).zulu();
        assert_eq!(make(Some(&later)).await.expect_err("longer").status(Service::Control), 403);
        assert!(make(Some(&end.zulu())).await.is_ok());
        let free = world.personal_token(&user.user_id, NewToken::named("free")).await;
        assert!(world.ask_as::<TokensCreate>(free.reveal(), body(&[], None)).await.is_ok());
    }

    #[tokio::test]
    async fn a_token_without_the_ability_makes_none() {
        let world = World::new().await;
        let user = world.user("dev@example.com").await;
        let abilities = vec!["runtime.write".into()];
        let token =
            world.personal_token(&user.user_id, NewToken { abilities, ..NewToken::named("ci") }).await;
        let refused = world
            .ask_as::<TokensCreate>(token.reveal(), body(&["runtime.write"], None))
            .await
            .expect_err("refused");
        assert_eq!(refused.status(Service::Control), 403);
    }
}
