//! Decides who is in the reserve pool: whom an operator says. What an owner's provider says of itself about the
//! pool changes nothing, and is answered with what is true.

use oa_contract::{Caller, Stop, Timestamp};
use oa_market::offer::claims_reserve;
use oa_store::{Tx, tables::reserve_pool};
use serde_json::Value;

use crate::{AuthMode, Runtime};

/// The member of metadata that tells of it.
const MEMBER: &str = "reserve_pool";

impl Runtime {
    /// What metadata says about the pool, if whoever wrote it may decide that: a credential bound to no owner is
    /// an operator's, and where nobody is asked for one everybody is.
    pub(super) fn says_reserve(&self, caller: &Caller, metadata: &Value) -> Option<bool> {
        let operator = match caller {
            Caller::Service { owner, .. } => owner.is_none(),
            Caller::Anyone => self.config.auth_mode == AuthMode::Off,
            Caller::User(_) => false,
        };
        claims_reserve(metadata).filter(|_| operator)
    }
}

/// Keeps what was said; whether the worker is in the pool then.
pub(super) async fn settled(
    tx: &mut Tx,
    worker_id: &str,
    said: Option<bool>,
    now: Timestamp,
) -> Result<bool, Stop> {
    if let Some(member) = said {
        reserve_pool::set(tx, worker_id, member, now).await?;
        return Ok(member);
    }
    Ok(reserve_pool::since(tx, worker_id).await?.is_some())
}

/// Metadata that tells of the pool tells the truth.
pub(super) fn render(metadata: &mut Value, reserved: bool) {
    if let Value::Object(members) = metadata
        && (reserved || members.contains_key(MEMBER))
    {
        members.insert(MEMBER.to_owned(), reserved.into());
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::wire::workers::RegisterWorker;

    use crate::{
        testing::{World, bound_to, on_each_engine, operator},
        workers::tests_support::{heartbeat, raw, register, user},
    };

    fn says(text: &str) -> RegisterWorker {
        RegisterWorker { worker_id: Some("w".into()), metadata: Some(raw(text)), ..user(1) }
    }

    #[tokio::test]
    async fn only_an_operator_puts_a_worker_into_the_pool_and_takes_it_out() {
        on_each_engine(async |world: World| {
            let told = async |caller: &oa_contract::Caller, text: &str| {
                let (_, reply) = register(&world, caller, says(text)).await.expect("registered");
                reply.worker.worker.metadata.get().to_owned()
            };
            assert_eq!(
                told(&bound_to(1), r#"{"reserve_pool":true,"a":1}"#).await,
                r#"{"reserve_pool":false,"a":1}"#
            );
            assert_eq!(told(&operator(), r#"{"reserve_pool":true}"#).await, r#"{"reserve_pool":true,"a":1}"#);
            assert_eq!(
                told(&bound_to(1), r#"{"reserve_pool":false}"#).await,
                r#"{"reserve_pool":true,"a":1}"#
            );
            let (_, reply) = heartbeat(&world, "w", 1, r#"{"load":1}"#).await.expect("beaten");
            assert_eq!(reply.worker.worker.metadata.get(), r#"{"reserve_pool":true,"a":1,"load":1}"#);
            heartbeat(&world, "w", 1, r#"{"reserve_pool":false}"#).await.expect("beaten");
            assert_eq!(told(&bound_to(1), "{}").await, r#"{"reserve_pool":false,"a":1,"load":1}"#);
        })
        .await;
    }
}
