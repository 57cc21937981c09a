//! Decides how a wallet is asked: once by whoever began a payment, and after that by the background, which first asks
//! what became of it. The asking runs by itself: whoever waits for it may go away.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use oa_contract::{Clock, Fault, Stop, Timestamp, current, signer::Signer};
use oa_lightning::{PaymentState, Trouble, Wallet, WalletError};
use oa_store::{
    Store, Tx,
    tables::liquidity::{self as table, PaymentRow},
};

use super::{
    lanes,
    payments::{self, Begun, Ending, GRACE_SECONDS, Terms},
};

/// The wallet's own time-out comes first; this is for one that has none.
const MARGIN: Duration = Duration::from_secs(3);
/// Payments asked about in one round, and at one time.
const ROUND: u32 = 256;
const AT_ONCE: usize = 32;
/// Somebody should look at a payment that is open for so long.
const WORRYING_MS: i64 = 10 * 60 * 1_000;

/// Asks the wallet, and writes down what it said.
pub struct Desk {
    store: Store,
    clock: Arc<dyn Clock>,
    wallet: Arc<dyn Wallet>,
    signer: Option<Signer>,
    strict: bool,
    /// How long one call of the wallet may take.
    timeout: Duration,
    /// Whose memory knows what is begun now; none as long as the wallet has not said that it answers for its silence.
    memory: RwLock<Option<String>>,
}

