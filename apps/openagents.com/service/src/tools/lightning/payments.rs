//! Decides what is written down of a payment and of the day that it counts against, one transaction each: reserved, begun,
//! concluded.

use oa_contract::{Fault, Stop, Timestamp};
use oa_store::{
    Tx,
    tables::l402::{self as rows, Credential, Payment, PaymentState, Spend, TaskState},
};

use crate::tools::config::MOST_MSATS;

/// What the day has left is not enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverDay {
    pub limit_msats: u64,
    pub spent_msats: u64,
    pub projected_msats: u64,
}

/// The limits of a day: the caller's, counted for the autopilot, and the house's, counted for everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct DayLimits {
    pub caller_msats: Option<u64>,
    pub house_msats: Option<u64>,
}

/// A payment to be reserved, and the limits of its day.
pub struct Reservation {
    pub payment: Payment,
    pub day: DayLimits,
}

/// What became of a reservation.
pub enum Reserved {
    /// This payment is the one for the subject; how far it has come stands in it.
    This(Box<Payment>),
    /// The invoice is being paid, or was paid, for something else.
    Elsewhere,
    OverDay(OverDay),
    TooLate,
}

/// How a payment ended, or that it did not.
pub struct Conclusion {
    pub payment_hash: String,
    pub end: Ended,
    pub now: Timestamp,
}

/// What the payer said, without its words.
pub enum Ended {
    Paid {
        payment_id: Option<String>,
        preimage: String,
        amount_msats: Option<u64>,
        credential: Credential,
    },
    Failed,
    Unknown,
    /// Nobody had told the payer of it.
    NeverBegun,
}

/// What the day has cost: for all, and for the autopilot if there is one.
pub async fn spends(tx: &mut Tx, principal: &str, autopilot: &str, day: &str) -> Result<Vec<Spend>, Stop> {
    let mut spends = vec![rows::spend(tx, principal, "", day).await?];
    if !autopilot.is_empty() {
        spends.push(rows::spend(tx, principal, autopilot, day).await?);
    }
    Ok(spends)
}

pub fn too_much() -> Fault {
    Fault::msg("a day's spending does not fit into a number")
}

/// The first limit that a price would break.
pub fn over(spends: &[Spend], autopilot: &str, day: DayLimits, amount_msats: u64) -> Option<OverDay> {
    let breaks = |of: &str, limit: Option<u64>| {
        let limit_msats = limit?;
        let spend = spends.iter().find(|spend| spend.autopilot == of)?;
        let spent = u128::from(spend.reserved_msats) + u128::from(spend.paid_msats);
        let projected = spent + u128::from(amount_msats);
        let shown = |msats: u128| u64::try_from(msats).unwrap_or(u64::MAX);
        let (spent_msats, projected_msats) = (shown(spent), shown(projected));
        (projected > u128::from(limit_msats)).then_some(OverDay { limit_msats, spent_msats, projected_msats })
    };
    breaks(autopilot, day.caller_msats).or_else(|| breaks("", day.house_msats))
}

pub async fn reserve(tx: &mut Tx, ask: &Reservation) -> Result<Reserved, Stop> {
    let mut payment = ask.payment.clone();
    if let Some(known) = rows::payment(tx, &payment.payment_hash).await? {
        let same = known.principal == payment.principal;
        match known.state {
            PaymentState::Failed => payment.attempt = known.attempt + 1,
            // What its owner has paid is theirs to use, under whichever call.
            PaymentState::Paid if same => return Ok(Reserved::This(Box::new(known))),
            _ if known.subject == payment.subject => return Ok(Reserved::This(Box::new(known))),
            _ => return Ok(Reserved::Elsewhere),
        }
    }
    if expired(tx, &payment.subject).await? {
        return Ok(Reserved::TooLate);
    }
    let mut spends = spends(tx, &payment.principal, &payment.autopilot, &payment.day).await?;
    if let Some(over) = over(&spends, &payment.autopilot, ask.day, payment.reserved_msats) {
        return Ok(Reserved::OverDay(over));
    }
    for spend in &mut spends {
        let reserved = spend.reserved_msats.checked_add(payment.reserved_msats);
        spend.reserved_msats = reserved.ok_or_else(too_much)?;
        rows::put_spend(tx, spend).await?;
    }
    rows::put_payment(tx, &payment).await?;
    move_task(tx, &payment, TaskState::Paying, payment.created_at).await?;
    Ok(Reserved::This(Box::new(payment)))
}

