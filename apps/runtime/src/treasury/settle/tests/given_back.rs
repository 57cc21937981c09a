//! Whose reservations are given back, and how much of them is counted.

use std::sync::Arc;

use oa_contract::Caller;

use super::*;
use crate::{
    Runtime,
    testing::{bound_to, refused},
    treasury::settle::reexecution::{Reexecutor, Rerun, Running},
};

/// The process dies while somebody runs the job.
struct Dies;

impl Reexecutor for Dies {
    fn rerun<'a>(&'a self, _: &'a Runtime, _: Rerun<'a>) -> Running<'a> {
        Box::pin(async { panic!("the process died") })
    }
}

/// Reserves with fees, and dies before it is settled.
async fn reserved(world: &mut World) {
    Arc::get_mut(&mut world.runtime).expect("nobody else holds it").reexecutor = Arc::new(Dies);
    let run = begin(world).await;
    let body = SettleSandboxRun { quote: Some(quote(world, 0)), ..example(run) };
    let runtime = world.runtime.clone();
    let died = tokio::spawn(async move {
        let ask = oa_contract::Ask {
            path: Nothing {},
            query: Nothing {},
            body,
            caller: operator(),
            meta: Default::default(),
        };
        let _ = oa_contract::Handle::<TreasurySettleSandboxRun>::handle(&*runtime, ask).await;
    });
    assert!(died.await.is_err(), "it was to die");
}

async fn ask(world: &World, caller: &Caller, owner: Option<u64>) -> Result<ReconcileSummary, Stop> {
    let body = Reconcile { max_age_seconds: Some(60), owner_user_id: owner, ..Reconcile::default() };
    let asked = world.call::<TreasuryComputeReconcile>(caller, Nothing {}, Nothing {}, body).await;
    asked.map(|(_, told)| told)
}

#[tokio::test]
async fn an_operator_gives_back_what_one_owner_reserved_and_the_fees_count() {
    on_each(
        || Config { reexecution_sample_bps: 10_000, ..strict() },
        async |mut world: World| {
            let _route = provider(&world, "worker:a", "provider-a", 11).await;
            reserved(&mut world).await;
            assert_eq!(account(&world, 11).await.1, 1005);
            world.clock.advance_ms(61_000);
            let other = ask(&world, &operator(), Some(12)).await.expect("answered");
            assert_eq!((other.expired_reservations, account(&world, 11).await.1), (0, 1005));
            assert_eq!(refused(ask(&world, &bound_to(12), Some(11)).await).code.name(), "forbidden");
            let told = ask(&world, &operator(), Some(11)).await.expect("answered");
            assert_eq!((told.expired_reservations, told.freed_msats_total), (1, msats(1005)));
            assert_eq!((account(&world, 11).await.1, told.drift.compared_jobs), (0, 1));
            assert_eq!(told.drift.findings, []);
        },
    )
    .await;
}
