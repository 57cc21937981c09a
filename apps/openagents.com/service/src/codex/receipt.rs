//! Decides how a request ends: with exactly one receipt, the worker's or, when the worker cannot give one any more, the
//! service's own (control §14.4).

use oa_contract::{
    Fault, Refusal, Stop, Timestamp,
    wire::codex::{CodexRequestError, Error},
};
use oa_store::{
    Tx,
    tables::{
        codex::{self as rows, Receipt as Ended, Request, RequestState, Worker},
        threads::{self, Turn, TurnStatus},
    },
};

use super::{
    key_of, log,
    payload::{Outcome, Receipt, print},
    state,
};

/// Requests that are ended in one look.
const BATCH: u32 = 256;

/// What a receipt meets.
pub enum Meets {
    /// A request that still waits for it.
    Open(Box<Request>),
    /// The same receipt, taken before as the event of this number.
    Itself(u64),
}

/// Finds what a receipt ends. One for nothing, for another method, or beside another receipt is refused.
pub async fn meet(
    tx: &mut Tx,
    worker_id: &str,
    receipt: &Receipt,
    fingerprint: [u8; 32],
) -> Result<Meets, Stop> {
    let request = rows::request(tx, worker_id, &key_of(&receipt.request_id)).await?.ok_or_else(|| {
        let message = format!("no request {:?} was made of this worker", receipt.request_id);
        Refusal::field("event.payload.request_id", message)
    })?;
    if request.method != receipt.method {
        let message = format!("the request asked for {}", request.method);
        return Err(Refusal::field("event.payload.method", message).into());
    }
    match request.receipt {
        None => Ok(Meets::Open(Box::new(request))),
        Some(ended) if ended.fingerprint == fingerprint => Ok(Meets::Itself(ended.seq)),
        Some(ended) => {
            let message = format!("this request ended with event {}; a request has one receipt", ended.seq);
            Err(Refusal::conflict(message).into())
        }
    }
}

/// Writes down how a request ended, and with which event.
pub async fn end(
    tx: &mut Tx,
    request: Request,
    outcome: &Outcome,
    fingerprint: [u8; 32],
    seq: u64,
) -> Result<Request, Stop> {
    let (state, answer) = match outcome {
        Outcome::Done(response) => (RequestState::Done, log::raw(response)?),
        Outcome::Failed(error) => {
            let error = serde_json::value::to_raw_value(error);
            (RequestState::Failed, error.map_err(|error| Fault::new("writing an error", error))?)
        }
    };
    let receipt = Some(Ended { fingerprint, seq });
    let request = Request { state, answer: Some(answer), receipt, deadline_at: None, ..request };
    rows::put_request(tx, &request).await?;
    Ok(request)
}

/// The service ends a request by itself. The caller saves the worker.
pub async fn end_by_service(
    tx: &mut Tx,
    worker: &mut Worker,
    request: Request,
    (code, message): (&str, &str),
    now: Timestamp,
    keep: u64,
) -> Result<Request, Stop> {
    let error = CodexRequestError {
        code: code.to_owned(),
        message: message.to_owned(),
        retryable: Some(true),
        details: None,
    };
    let payload = Error {
        request_id: request.request_id.clone(),
        method: request.method.clone(),
        error: error.clone(),
        occurred_at: now,
    };
    let payload = serde_json::to_value(payload).map_err(|error| Fault::new("writing a receipt", error))?;
    let event = log::append_own(tx, worker, state::ERROR, &payload, now, keep).await?;
    end(tx, request, &Outcome::Failed(error), print(state::ERROR, &payload), event.seq).await
}

/// Ends whatever the worker was still asked, and the turns that it was in. The caller saves the worker.
pub async fn end_all(
    tx: &mut Tx,
    worker: &mut Worker,
    why: &str,
    now: Timestamp,
    keep: u64,
) -> Result<(), Stop> {
    loop {
        let pending = rows::pending(tx, &worker.worker_id, BATCH).await?;
        if pending.is_empty() {
            return end_turns(tx, worker, now).await;
        }
        for request in pending {
            end_by_service(tx, worker, request, ("worker_unavailable", why), now, keep).await?;
        }
    }
}

/// Nobody goes on with the turns of a worker that came to rest.
async fn end_turns(tx: &mut Tx, worker: &Worker, now: Timestamp) -> Result<(), Stop> {
    for turn in threads::running_turns_of(tx, &worker.worker_id, BATCH).await? {
        let turn = Turn { status: TurnStatus::Failed, ended_at: Some(now), ..turn };
        threads::put_turn(tx, &turn).await?;
    }
    Ok(())
}

/// Ends a request whose time is over. The caller saves the worker.
pub async fn time_out(
    tx: &mut Tx,
    worker: &mut Worker,
    request: Request,
    now: Timestamp,
    keep: u64,
) -> Result<Request, Stop> {
    let why = "the worker did not answer before the deadline; what it did meanwhile stands in its feed";
    end_by_service(tx, worker, request, ("timeout", why), now, keep).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codex::fresh, testing::World};

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_772_000_000);

    fn turn(turn_id: &str, worker_id: &str) -> Turn {
        Turn {
            thread_id: "t".into(),
            turn_id: turn_id.into(),
            worker_id: worker_id.into(),
            request_id: None,
            status: TurnStatus::Running,
            model: None,
            started_at: NOW,
            ended_at: None,
        }
    }

    async fn a_worker_ends(tx: &mut Tx, (): &()) -> Result<(Worker, Vec<Turn>), Stop> {
        let mut worker = fresh("w", "u", NOW);
        for turn in [turn("1", "w"), turn("2", "w"), turn("3", "other")] {
            threads::put_turn(tx, &turn).await?;
        }
        end_all(tx, &mut worker, "it ended", NOW.plus_seconds(5), 100).await?;
        let mut turns = Vec::new();
        for turn_id in ["1", "2", "3"] {
            turns.extend(threads::turn(tx, "t", turn_id).await?);
        }
        Ok((worker, turns))
    }

    #[tokio::test]
    async fn the_turns_of_a_worker_end_with_it_and_those_of_others_go_on() {
        let world = World::new().await;
        let (worker, turns) =
            world.control.store.write("test.end", (), (), a_worker_ends).await.expect("ended");
        assert_eq!(worker.latest_seq, 0, "nothing was asked, so nothing is told");
        let ended: Vec<_> = turns.iter().map(|turn| (turn.status, turn.ended_at)).collect();
        let at = Some(NOW.plus_seconds(5));
        assert_eq!(ended, [(TurnStatus::Failed, at), (TurnStatus::Failed, at), (TurnStatus::Running, None)]);
    }
}
