//! A thousand payments through a SIMULATED wallet that answers late, twice, never, with nonsense, or pays after we
//! have stopped listening: none is paid twice, and none that was paid is called failed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use oa_contract::{Clock, Msats, Owner, Stop, Timestamp};
use oa_lightning::{
    About, Balances, Invoice, InvoiceOrder, InvoiceRef, InvoiceState, Later, Paid, PayOrder, PaymentRef,
    PaymentState, Preimage, Trouble, Wallet, WalletError,
};
use oa_store::{
    EngineKind, Store, Tx,
    tables::{ledger, liquidity::PaymentStatus},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    desk::Desk,
    lanes::Lane,
    payments::{self, Begun, Order, Payer, Terms},
};
use crate::testing::{World, config};

const RUNS: u64 = 1_000;
const AMOUNT: u64 = 1_000;
const MAX_FEE: u64 = 100;
const FEE: u64 = 7;

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// What the world knows, whatever the wallet says.
#[derive(Clone, Debug, PartialEq)]
enum Truth {
    /// Ends then, one way or the other.
    Running {
        until: Timestamp,
        pays: bool,
    },
    Paid,
    Refused,
}

struct Request {
    dice: Dice,
    truth: Option<Truth>,
    times_paid: u32,
    /// Copies of the request that are still on their way, by when they arrive.
    on_their_way: Vec<(Timestamp, PayOrder)>,
}

struct ChaosWallet {
    clock: Arc<dyn Clock>,
    requests: Mutex<BTreeMap<String, Request>>,
    /// From now on it tells the truth.
    calm: AtomicBool,
}

fn preimage(seed: u64) -> Preimage {
    Preimage(Sha256::digest(format!("chaos {seed}")).into())
}

fn seed_of(request_id: &str) -> u64 {
    request_id.rsplit(':').next().and_then(|digits| digits.parse().ok()).expect("a seed")
}

impl ChaosWallet {
    fn requests(&self) -> MutexGuard<'_, BTreeMap<String, Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a request against what the wallet knows, as of now.
    fn with<T>(&self, id: &str, act: impl FnOnce(&mut Request, Timestamp) -> T) -> T {
        let now = self.clock.now();
        let mut requests = self.requests();
        let request = requests.entry(id.to_owned()).or_insert_with(|| Request {
            dice: Dice(seed_of(id)),
            truth: None,
            times_paid: 0,
            on_their_way: Vec::new(),
        });
        request.catch_up(now);
        act(request, now)
    }

    fn paid(id: &str) -> Paid {
        Paid {
            payment_id: Some(id.to_owned()),
            preimage: Some(preimage(seed_of(id))),
            amount: Msats::new(AMOUNT),
            fee: Msats::new(FEE),
            paid_at_ms: Some(1),
            receipt_sha256: Some("r".into()),
            preimage_sha256: None,
            evidence: Some(json!({"ok": true})),
        }
    }

    fn lie(id: &str) -> Paid {
        Paid { preimage: Some(Preimage([7; 32])), ..Self::paid(id) }
    }

    fn state(truth: Option<&Truth>, id: &str) -> PaymentState {
        match truth {
            None => PaymentState::NeverHeardOf,
            Some(Truth::Running { .. }) => PaymentState::InFlight,
            Some(Truth::Paid) => PaymentState::Succeeded(Self::paid(id)),
            Some(Truth::Refused) => PaymentState::Failed(Trouble::new("payment_failed", "no route")),
        }
    }