pub async fn begin(
    tx: &mut Tx,
    (payment_hash, payer, now): &(String, String, Timestamp),
) -> Result<Payment, Stop> {
    let known = rows::payment(tx, payment_hash).await?.ok_or_else(forgotten)?;
    if known.state == PaymentState::Pending {
        let (state, payer) = (PaymentState::Paying, payer.clone());
        rows::put_payment(tx, &Payment { state, payer, updated_at: *now, ..known.clone() }).await?;
    }
    Ok(known)
}

pub fn forgotten() -> Fault {
    Fault::msg("a payment was forgotten while it was made")
}

pub async fn conclude(tx: &mut Tx, ask: &Conclusion) -> Result<Payment, Stop> {
    let known = rows::payment(tx, &ask.payment_hash).await?;
    let known = known.ok_or_else(forgotten)?;
    let never_begun = matches!(ask.end, Ended::NeverBegun);
    if matches!(known.state, PaymentState::Paid | PaymentState::Failed)
        || (never_begun && known.state != PaymentState::Pending)
    {
        // Somebody else heard it first.
        return Ok(known);
    }
    let now = ask.now;
    let mut payment = Payment { updated_at: now, ..known };
    let mut spent = None;
    match &ask.end {
        // Of what the payer was never told, it has nothing to say.
        Ended::Unknown if payment.state == PaymentState::Pending => {}
        Ended::Unknown => payment.state = PaymentState::Unknown,
        Ended::Failed | Ended::NeverBegun => {
            payment.state = PaymentState::Failed;
            spent = Some(0);
        }
        Ended::Paid { payment_id, preimage, amount_msats, credential } => {
            // However much the payer says: that it paid is written down.
            let amount = amount_msats.unwrap_or(payment.reserved_msats).min(MOST_MSATS);
            payment.state = PaymentState::Paid;
            payment.payment_id.clone_from(payment_id);
            payment.preimage = Some(preimage.clone());
            payment.paid_msats = Some(amount);
            spent = Some(amount);
            rows::put_credential(tx, credential).await?;
        }
    }
    rows::put_payment(tx, &payment).await?;
    if let Some(spent) = spent {
        for mut spend in spends(tx, &payment.principal, &payment.autopilot, &payment.day).await? {
            let reserved = spend.reserved_msats.checked_sub(payment.reserved_msats);
            spend.reserved_msats = reserved.ok_or_else(too_much)?;
            spend.paid_msats = spend.paid_msats.saturating_add(spent).min(MOST_MSATS);
            rows::put_spend(tx, &spend).await?;
        }
    }
    match payment.state {
        PaymentState::Paid => move_task(tx, &payment, TaskState::Paid, now).await?,
        PaymentState::Failed => move_task(tx, &payment, TaskState::Failed, now).await?,
        _ => {}
    }
    Ok(payment)
}

/// Whether the task that is to be paid for was found to be too old in the meantime.
pub async fn expired(tx: &mut Tx, subject: &str) -> Result<bool, Stop> {
    let Some(task_id) = subject.strip_prefix("task:") else { return Ok(false) };
    Ok(rows::task(tx, task_id).await?.is_some_and(|task| task.state == TaskState::Expired))
}

