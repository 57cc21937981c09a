//! Decides what the worker takes from its feed: requests that still want an answer, decisions, and the word to stop; each once, over as many connections as it takes.

use std::{collections::BTreeMap, time::Duration};

use oa_client::CallError;
use oa_contract::wire::codex::{Approval, CodexEvent, Delivered, DeliveredRequest};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::control::{Control, refusal};
use crate::{
    backoff::{Backoff, may_pass},
    failure::Failure,
    output::Format,
    runs::sse,
};

/// A connection that is silent for so long is taken for dead: the service sends comments meanwhile.
const SILENCE: Duration = Duration::from_secs(45);
/// Every so many events it is remembered how far the feed was read.
const REMEMBER: u64 = 200;

/// What the feed asks of the worker.
#[derive(Debug)]
pub enum Order {
    Request {
        seq: u64,
        request: Box<DeliveredRequest>,
    },
    Approval(Approval),
    /// Somebody stopped the worker, for this reason.
    Stopped(String),
    /// Behind this there may be something to do, and nothing up to it.
    Seen(u64),
}

pub struct Feed {
    control: Control,
    orders: mpsc::Sender<Order>,
    format: Format,
    reader: Reader,
}

impl Feed {
    /// `seen` is the last event that an earlier process took care of.
    pub fn new(control: Control, orders: mpsc::Sender<Order>, format: Format, seen: u64) -> Self {
        Feed { control, orders, format, reader: Reader::new(seen) }
    }

    /// Follows the feed from the first attachment on. Ends only when control refuses.
    pub async fn follow(mut self, mut attached: watch::Receiver<Option<u64>>) -> Failure {
        let Ok(latest) = attached.wait_for(Option::is_some).await.map(|latest| latest.unwrap_or_default())
        else {
            return Failure::wrong("the worker was never attached");
        };
        self.reader.born = latest;
        let mut backoff = Backoff::new();
        loop {
            let before = self.reader.cursor;
            let error = match self.connect().await {
                Ok(error) => error,
                // Whoever takes the orders has gone, and with it the reason to read.
                Err(Gone) => return Failure::wrong("nobody takes orders"),
            };
            if self.reader.cursor != before {
                backoff = Backoff::new();
            }
            let passes = match &error {
                // The poster brings a worker back that control does not know.
                CallError::Refused { status: 404 | 409 | 410, .. } => true,
                error => may_pass(error),
            };
            if !passes {
                return Failure::call(self.control.client.base(), error);
            }
            backoff.wait(&error).await;
        }
    }

    /// One connection, until it breaks.
    async fn connect(&mut self) -> Result<CallError, Gone> {
        let worker = match self.control.look().await {
            Ok(worker) => worker,
            Err(error) => return Ok(error),
        };
        if worker.latest_seq < self.reader.cursor {
            self.format
                .note("control knows less of this worker than this worker does: its feed is read anew");
            self.reader.cursor = 0;
            self.pass(vec![Order::Seen(0)]).await?;
        }
        if worker.oldest_seq > self.reader.cursor + 1 {
            self.reader.cursor = worker.oldest_seq - 1;
        }
        let orders = self.reader.catch_up_to(worker.latest_seq);
        self.pass(orders).await?;
        let mut response = match tokio::time::timeout(SILENCE, self.control.follow(self.reader.cursor)).await
        {
            Ok(Ok(response)) if response.status().is_success() => response,
            Ok(Ok(response)) => return Ok(refusal(response).await),
            Ok(Err(error)) => return Ok(error),
            Err(_) => return Ok(CallError::NoAnswer("control stays silent".to_owned())),
        };
        let mut chunks = sse::Reader::default();
        loop {
            let chunk = match tokio::time::timeout(SILENCE, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(CallError::NoAnswer("the feed ended".to_owned())),
                Ok(Err(error)) => return Ok(CallError::NoAnswer(error.to_string())),
                Err(_) => return Ok(CallError::NoAnswer("control stays silent".to_owned())),
            };
            for event in chunks.read(&chunk) {
                let Ok(event) = serde_json::from_str(&event.data) else {
                    return Ok(CallError::Unreadable("an event of the feed".to_owned()));
                };
                let orders = self.reader.read(event);
                self.pass(orders).await?;
            }
        }
    }

    async fn pass(&self, orders: Vec<Order>) -> Result<(), Gone> {
        for order in orders {
            self.orders.send(order).await.map_err(|_| Gone)?;
        }
        Ok(())
    }
}

/// Nobody takes orders any more.
struct Gone;

