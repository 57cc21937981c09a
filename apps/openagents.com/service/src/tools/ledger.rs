//! Decides who works on a call: whoever reserves it first. What is known is given again, what was left lying by a
//! process that died is taken over, and an answer is kept with everything that it changed, or not at all.

use oa_contract::{Stop, Timestamp, wire::tools::ToolOutcome};
use oa_store::{
    EngineKind, Key, Tx,
    tables::{
        l402::{self, NewReceipt, Task},
        tools::{self as rows, CallState, ToolCall},
    },
};
use tokio::sync::OwnedMutexGuard;

use super::{Tools, call::Call};

/// A call is held so long without a sign of life; signs are given three times as often.
pub const LEASE_SECONDS: i64 = 60;

/// What becomes of somebody who wants to work on a call.
pub enum Reserved {
    /// It is theirs.
    Mine(ToolCall),
    /// It was answered with this.
    Known(String),
    /// Another process works on it.
    Taken,
    /// Somebody whom they waited for has ended without an answer that lasts: theirs, if there was one.
    Ended(Option<String>),
}

/// How long an answer is given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Forever,
    Until(Timestamp),
    /// Asking again may go better.
    No,
}

/// What a call came to, and all that is recorded with it.
pub struct Finished {
    pub outcome: ToolOutcome,
    pub keep: Keep,
    pub receipt: Option<Receipt>,
    pub task: Option<Task>,
    /// Whose turn lasts until this is kept.
    pub turn: Option<OwnedMutexGuard<()>>,
}

/// The receipt of a lightning call, and its whole result where that is too long for a list.
pub struct Receipt {
    pub row: NewReceipt,
    pub result: Option<String>,
}

struct Reservation {
    call: ToolCall,
    instance: String,
    /// Since when the asker waits for somebody else's answer.
    waited_since: Option<Timestamp>,
}

struct Ending {
    call: ToolCall,
    reply: Option<String>,
    keep: Keep,
    receipt: Option<Receipt>,
    task: Option<Task>,
    now: Timestamp,
}

pub(super) fn key(principal: &str) -> Key {
    Key::text("tools", principal)
}

impl Tools {
    pub(super) async fn reserve(
        &self,
        call: &Call,
        waited_since: Option<Timestamp>,
    ) -> Result<Reserved, Stop> {
        let now = self.now();
        let principal = call.owner();
        let fresh = ToolCall {
            principal: principal.clone(),
            receipt_hash: call.hash.clone(),
            state: CallState::Running,
            holder: format!("{}:{}", self.instance, self.ids.uuid32()),
            attempt: 1,
            lease_until: now.plus_seconds(LEASE_SECONDS),
            first_seen: now,
            begun_at: now,
            changed_at: now,
            expires_at: None,
            reply: None,
        };
        let ask = Reservation { call: fresh, instance: self.instance.clone(), waited_since };
        self.store.write("tools_reserve", key(&principal), ask, reserve).await
    }

    /// Says that the call is still being worked on; `false` when somebody else has it now.
    pub(super) async fn renew(&self, call: &ToolCall) -> Result<bool, Stop> {
        let lease_until = self.now().plus_seconds(LEASE_SECONDS);
        let ask = ToolCall { lease_until, ..call.clone() };
        self.store.write("tools_renew", key(&call.principal), ask, renew).await
    }

    /// Keeps what a call came to.
    pub(super) async fn finish(&self, call: ToolCall, finished: Finished) -> Result<ToolOutcome, Stop> {
        let Finished { outcome, keep, receipt, task, turn } = finished;
        let reply = serde_json::to_string(&outcome)
            .map_err(|error| oa_contract::Fault::new("writing what a call came to", error))?;
        let key = key(&call.principal);
        let ask = Ending { call, reply: Some(reply), keep, receipt, task, now: self.now() };
        self.store.write("tools_finish", key, ask, finish).await?;
        drop(turn);
        Ok(outcome)
    }

    /// Lets go of a call that ended without an answer.
    pub(super) async fn release(&self, call: ToolCall) -> Result<(), Stop> {
        let key = key(&call.principal);
        let ask = Ending { call, reply: None, keep: Keep::No, receipt: None, task: None, now: self.now() };
        self.store.write("tools_release", key, ask, finish).await
    }
}

async fn reserve(tx: &mut Tx, ask: &Reservation) -> Result<Reserved, Stop> {
    let known = rows::call(tx, &ask.call.principal, &ask.call.receipt_hash).await?;
    // A file has one process: whatever another one left running in it is dead.
    let alone = tx.engine() == EngineKind::Sqlite;
    let ruling = decide(ask, known, alone);
    if let Reserved::Mine(call) = &ruling {
        rows::put_call(tx, call).await?;
    }
    Ok(ruling)
}

