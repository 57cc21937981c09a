//! Decides how payments of the ledger alone are counted: each is held in one durable transaction and captured in
//! another, as a dispatch and its settlement do.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use oa_contract::{Amount, Asset, Owner, Stop, Timestamp};
use oa_ledger::{
    AccountId, Capture, Hold, Kind, TransferId,
    budget::{Place, Reservation},
};
use oa_store::{
    SqliteConfig, Store, StoreConfig, Tx,
    tables::{budgets, ledger},
};

use super::super::load::Window;

/// Payers and payees together.
pub const ACCOUNTS: usize = 1_000;

pub struct Ledger {
    threads: tokio::runtime::Runtime,
    store: Store,
    next: Arc<AtomicU64>,
}

impl Ledger {
    pub fn open(path: &Path) -> Result<Self> {
        let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let config = StoreConfig::from(SqliteConfig::new(path.to_owned()));
        let store = threads.block_on(Store::open_with(config, Arc::new(|_| ())))?;
        Ok(Ledger { threads, store, next: Arc::default() })
    }

    pub fn close(self) {
        self.threads.block_on(self.store.close());
    }

    /// Pairs a second with so many at it at one time.
    pub fn pairs(&self, window: Window, at_once: usize) -> Result<f64> {
        let opens = Instant::now() + window.warm;
        let closes = opens + window.measured;
        let tasks: Vec<_> = (0..at_once)
            .map(|_| {
                let (store, next) = (self.store.clone(), self.next.clone());
                self.threads.spawn(async move {
                    let mut counted = 0_u64;
                    while Instant::now() < closes {
                        pair(&store, next.fetch_add(1, Ordering::Relaxed)).await?;
                        counted += u64::from((opens..closes).contains(&Instant::now()));
                    }
                    Ok::<_, Stop>(counted)
                })
            })
            .collect();
        let mut counted = 0;
        for task in tasks {
            counted += self.threads.block_on(task)??;
        }
        ensure!(counted > 0, "no payment ended within {:?}", window.measured);
        Ok(counted as f64 / window.measured.as_secs_f64())
    }
}

async fn pair(store: &Store, n: u64) -> Result<(), Stop> {
    let (reservation, id) = reservation(n).map_err(|error| oa_contract::Fault::msg(error.to_string()))?;
    let now = Timestamp::from_unix_seconds(1_772_000_000);
    let hold = async |tx: &mut Tx, (reservation, now): &(Reservation, Timestamp)| {
        budgets::reserve(tx, reservation, *now).await.map(drop)
    };
    store.write("bench.hold", (), (reservation, now), hold).await?;
    let capture = async |tx: &mut Tx, (id, now): &(TransferId, Timestamp)| {
        ledger::post(tx, id, &Capture::Full, *now).await.map(drop)
    };
    store.write("bench.capture", (), (id, now), capture).await
}

fn reservation(n: u64) -> Result<(Reservation, TransferId)> {
    let half = ACCOUNTS as u64 / 2;
    let payee = AccountId::new(Kind::Provider, Asset::msats(), format!("p{}", n.wrapping_mul(7) % half))?;
    let id = TransferId::new(format!("bench:{n}"))?;
    let reservation = Reservation {
        id: id.clone(),
        owner: Owner::User(n % half),
        place: Place::default(),
        payees: vec![(payee, Amount::new(1).context("an amount")?)],
        hold: Hold { expires_at: None },
        reference: String::new(),
    };
    Ok((reservation, id))
}