impl Desk {
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        wallet: Arc<dyn Wallet>,
        signer: Option<Signer>,
        strict: bool,
        timeout: Duration,
    ) -> Arc<Self> {
        // A wallet of this process is known at once; others are asked.
        let about = wallet.about();
        let memory = RwLock::new(about.honours_deadlines.then_some(about.wallet_id));
        Arc::new(Desk { store, clock, wallet, signer, strict, timeout, memory })
    }

    pub fn wallet(&self) -> &Arc<dyn Wallet> {
        &self.wallet
    }

    /// What this moment adds to an order that is begun now.
    pub fn terms(&self) -> Terms {
        let patience = self.timeout + MARGIN;
        Terms {
            now: self.clock.now(),
            wallet_id: self.wallet.about().wallet_id,
            memory: self.memory.read().unwrap_or_else(PoisonError::into_inner).clone(),
            patience_ms: i64::try_from(patience.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// Asks which wallet it is, and whether it answers for what it has not heard of.
    pub async fn learn(&self) {
        // What cannot be asked now has not become another wallet.
        let Ok(promises) = self.within(self.wallet.promises()).await else { return };
        let memory = promises.honours_deadlines.then_some(promises.memory);
        *self.memory.write().unwrap_or_else(PoisonError::into_inner) = memory;
    }

    /// Acts on a payment whose beginning has been kept. Only whoever began it asks the wallet; others are told where
    /// it stands. It may be open when this returns: the background goes on.
    pub async fn drive(self: &Arc<Self>, begun: Begun) -> Result<PaymentRow, Stop> {
        if !begun.fresh {
            return Ok(begun.payment);
        }
        let desk = self.clone();
        let asking = tokio::spawn(current::carried(async move {
            let said = desk.pay(&begun.payment).await;
            let ending = payments::judge(&begun.payment, said, desk.strict, true);
            desk.end(&begun.payment.payment_id, ending).await
        }));
        asking.await.map_err(|error| Fault::new("waiting for a wallet", error))?
    }

    /// Where a payment stands.
    pub async fn outcome(&self, payment_id: &str) -> Result<Option<PaymentRow>, Stop> {
        let read = async |tx: &mut Tx, id: &String| table::payment(tx, id).await;
        self.store.read("liquidity.payment", payment_id.to_owned(), read).await
    }

    /// Asks what became of the payments that are due; says how many have ended.
    pub async fn resolve_due(self: &Arc<Self>) -> Result<usize, Stop> {
        let now = self.clock.now();
        let due = async |tx: &mut Tx, now: &Timestamp| table::open_payments(tx, *now, ROUND).await;
        let due = self.store.read("liquidity.open_payments", now, due).await?;
        let mut ended = 0;
        let mut asking = tokio::task::JoinSet::new();
        for payment in due {
            while asking.len() >= AT_ONCE {
                ended += counted(asking.join_next().await);
            }
            let desk = self.clone();
            asking.spawn(async move { desk.resolve(&payment.payment_id).await });
        }
        while let Some(done) = asking.join_next().await {
            ended += counted(Some(done));
        }
        Ok(ended)
    }

    /// Asks once more about one payment, if it is due and nobody else is at it.
    pub async fn resolve(&self, payment_id: &str) -> Result<bool, Stop> {
        let Some(row) = self.claim(payment_id).await? else { return Ok(false) };
        let now = self.clock.now();
        if now.millis_since(row.started_at) > WORRYING_MS {
            tracing::warn!(
                payment_id,
                since = %row.started_at,
                why = row.error_code.as_deref().unwrap_or("in_flight"),
                "nobody knows how this payment ended"
            );
        }
        let ending = self.look_up(&row, now).await;
        Ok(self.end(payment_id, ending).await?.status.is_final())
    }

    async fn look_up(&self, row: &PaymentRow, now: Timestamp) -> Ending {
        let payment = payments::payment_ref(row);
        match self.within(self.wallet.payment(&payment)).await {
            Ok(PaymentState::Succeeded(paid)) => payments::proved(row, paid, self.strict),
            Ok(PaymentState::Failed(trouble)) => Ending::Failed(trouble),
            Ok(PaymentState::InFlight) => {
                Ending::Open(Trouble::new("in_flight", "the wallet is still at it"))
            }
            // The same request again, as long as it may begin: a copy that is on its way is the same payment.
            Ok(PaymentState::NeverHeardOf) if now <= row.not_after => {
                let said = self.pay(row).await;
                payments::judge(row, said, self.strict, false)
            }
            Ok(PaymentState::NeverHeardOf) if now > row.not_after.plus_seconds(GRACE_SECONDS) => {
                match self.answers_for_silence(row).await {
                    true => {
                        let message =
                            "the wallet has not heard of the payment, and it may not begin any more";
                        Ending::Failed(Trouble::new("payment_never_begun", message))
                    }
                    false => {
                        let message = "the wallet has not heard of the payment, which proves nothing of this wallet; an operator can end it";
                        Ending::Open(Trouble::new("not_heard_of", message))
                    }
                }
            }
            // It can only be given the order again, which is the same payment for it.
            Ok(PaymentState::CannotTell { may_ask_again: true }) => {
                let said = self.pay(row).await;
                payments::judge(row, said, self.strict, false)
            }
            Ok(PaymentState::CannotTell { may_ask_again: false }) => {
                let message = "the wallet does not say what became of payments; an operator can end it";
                Ending::Open(Trouble::new("cannot_tell", message))
            }
            Ok(PaymentState::NeverHeardOf) => {
                Ending::Open(Trouble::new("not_heard_of", "the wallet has not heard of the payment yet"))
            }
            Err(error) => Ending::Open(error.trouble().clone()),
        }
    }

    /// Whether it is a proof that this wallet has not heard of a payment: it begins nothing late, and it is the one that
    /// would know.
    async fn answers_for_silence(&self, row: &PaymentRow) -> bool {
        match self.within(self.wallet.promises()).await {
            Ok(promises) => {
                promises.honours_deadlines && row.wallet_memory.as_ref() == Some(&promises.memory)
            }
            Err(_) => false,
        }
    }

    pub(super) fn is_strict(&self) -> bool {
        self.strict
    }

    /// What the wallet says of a payment now, without anything coming of it.
    pub(super) async fn hear(&self, row: &PaymentRow) -> Result<PaymentState, WalletError> {
        self.within(self.wallet.payment(&payments::payment_ref(row))).await
    }

    async fn pay(&self, row: &PaymentRow) -> Result<oa_lightning::Paid, WalletError> {
        let order = payments::pay_order(row);
        self.within(self.wallet.pay(&order)).await
    }

    async fn within<T>(&self, asked: impl Future<Output = Result<T, WalletError>>) -> Result<T, WalletError> {
        match tokio::time::timeout(self.timeout + MARGIN, asked).await {
            Ok(said) => said,
            Err(_) => Err(WalletError::unknown("wallet_silent", "the wallet did not answer in time")),
        }
    }

    /// Takes the next turn at a payment, so that no two ask at one time.
    async fn claim(&self, payment_id: &str) -> Result<Option<PaymentRow>, Stop> {
        let ask = (payment_id.to_owned(), self.terms());
        self.store.write("liquidity.claim", payments::key(payment_id), ask, claim).await
    }

    async fn end(&self, payment_id: &str, ending: Ending) -> Result<PaymentRow, Stop> {
        let look = async |tx: &mut Tx, id: &String| lanes::keys(tx, id).await;
        let mut keys = self.store.read("liquidity.end_look", payment_id.to_owned(), look).await?;
        keys.push(payments::key(payment_id));
        let ask = (payment_id.to_owned(), ending, self.clock.now(), self.signer.clone());
        self.store.write("liquidity.end", keys, ask, end).await
    }
}

fn counted(done: Option<Result<Result<bool, Stop>, tokio::task::JoinError>>) -> usize {
    match done {
        Some(Ok(Ok(ended))) => usize::from(ended),
        Some(Ok(Err(stop))) => {
            tracing::warn!(error = %stop, "a payment could not be asked about; it is asked about again");
            0
        }
        Some(Err(error)) => {
            tracing::error!(%error, "asking about a payment broke off");
            0
        }
        None => 0,
    }
}

async fn claim(tx: &mut Tx, (id, terms): &(String, Terms)) -> Result<Option<PaymentRow>, Stop> {
    let Some(row) = table::payment(tx, id).await? else { return Ok(None) };
    if row.next_ask_at.is_none_or(|at| at > terms.now) {
        return Ok(None);
    }
    let row = PaymentRow {
        asks: row.asks + 1,
        next_ask_at: Some(terms.now.plus_millis(terms.patience_ms.saturating_mul(2))),
        updated_at: terms.now,
        ..row
    };
    table::put_payment(tx, &row).await?;
    Ok(Some(row))
}

type End = (String, Ending, Timestamp, Option<Signer>);

async fn end(tx: &mut Tx, (id, ending, now, signer): &End) -> Result<PaymentRow, Stop> {
    let (row, ended) = payments::end(tx, id, ending, *now).await?;
    match ended {
        true => lanes::ended(tx, &row, signer.as_ref()).await?,
        false => lanes::still_open(tx, &row).await?,
    }
    Ok(row)
}