/// What the events so far come to.
struct Reader {
    cursor: u64,
    remembered: u64,
    /// What happened before this process attached does not stop it.
    born: u64,
    /// Events up to this one were there before we looked.
    old_until: u64,
    /// Requests among them. Those that have ended meanwhile (control ends them when nobody answers) must not be
    /// done any more.
    held: BTreeMap<u64, DeliveredRequest>,
}

#[derive(Deserialize)]
struct Ended {
    request_id: String,
}

impl Reader {
    fn new(seen: u64) -> Self {
        Reader { cursor: seen, remembered: seen, born: 0, old_until: 0, held: BTreeMap::new() }
    }

    fn catch_up_to(&mut self, latest: u64) -> Vec<Order> {
        self.old_until = latest;
        self.release()
    }

    fn read(&mut self, event: CodexEvent) -> Vec<Order> {
        if event.seq <= self.cursor {
            return Vec::new();
        }
        self.cursor = event.seq;
        let payload = event.payload.get();
        let mut orders = Vec::new();
        match event.event_type.as_str() {
            "worker.request" => {
                if let Ok(Delivered { request }) = serde_json::from_str(payload) {
                    self.held.insert(event.seq, request);
                }
            }
            "worker.response" | "worker.error" => {
                if let Ok(Ended { request_id }) = serde_json::from_str(payload) {
                    self.held.retain(|_, request| request.request_id != request_id);
                }
            }
            "worker.approval" => orders.extend(serde_json::from_str(payload).map(Order::Approval)),
            "worker.stopped" if event.seq > self.born => {
                let payload: Value = serde_json::from_str(payload).unwrap_or_default();
                orders.push(Order::Stopped(payload["reason"].as_str().unwrap_or("requested").to_owned()));
            }
            _ => {}
        }
        orders.extend(self.release());
        orders
    }

    /// Once the past is read, what it left open is to be done, and what comes is to be done at once.
    fn release(&mut self) -> Vec<Order> {
        if self.cursor < self.old_until {
            return Vec::new();
        }
        let held = std::mem::take(&mut self.held);
        let mut orders: Vec<Order> = held
            .into_iter()
            .map(|(seq, request)| Order::Request { seq, request: Box::new(request) })
            .collect();
        if !orders.is_empty() || self.cursor >= self.remembered + REMEMBER {
            self.remembered = self.cursor;
            orders.push(Order::Seen(self.cursor));
        }
        orders
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(seq: u64, event_type: &str, payload: Value) -> CodexEvent {
        serde_json::from_value(json!({"seq": seq, "event_type": event_type, "payload": payload,
            "occurred_at": "2026-01-01T00:00:00Z", "received_at": "2026-01-01T00:00:00Z"}))
        .expect("an event")
    }

    fn request(seq: u64, id: &str) -> CodexEvent {
        let request = json!({"request_id": id, "method": "turn/start", "params": {}, "request_version": null,
            "sent_at": "2026-01-01T00:00:00Z", "source": null, "thread_id": "t"});
        event(seq, "worker.request", json!({"request": request}))
    }

    fn done(orders: Vec<Order>) -> Vec<String> {
        let id = |order| match order {
            Order::Request { request, .. } => Some(request.request_id),
            _ => None,
        };
        orders.into_iter().filter_map(id).collect()
    }

    #[test]
    fn a_request_of_the_past_is_done_unless_it_has_ended() {
        let mut reader = Reader::new(0);
        assert!(reader.catch_up_to(4).is_empty());
        assert!(reader.read(request(1, "a")).is_empty());
        assert!(reader.read(request(2, "b")).is_empty());
        assert!(
            reader.read(event(3, "worker.error", json!({"request_id": "a", "code": "timeout"}))).is_empty()
        );
        assert_eq!(done(reader.read(request(4, "c"))), ["b", "c"]);
        assert_eq!(done(reader.read(request(5, "d"))), ["d"], "what comes now is done at once");
        assert!(reader.read(request(5, "d")).is_empty(), "and once");
    }

    #[test]
    fn only_a_stop_of_this_life_ends_the_worker() {
        let mut reader = Reader::new(0);
        reader.born = 3;
        let stops = |orders: Vec<Order>| orders.iter().any(|order| matches!(order, Order::Stopped(_)));
        assert!(!stops(reader.read(event(3, "worker.stopped", json!({"reason": "earlier"})))));
        assert!(stops(reader.read(event(4, "worker.stopped", json!({})))));
    }

    #[test]
    fn how_far_the_feed_was_read_is_remembered_now_and_then() {
        let mut reader = Reader::new(0);
        let seen: Vec<u64> = (1..=450)
            .flat_map(|seq| reader.read(event(seq, "worker.event", json!({}))))
            .filter_map(|order| if let Order::Seen(seq) = order { Some(seq) } else { None })
            .collect();
        assert_eq!(seen, [200, 400]);
    }
}