    fn answer(&self, order: &PayOrder) -> Result<Paid, WalletError> {
        let id = order.request_id.as_str();
        let silent = || Err(WalletError::unknown("silent", "nothing was heard"));
        let calm = self.calm.load(Ordering::SeqCst);
        self.with(id, |request, now| {
            // How the request travels: at once, twice, late (perhaps too late), or not at all.
            match if calm { 0 } else { request.dice.roll(6) } {
                0 | 1 => request.arrives(order, now),
                2 => {
                    request.arrives(order, now);
                    request.arrives(order, now);
                }
                3 | 4 => {
                    let late = i64::try_from(request.dice.roll(120)).expect("seconds");
                    request.on_their_way.push((now.plus_seconds(late), order.clone()));
                    return match request.dice.roll(4) {
                        // It could not be connected to, and nothing was sent.
                        0 if request.on_their_way.len() == 1 && request.truth.is_none() => {
                            request.on_their_way.clear();
                            Err(WalletError::not_done("connect_failed", "refused"))
                        }
                        _ => silent(),
                    };
                }
                _ => return silent(),
            }
            // What we hear of it.
            match (if calm { 0 } else { request.dice.roll(5) }, request.truth.clone()) {
                (3, _) => silent(),
                (4, _) => Ok(Self::lie(id)),
                (_, Some(Truth::Paid)) => Ok(Self::paid(id)),
                (_, Some(Truth::Refused)) => Err(WalletError::not_done("payment_failed", "no route")),
                (_, Some(Truth::Running { .. })) => Err(WalletError::unknown("payment_pending", "not yet")),
                (_, None) => Err(WalletError::not_done("too_late", "it may not begin any more")),
            }
        })
    }
}

impl Request {
    fn catch_up(&mut self, now: Timestamp) {
        let mut waiting = std::mem::take(&mut self.on_their_way);
        waiting.sort_by_key(|(at, _)| *at);
        for (at, order) in waiting {
            match at <= now {
                true => self.arrives(&order, at),
                false => self.on_their_way.push((at, order)),
            }
        }
        if let Some(Truth::Running { until, pays }) = self.truth
            && until <= now
        {
            self.finishes(pays);
        }
    }

    /// The wallet keeps its word: one request acts once, and none begins after its last moment.
    fn arrives(&mut self, order: &PayOrder, now: Timestamp) {
        if self.truth.is_some() || order.not_after.is_some_and(|moment| now > moment) {
            return;
        }
        let pays = self.dice.roll(3) != 0;
        match self.dice.roll(3) {
            0 => {
                let slow = i64::try_from(self.dice.roll(900)).expect("seconds");
                self.truth = Some(Truth::Running { until: now.plus_seconds(slow), pays });
            }
            _ => self.finishes(pays),
        }
    }

    fn finishes(&mut self, pays: bool) {
        self.times_paid += u32::from(pays);
        self.truth = Some(if pays { Truth::Paid } else { Truth::Refused });
    }
}

impl Wallet for ChaosWallet {
    fn about(&self) -> About {
        About { face: "chaos", wallet_id: "chaos".into(), simulated: true, honours_deadlines: true }
    }

    fn pay<'a>(&'a self, order: &'a PayOrder) -> Later<'a, Result<Paid, WalletError>> {
        Box::pin(async move { self.answer(order) })
    }

    fn payment<'a>(&'a self, payment: &'a PaymentRef) -> Later<'a, Result<PaymentState, WalletError>> {
        Box::pin(async move {
            let id = payment.request_id.as_str();
            let calm = self.calm.load(Ordering::SeqCst);
            self.with(id, |request, _| match if calm { 0 } else { request.dice.roll(5) } {
                3 => Err(WalletError::not_done("connect_failed", "refused")),
                4 => Ok(PaymentState::Succeeded(Self::lie(id))),
                _ => Ok(Self::state(request.truth.as_ref(), id)),
            })
        })
    }

    fn create_invoice<'a>(&'a self, _: &'a InvoiceOrder) -> Later<'a, Result<Invoice, WalletError>> {
        Box::pin(async { Err(WalletError::not_done("unsupported", "no")) })
    }

    fn invoice<'a>(&'a self, _: &'a InvoiceRef) -> Later<'a, Result<InvoiceState, WalletError>> {
        Box::pin(async { Ok(InvoiceState::NeverHeardOf) })
    }

    fn balances<'a>(&'a self) -> Later<'a, Result<Balances, WalletError>> {
        Box::pin(async { Ok(Balances::default()) })
    }

    fn status<'a>(&'a self) -> Later<'a, Result<Value, WalletError>> {
        Box::pin(async { Ok(json!({"ok": true})) })
    }
}

