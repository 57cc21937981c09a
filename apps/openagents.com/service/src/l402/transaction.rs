//! `GET /api/l402/transactions/:event_id`: decides what is shown of one receipt: everything, to its owner.

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop,
    matrix::L402Transaction,
    wire::l402::{OneTransaction, TransactionReply},
};
use oa_store::{
    Tx,
    tables::l402::{self as rows, Receipt},
};

use crate::{Control, identity::signed_in};

impl Handle<L402Transaction> for Control {
    async fn handle(&self, ask: Ask<L402Transaction>) -> Result<Answer<TransactionReply>, Stop> {
        let user = signed_in(&ask.caller)?;
        let unknown = || Refusal::not_found("there is no such transaction");
        let event_id: i64 = ask.path.event_id.parse().map_err(|_| unknown())?;
        let asked = (event_id, user.owner_user_id.to_string());
        let (receipt, result) =
            self.store.read("l402_transaction", asked, whole).await?.ok_or_else(unknown)?;
        let transaction = super::view(receipt, result)?;
        Ok(TransactionReply { data: OneTransaction { transaction } }.into())
    }
}

async fn whole(
    tx: &mut Tx,
    (event_id, principal): &(i64, String),
) -> Result<Option<(Receipt, Option<String>)>, Stop> {
    match rows::receipt(tx, *event_id, principal).await? {
        None => Ok(None),
        Some(receipt) => Ok(Some((receipt, rows::result(tx, *event_id).await?))),
    }
}