/// The task that a payment is for goes with it.
pub async fn move_task(tx: &mut Tx, payment: &Payment, state: TaskState, now: Timestamp) -> Result<(), Stop> {
    let Some(task_id) = payment.subject.strip_prefix("task:") else { return Ok(()) };
    let Some(task) = rows::task(tx, task_id).await? else { return Ok(()) };
    rows::put_task(tx, &rows::Task { state, changed_at: now, ..task }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(autopilot: &str, reserved_msats: u64, paid_msats: u64) -> Spend {
        Spend {
            principal: "7".into(),
            autopilot: autopilot.into(),
            day: "d".into(),
            reserved_msats,
            paid_msats,
        }
    }

    #[test]
    fn a_day_counts_what_is_paid_and_what_may_still_be() {
        let day = DayLimits { caller_msats: Some(100), house_msats: Some(150) };
        let spends = [spend("", 60, 40), spend("a", 10, 40)];
        assert_eq!(over(&spends, "a", day, 50), None);
        let caller = OverDay { limit_msats: 100, spent_msats: 50, projected_msats: 101 };
        assert_eq!(over(&spends, "a", day, 51), Some(caller));
        let house = OverDay { limit_msats: 150, spent_msats: 100, projected_msats: 151 };
        assert_eq!(over(&spends, "a", DayLimits { caller_msats: None, ..day }, 51), Some(house));
        assert_eq!(over(&spends, "", day, 1).map(|over| over.limit_msats), Some(100));
        assert!(over(&[spend("", u64::MAX, 1)], "", day, 1).is_some());
        assert_eq!(over(&spends, "a", DayLimits::default(), u64::MAX), None);
    }

    fn task(state: TaskState) -> rows::Task {
        let at = Timestamp::EPOCH;
        rows::Task {
            task_id: "t".into(),
            principal: "7".into(),
            state,
            held: String::new(),
            payment_hash: "h".into(),
            origin: "https://a.test".into(),
            host: "a.test".into(),
            scope: "root".into(),
            autopilot: String::new(),
            quoted_msats: Some(10),
            max_msats: 10,
            max_day_msats: None,
            created_at: at,
            expires_at: at,
            changed_at: at,
        }
    }

    fn payment() -> Payment {
        Payment {
            payment_hash: "h".into(),
            subject: "task:t".into(),
            principal: "7".into(),
            state: PaymentState::Pending,
            payer: "p".into(),
            request_id: "l402:h".into(),
            invoice: "lnbc1".into(),
            macaroon: String::new(),
            origin: "https://a.test".into(),
            host: "a.test".into(),
            scope: "root".into(),
            autopilot: String::new(),
            day: "d".into(),
            quoted_msats: Some(10),
            max_msats: 10,
            reserved_msats: 10,
            paid_msats: None,
            payment_id: None,
            preimage: None,
            attempt: 1,
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
        }
    }

    #[tokio::test]
    async fn a_task_that_was_found_too_old_reserves_nothing_and_any_other_goes_with_its_payment() {
        for (state, reserved) in [
            (TaskState::Expired, 0),
            (TaskState::Pending, 10),
            (TaskState::Failed, 10),
            (TaskState::Paying, 10),
        ] {
            let world = crate::testing::World::new().await;
            let ask = (task(state), Reservation { payment: payment(), day: DayLimits::default() });
            let write = async |tx: &mut Tx, (task, ask): &(rows::Task, Reservation)| {
                rows::put_task(tx, task).await?;
                let became = reserve(tx, ask).await?;
                let task = rows::task(tx, "t").await?.expect("a task").state;
                let spent = rows::spend(tx, "7", "", "d").await?.reserved_msats;
                Ok((matches!(became, Reserved::TooLate), task, spent))
            };
            let found = world.control.store.write("test_reserve", (), ask, write).await.expect("written");
            let late = state == TaskState::Expired;
            let moved = if late { TaskState::Expired } else { TaskState::Paying };
            assert_eq!(found, (late, moved, reserved));
        }
    }

    #[tokio::test]
    async fn what_was_let_go_is_not_begun_and_what_was_begun_is_not_let_go() {
        for begun_first in [false, true] {
            let world = crate::testing::World::new().await;
            let ask = (Reservation { payment: payment(), day: DayLimits::default() }, begun_first);
            let write = async |tx: &mut Tx, (ask, begun_first): &(Reservation, bool)| {
                let now = Timestamp::EPOCH;
                reserve(tx, ask).await?;
                let begin_it = ("h".to_owned(), "q".to_owned(), now);
                let let_go = Conclusion { payment_hash: "h".into(), end: Ended::NeverBegun, now };
                if *begun_first {
                    begin(tx, &begin_it).await?;
                    let known = conclude(tx, &let_go).await?;
                    return Ok((known.state, known.payer));
                }
                conclude(tx, &let_go).await?;
                let known = begin(tx, &begin_it).await?;
                Ok((known.state, known.payer))
            };
            let found = world.control.store.write("test_begin", (), ask, write).await.expect("written");
            let wanted = if begun_first { (PaymentState::Paying, "q") } else { (PaymentState::Failed, "p") };
            assert_eq!((found.0, found.1.as_str()), wanted);
        }
    }
}
