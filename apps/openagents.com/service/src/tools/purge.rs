//! Decides what is forgotten of tools, answers that have expired and credentials that are no good any more, and
//! that payments nobody heard the end of are asked about.

use std::time::Duration;

use oa_contract::{Stop, Timestamp};
use oa_store::{
    Tx,
    tables::{
        l402::{self, PaymentState},
        tools as rows,
    },
};

use super::Tools;

/// Expired answers are kept so much longer: their first moment is still shown.
const KEPT_SECONDS: i64 = 7 * 24 * 3_600;
/// At most so many of a kind at a time.
const BATCH: u32 = 500;
/// A payment is asked about when nothing was heard of it for so many rounds.
const ROUNDS_OF_SILENCE: i64 = 2;

/// How much was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PurgedTools {
    pub calls: u64,
    pub credentials: u64,
}

impl PurgedTools {
    /// Whether another call would find more.
    pub fn is_full(self) -> bool {
        self.calls >= u64::from(BATCH) || self.credentials >= u64::from(BATCH)
    }
}

impl Tools {
    /// Forgets one batch. To be called now and then, and again while it [`PurgedTools::is_full`].
    pub async fn purge(&self) -> Result<PurgedTools, Stop> {
        self.store.write("tools_purge", (), self.now(), forget).await
    }

    /// How often [`Tools::settle_open_payments`] is meant to be called.
    pub fn round(&self) -> Duration {
        Duration::from_secs(self.config.settle_seconds.unsigned_abs())
    }

    /// Asks the payer about payments whose end nobody heard, and lets go of those that it was never told of. Returns
    /// how many it looked at. One that cannot be looked after keeps no other waiting.
    pub async fn settle_open_payments(&self) -> Result<usize, Stop> {
        let before = self.now().plus_seconds(-ROUNDS_OF_SILENCE * self.config.settle_seconds);
        let read = async |tx: &mut Tx, before: &Timestamp| l402::unresolved(tx, *before, 20).await;
        let open = self.store.read("l402_unresolved", before, read).await?;
        let looked_at = open.len();
        for payment in open {
            let payment_hash = payment.payment_hash.clone();
            let looked_after = match payment.state {
                PaymentState::Pending => self.give_up(&payment).await.map(drop),
                _ => self.resume(payment.clone()).await.map(drop),
            };
            if let Err(stop) = looked_after {
                tracing::warn!(error = %stop, payment_hash, "an open payment could not be looked after");
                self.postpone(&payment).await?;
            }
        }
        Ok(looked_at)
    }
}

async fn forget(tx: &mut Tx, now: &Timestamp) -> Result<PurgedTools, Stop> {
    Ok(PurgedTools {
        calls: rows::purge_calls(tx, now.plus_seconds(-KEPT_SECONDS), BATCH).await?,
        credentials: l402::purge_credentials(tx, *now, BATCH).await?,
    })
}

#[cfg(test)]
mod tests {
    use oa_store::tables::l402::{Payment, Spend};

    use super::*;
    use crate::testing::World;

    fn payment(number: u32, state: PaymentState, payer: &str, at: Timestamp) -> Payment {
        Payment {
            payment_hash: format!("{number:064x}"),
            subject: format!("call:7:{number}"),
            principal: "7".into(),
            state,
            payer: payer.into(),
            request_id: format!("l402:{number}"),
            invoice: "lnbc1".into(),
            macaroon: "clear.bQ==".into(),
            origin: "https://a.test".into(),
            host: "a.test".into(),
            scope: "root".into(),
            autopilot: String::new(),
            day: "2026-02-25".into(),
            quoted_msats: Some(10),
            max_msats: 10,
            reserved_msats: 10,
            paid_msats: None,
            payment_id: None,
            preimage: None,
            attempt: 1,
            created_at: at,
            updated_at: at,
        }
    }

    /// As a process leaves them that dies.
    async fn left_behind(world: &World, payments: Vec<Payment>) {
        let write = async |tx: &mut Tx, payments: &Vec<Payment>| {
            let mut spend: Spend = l402::spend(tx, "7", "", "2026-02-25").await?;
            for payment in payments {
                l402::put_payment(tx, payment).await?;
                spend.reserved_msats += payment.reserved_msats;
            }
            l402::put_spend(tx, &spend).await
        };
        world.control.store.write("test_payments", (), payments, write).await.expect("written");
    }

    async fn found(world: &World, number: u32) -> (PaymentState, u64) {
        let hash = format!("{number:064x}");
        let read = async |tx: &mut Tx, hash: &String| {
            let payment = l402::payment(tx, hash).await?.expect("a payment");
            Ok((payment.state, l402::spend(tx, "7", "", "2026-02-25").await?.reserved_msats))
        };
        world.control.store.read("test_payment", hash, read).await.expect("read")
    }

    #[tokio::test]
    async fn what_the_payer_was_never_told_is_let_go_and_gives_its_share_of_the_day_back() {
        let world = World::new().await;
        left_behind(&world, vec![payment(1, PaymentState::Pending, "spark_wallet", world.now())]).await;
        assert_eq!(world.control.tools.settle_open_payments().await.expect("looked"), 0, "it is too fresh");
        world.clock.advance_millis(61_000);
        assert_eq!(world.control.tools.settle_open_payments().await.expect("looked"), 1);
        assert_eq!(found(&world, 1).await, (PaymentState::Failed, 0));
    }

    #[tokio::test]
    async fn payments_that_nobody_can_tell_of_keep_no_others_waiting() {
        let world = World::new().await;
        let stuck = (0..25).map(|n| payment(n, PaymentState::Unknown, "a_payer_of_old", world.now()));
        left_behind(&world, stuck.collect()).await;
        world.clock.advance_millis(61_000);
        let tools = &world.control.tools;
        assert_eq!(tools.settle_open_payments().await.expect("looked"), 20);
        assert_eq!(tools.settle_open_payments().await.expect("looked"), 5, "the rest has its turn");
        assert_eq!(tools.settle_open_payments().await.expect("looked"), 0);
        assert_eq!(found(&world, 3).await, (PaymentState::Unknown, 250), "no timer ends them");
    }
}