fn decide(ask: &Reservation, known: Option<ToolCall>, alone: bool) -> Reserved {
    let Some(known) = known else { return Reserved::Mine(ask.call.clone()) };
    let now = ask.call.changed_at;
    let again = |begun_at| {
        let (first_seen, attempt) = (known.first_seen, known.attempt + 1);
        Reserved::Mine(ToolCall { first_seen, begun_at, attempt, ..ask.call.clone() })
    };
    match known.state {
        CallState::Done if known.expires_at.is_none_or(|end| now < end) => {
            Reserved::Known(known.reply.unwrap_or_default())
        }
        // The answer has expired: what was paid for it is spent, and this is another purchase.
        CallState::Done => again(now),
        CallState::Open if ask.waited_since.is_some_and(|since| known.changed_at >= since) => {
            Reserved::Ended(known.reply)
        }
        CallState::Open => again(known.begun_at),
        CallState::Running => {
            let (holder, instance) = (&known.holder, &ask.instance);
            // Nobody else in this process works on it: there is one flight for each call.
            let left = alone || holder.split(':').next() == Some(instance) || now >= known.lease_until;
            if left { again(known.begun_at) } else { Reserved::Taken }
        }
    }
}

async fn renew(tx: &mut Tx, ask: &ToolCall) -> Result<bool, Stop> {
    let known = rows::call(tx, &ask.principal, &ask.receipt_hash).await?;
    let mine = known.is_some_and(|known| known.holder == ask.holder && known.state == CallState::Running);
    if mine {
        rows::put_call(tx, ask).await?;
    }
    Ok(mine)
}

async fn finish(tx: &mut Tx, ask: &Ending) -> Result<(), Stop> {
    let known = rows::call(tx, &ask.call.principal, &ask.call.receipt_hash).await?;
    if known.is_none_or(|known| known.holder != ask.call.holder || known.state != CallState::Running) {
        // Somebody took it over and will answer for it.
        return Ok(());
    }
    let (state, expires_at) = match ask.keep {
        Keep::Forever => (CallState::Done, None),
        Keep::Until(end) => (CallState::Done, Some(end)),
        Keep::No => (CallState::Open, None),
    };
    let (changed_at, reply) = (ask.now, ask.reply.clone());
    rows::put_call(tx, &ToolCall { state, changed_at, expires_at, reply, ..ask.call.clone() }).await?;
    if let Some(task) = &ask.task {
        l402::put_task(tx, task).await?;
    }
    if let Some(receipt) = &ask.receipt {
        let event_id = l402::add_receipt(tx, &receipt.row).await?;
        if let Some(result) = &receipt.result {
            l402::put_result(tx, event_id, result).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_unix_seconds(second)
    }

    fn call(holder: &str, second: i64) -> ToolCall {
        ToolCall {
            principal: "7".into(),
            receipt_hash: "h".into(),
            state: CallState::Running,
            holder: holder.into(),
            attempt: 1,
            lease_until: at(second + LEASE_SECONDS),
            first_seen: at(second),
            begun_at: at(second),
            changed_at: at(second),
            expires_at: None,
            reply: None,
        }
    }

    fn asked(second: i64) -> Reservation {
        Reservation { call: call("me:2", second), instance: "me".into(), waited_since: None }
    }

    fn mine(ruling: Reserved) -> ToolCall {
        match ruling {
            Reserved::Mine(call) => call,
            _ => panic!("not given"),
        }
    }

    #[test]
    fn what_another_process_holds_is_taken_until_its_lease_ends() {
        let other = || Some(call("other:1", 100));
        assert!(matches!(decide(&asked(159), other(), false), Reserved::Taken));
        let taken = mine(decide(&asked(160), other(), false));
        assert_eq!((taken.attempt, taken.first_seen, taken.begun_at), (2, at(100), at(100)));
        assert_eq!(mine(decide(&asked(101), other(), true)).attempt, 2);
        assert_eq!(mine(decide(&asked(101), Some(call("me:1", 100)), false)).holder, "me:2");
    }

    #[test]
    fn an_answer_is_given_until_it_expires_and_then_the_call_begins_anew() {
        let done = |expires_at| {
            Some(ToolCall { state: CallState::Done, reply: Some("r".into()), expires_at, ..call("x:1", 100) })
        };
        assert!(matches!(decide(&asked(9_999), done(None), false), Reserved::Known(reply) if reply == "r"));
        assert!(matches!(decide(&asked(199), done(Some(at(200))), false), Reserved::Known(_)));
        let anew = mine(decide(&asked(200), done(Some(at(200))), false));
        assert_eq!((anew.first_seen, anew.begun_at), (at(100), at(200)));
    }

    #[test]
    fn who_waited_gets_the_answer_that_is_not_kept_and_who_comes_later_tries_again() {
        let open = || Some(ToolCall { state: CallState::Open, reply: Some("r".into()), ..call("x:1", 100) });
        let waited = Reservation { waited_since: Some(at(99)), ..asked(101) };
        assert!(matches!(decide(&waited, open(), false), Reserved::Ended(Some(reply)) if reply == "r"));
        assert_eq!(mine(decide(&asked(101), open(), false)).begun_at, at(100));
    }
}
