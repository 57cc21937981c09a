//! Decides how a personal token ends itself; a session has nothing to end here.

use oa_contract::{
    Answer, Ask, Handle, Stop, Timestamp,
    matrix::TokensRevokeCurrent,
    wire::identity::{Deleted, DeletedReply},
};
use oa_store::{Tx, tables::identity as rows};

use super::end;
use crate::{
    Control,
    identity::{authenticate::user_key, signed_in},
};

impl Handle<TokensRevokeCurrent> for Control {
    async fn handle(&self, ask: Ask<TokensRevokeCurrent>) -> Result<Answer<DeletedReply>, Stop> {
        let user = signed_in(&ask.caller)?;
        let deleted = match user.session_id.strip_prefix("pat:") {
            None => false,
            Some(id) => {
                let ending = (id.to_owned(), self.clock.now());
                let key = user_key(&user.email);
                let revoked = self.store.write("tokens_revoke_current", key, ending, revoke).await;
                self.known_tokens.forget();
                revoked?
            }
        };
        Ok(DeletedReply { data: Deleted { deleted } }.into())
    }
}

async fn revoke(tx: &mut Tx, (token_id, now): &(String, Timestamp)) -> Result<bool, Stop> {
    match rows::token(tx, token_id).await? {
        Some(token) => end(tx, token, *now).await,
        None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::Nothing;

    use super::*;
    use crate::{identity::NewToken, testing::World};

    #[tokio::test]
    async fn a_token_ends_itself_whatever_its_abilities() {
        let world = World::new().await;
        let session = world.sign_in("dev@example.com", "a").await;
        let abilities = vec!["runtime.read".into()];
        let token =
            world.personal_token(&session.user_id, NewToken { abilities, ..NewToken::named("ci") }).await;
        let deleted = async |secret: &str| {
            world.ask_as::<TokensRevokeCurrent>(secret, Nothing {}).await.expect("answered").body.data.deleted
        };
        assert!(!deleted(session.token.reveal()).await);
        assert!(deleted(token.reveal()).await);
        assert!(world.whoami(token.reveal()).await.is_err());
    }
}
