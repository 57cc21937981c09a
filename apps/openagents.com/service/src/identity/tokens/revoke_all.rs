//! Decides how a caller ends all of their personal tokens at once.

use oa_contract::{
    Answer, Ask, Handle, Stop, Timestamp,
    matrix::TokensRevokeAll,
    wire::identity::{DeletedTokens, DeletedTokensReply},
};
use oa_store::Tx;

use super::end_all;
use crate::{
    Control,
    identity::{authenticate::user_key, signed_in},
};

impl Handle<TokensRevokeAll> for Control {
    async fn handle(&self, ask: Ask<TokensRevokeAll>) -> Result<Answer<DeletedTokensReply>, Stop> {
        let user = signed_in(&ask.caller)?;
        let ending = (user.user_id.clone(), self.clock.now());
        let revoked = self.store.write("tokens_revoke_all", user_key(&user.email), ending, revoke).await;
        self.known_tokens.forget();
        Ok(DeletedTokensReply { data: DeletedTokens { deleted_count: revoked? } }.into())
    }
}

async fn revoke(tx: &mut Tx, (user_id, now): &(String, Timestamp)) -> Result<u64, Stop> {
    end_all(tx, user_id, *now).await
}

#[cfg(test)]
mod tests {
    use oa_contract::Nothing;

    use super::*;
    use crate::{identity::NewToken, testing::World};

    #[tokio::test]
    async fn all_of_mine_end_and_none_of_others() {
        let world = World::new().await;
        let session = world.sign_in("dev@example.com", "a").await;
        let stranger = world.user("other@example.com").await;
        let theirs = world.personal_token(&stranger.user_id, NewToken::named("theirs")).await;
        for name in ["a", "b"] {
            world.personal_token(&session.user_id, NewToken::named(name)).await;
        }
        let count = async || {
            let answer =
                world.ask_as::<TokensRevokeAll>(session.token.reveal(), Nothing {}).await.expect("answered");
            answer.body.data.deleted_count
        };
        assert_eq!(count().await, 2);
        assert_eq!(count().await, 0);
        assert!(world.whoami(theirs.reveal()).await.is_ok());
    }
}
