//! Decides how one personal token is revoked by its owner.

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop, Timestamp,
    matrix::TokensRevoke,
    wire::identity::{Deleted, DeletedReply},
};
use oa_store::{
    Tx,
    tables::identity::{self as rows, PersonalToken},
};

use super::end;
use crate::{
    Control,
    identity::{authenticate::user_key, signed_in},
};

impl Handle<TokensRevoke> for Control {
    async fn handle(&self, ask: Ask<TokensRevoke>) -> Result<Answer<DeletedReply>, Stop> {
        let user = signed_in(&ask.caller)?;
        let revocation =
            Revocation { token_id: ask.path.token_id, user_id: user.user_id.clone(), now: self.clock.now() };
        let revoked = self.store.write("tokens_revoke", user_key(&user.email), revocation, revoke).await;
        self.known_tokens.forget();
        revoked?;
        Ok(DeletedReply { data: Deleted { deleted: true } }.into())
    }
}

struct Revocation {
    token_id: String,
    user_id: String,
    now: Timestamp,
}

async fn revoke(tx: &mut Tx, ask: &Revocation) -> Result<(), Stop> {
    let token = decide(rows::token(tx, &ask.token_id).await?, &ask.user_id)?;
    end(tx, token, ask.now).await?;
    Ok(())
}

fn decide(token: Option<PersonalToken>, user_id: &str) -> Result<PersonalToken, Refusal> {
    let token = token.ok_or_else(|| Refusal::not_found("There is no such token."))?;
    match token.user_id == user_id {
        true => Ok(token),
        false => Err(Refusal::forbidden("Forbidden.")),
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::{Service, wire::paths::TokenPath};

    use super::*;
    use crate::{identity::NewToken, testing::World};

    async fn status(world: &World, secret: &str, token_id: &str) -> u16 {
        let caller = world.caller(secret).await.expect("a caller");
        let path = TokenPath { token_id: token_id.to_owned() };
        let ask = Ask {
            path,
            query: oa_contract::Nothing {},
            body: oa_contract::Nothing {},
            caller,
            meta: world.meta(&[]),
        };
        match Handle::<TokensRevoke>::handle(&*world.control, ask).await {
            Ok(answer) if answer.body.data.deleted => 200,
            Ok(_) => panic!("nothing was deleted"),
            Err(Stop::Refusal(refusal)) => refusal.status(Service::Control),
            Err(Stop::Fault(fault)) => panic!("{fault}"),
        }
    }

    #[tokio::test]
    async fn an_owner_revokes_their_own_token_and_nobody_elses() {
        let world = World::new().await;
        let mine = world.sign_in("dev@example.com", "a").await;
        let theirs = world.sign_in("other@example.com", "a").await;
        let token = world.personal_token(&mine.user_id, NewToken::named("ci")).await;
        let id = world.tokens_of(&mine.user_id).await[0].token_id.clone();
        assert_eq!(status(&world, theirs.token.reveal(), &id).await, 403);
        assert_eq!(status(&world, mine.token.reveal(), "pat_unknown").await, 404);
        assert!(world.whoami(token.reveal()).await.is_ok());
        assert_eq!(status(&world, mine.token.reveal(), &id).await, 200);
        assert!(world.whoami(token.reveal()).await.is_err());
        assert_eq!(status(&world, mine.token.reveal(), &id).await, 200);
    }
}
