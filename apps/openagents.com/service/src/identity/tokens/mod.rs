//! Decides how personal access tokens are listed, made and revoked (control §5.6); one file a route.

mod create;
mod list;
mod revoke;
mod revoke_all;
mod revoke_current;

use oa_contract::{Stop, Timestamp};
use oa_store::{
    Tx,
    tables::identity::{self as rows, PersonalToken},
};

/// Ends a token; one that had ended stays as it was. Says whether it was still good for anything.
async fn end(tx: &mut Tx, token: PersonalToken, now: Timestamp) -> Result<bool, Stop> {
    if token.revoked_at.is_some() {
        return Ok(false);
    }
    rows::put_token(tx, &PersonalToken { revoked_at: Some(now), ..token }).await?;
    Ok(true)
}

/// Tokens that are read or shown at once.
const SOME: u32 = 1_000;

/// Ends every token of a user, and says how many were still good.
pub(crate) async fn end_all(tx: &mut Tx, user_id: &str, now: Timestamp) -> Result<u64, Stop> {
    let mut count = 0;
    loop {
        // What was ended is not among the next ones.
        let some = rows::tokens_of_user(tx, user_id, SOME).await?;
        if some.is_empty() {
            return Ok(count);
        }
        for token in some {
            count += u64::from(end(tx, token, now).await?);
        }
    }
}