fn order(seed: u64) -> Order {
    Order {
        payment_id: format!("chaos:{seed}"),
        lane: Lane::Pool,
        request_id: format!("liqpool:chaos:{seed}"),
        invoice: format!("lnbc10n1chaos{seed}"),
        payment_hash: Some(preimage(seed).payment_hash()),
        host: "h".into(),
        amount: Msats::new(AMOUNT).expect("msats"),
        max_fee: Msats::new(MAX_FEE).expect("msats"),
        payer: Payer::Owner(Owner::User(seed % 7 + 1)),
        run_id: None,
        trajectory_hash: None,
        fingerprint: None,
    }
}

async fn begin(tx: &mut Tx, (order, terms): &(Order, Terms)) -> Result<Begun, Stop> {
    payments::begin(tx, order, terms).await
}

async fn begun(store: &Store, desk: &Desk, seed: u64) -> Begun {
    let order = order(seed);
    let keys = order.keys();
    let ask = (order, desk.terms());
    store.write("chaos", keys, ask, begin).await.expect("begun")
}

fn desk(world: &World, wallet: &Arc<ChaosWallet>) -> Arc<Desk> {
    let store = world.runtime.store.clone();
    Desk::new(store, world.clock.clone(), wallet.clone(), None, true, Duration::from_secs(12))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_payments_through_chaos_end_as_they_truly_did() {
    let world = World::with(EngineKind::Sqlite, config()).await;
    let wallet = Arc::new(ChaosWallet {
        clock: world.clock.clone(),
        requests: Mutex::default(),
        calm: AtomicBool::new(false),
    });
    let mut now = desk(&world, &wallet);
    // All at one time, so that many share a commit.
    let mut asking = tokio::task::JoinSet::new();
    for seed in 0..RUNS {
        let (store, desk) = (world.runtime.store.clone(), now.clone());
        asking.spawn(async move {
            let begun = begun(&store, &desk, seed).await;
            // Now and then the process ends between the two.
            if !seed.is_multiple_of(11) {
                desk.drive(begun).await.expect("driven");
            }
        });
    }
    while let Some(driven) = asking.join_next().await {
        driven.expect("driven");
    }
    for round in 0..60_u32 {
        world.clock.advance_ms(9_000 + i64::from(round) * 1_500);
        // Asked for again meanwhile, nothing begins anew; and the process may be another one.
        if round % 6 == 3 {
            assert!(!begun(&world.runtime.store, &now, u64::from(round) * 17).await.fresh);
            now = desk(&world, &wallet);
        }
        wallet.calm.store(round > 25, Ordering::SeqCst);
        while now.resolve_due().await.expect("asked") > 0 {}
    }
    world.clock.advance_ms(3_600_000);
    let mut counts = BTreeMap::new();
    let mut gone = 0;
    for seed in 0..RUNS {
        let (order, row) = (order(seed), now.outcome(&format!("chaos:{seed}")).await.expect("read"));
        let row = row.expect("a payment");
        let (truth, times) =
            wallet.with(&order.request_id, |request, _| (request.truth.clone(), request.times_paid));
        assert!(times <= 1, "{seed} was paid {times} times");
        let ended = match truth {
            Some(Truth::Paid) => PaymentStatus::Succeeded,
            None | Some(Truth::Refused) => PaymentStatus::Failed,
            Some(Truth::Running { .. }) => panic!("{seed} still runs"),
        };
        assert_eq!(row.status, ended, "{seed}: {:?} {row:?}", truth);
        *counts.entry(ended.name()).or_insert(0_u64) += 1;
        gone += u64::from(ended == PaymentStatus::Succeeded) * (AMOUNT + FEE);
    }
    assert!(counts.values().all(|count| *count > 100), "the dice are loaded: {counts:?}");
    assert_eq!(spent(&world).await, (0, gone));
}

/// What is reserved, and what has left, over all owners.
async fn spent(world: &World) -> (u64, u64) {
    let read = async |tx: &mut Tx, (): &()| {
        let (mut reserved, mut gone) = (0, 0);
        for account in ledger::accounts(tx, "owner/", 50).await? {
            if account.id.to_string().starts_with("owner/") {
                reserved += account.balances.debits_pending.get();
                gone += account.balances.debits_posted.get();
            }
        }
        Ok((reserved, gone))
    };
    world.runtime.store.read("spent", (), read).await.expect("read")
}
