//! Decides what is shown of the caller's personal tokens: everything but their secrets, newest first,
//! and no more of them than one user has by the usual settings.

use oa_contract::{
    Answer, Ask, Handle, Stop,
    matrix::TokensList,
    wire::identity::{TokenList, TokenView, seconds},
};
use oa_store::{
    Tx,
    tables::identity::{self as rows, PersonalToken},
};

use super::SOME;
use crate::{Control, identity::signed_in};

impl Handle<TokensList> for Control {
    async fn handle(&self, ask: Ask<TokensList>) -> Result<Answer<TokenList>, Stop> {
        let user = signed_in(&ask.caller)?;
        let tokens = self.store.read("tokens_list", (user.user_id.clone(),), of_user).await?;
        let data = tokens.into_iter().map(|token| show(token, &user.session_id)).collect();
        Ok(TokenList { data }.into())
    }
}

async fn of_user(tx: &mut Tx, (user_id,): &(String,)) -> Result<Vec<PersonalToken>, Stop> {
    rows::tokens_of_user(tx, user_id, SOME).await
}

fn show(token: PersonalToken, presented: &str) -> TokenView {
    TokenView {
        is_current: presented.strip_prefix("pat:") == Some(token.token_id.as_str()),
        id: token.token_id,
        name: token.name,
        abilities: token.abilities,
        last_used_at: seconds(token.last_used_at),
        expires_at: seconds(token.expires_at),
        created_at: token.created_at.zulu_seconds(),
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::Nothing;

    use super::*;
    use crate::{identity::NewToken, testing::World};

    #[tokio::test]
    async fn the_newest_stands_first_and_the_presented_one_is_marked() {
        let world = World::new().await;
        let user = world.user("dev@example.com").await;
        let stranger = world.user("other@example.com").await;
        world.personal_token(&stranger.user_id, NewToken::named("not mine")).await;
        let old = world.personal_token(&user.user_id, NewToken::named("old")).await;
        world.clock.advance_millis(5_000);
        world.personal_token(&user.user_id, NewToken::named("new")).await;
        let tokens = world.ask_as::<TokensList>(old.reveal(), Nothing {}).await.expect("a list").body.data;
        let names: Vec<_> = tokens.iter().map(|token| (token.name.as_str(), token.is_current)).collect();
        assert_eq!(names, [("new", false), ("old", true)]);
        assert_eq!(tokens[1].last_used_at, Some(world.now().zulu_seconds()));
        assert_eq!(tokens[0].last_used_at, None);
    }
}
