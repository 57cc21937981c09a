//! `POST /internal/v1/comms/delivery-events`: what a message provider says about one message becomes a durable
//! fact, once per provider and event id (§15). Taken in every write mode: a webhook that is not taken is lost.
//! Whoever comes first with an event's id decides what it says, so the row is for operators: for who takes the webhooks.

use oa_contract::{
    Answer, Ask, Handle, Refusal, Stop, Timestamp, canonical,
    matrix::CommsDeliveryEvents,
    wire::comms::{DeliveryReceipt, DeliveryStatus, RecordDelivery},
};
use oa_store::{
    Key, Tx,
    tables::comms::{self, DeliveryRow},
};
use serde_json::json;

use crate::Runtime;

/// The longest provider and event id that are kept.
const LONGEST_NAME: usize = 255;

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ruling {
    Keep,
    Known,
}

impl Handle<CommsDeliveryEvents> for Runtime {
    async fn handle(&self, ask: Ask<CommsDeliveryEvents>) -> Result<Answer<DeliveryReceipt>, Stop> {
        let event = read(ask.body, self.now())?;
        let event_id = event.event_id.clone();
        let key = Key::text("delivery_event", format!("{}/{event_id}", event.provider));
        let ruling = self.store.write("comms.delivery_events", key, event, commit).await?;
        let receipt = DeliveryReceipt {
            event_id: event_id.clone(),
            status: DeliveryStatus::Accepted,
            idempotent_replay: ruling == Ruling::Known,
            event_id_camel: event_id,
        };
        Ok(Answer::new(receipt).with_status(if ruling == Ruling::Known { 200 } else { 202 }))
    }
}

async fn commit(tx: &mut Tx, event: &DeliveryRow) -> Result<Ruling, Stop> {
    let known = comms::get(tx, &event.provider, &event.event_id).await?;
    let ruling = decide(known.as_ref(), event)?;
    if ruling == Ruling::Keep {
        comms::insert(tx, event).await?;
    }
    Ok(ruling)
}

fn decide(known: Option<&DeliveryRow>, event: &DeliveryRow) -> Result<Ruling, Refusal> {
    match known {
        None => Ok(Ruling::Keep),
        Some(known) if known.fingerprint == event.fingerprint => Ok(Ruling::Known),
        Some(_) => Err(Refusal::conflict("event_id payload mismatch for existing webhook event")),
    }
}

fn read(body: RecordDelivery, received_at: Timestamp) -> Result<DeliveryRow, Refusal> {
    let event_id = named("event_id", body.event_id.trim().to_owned())?;
    let provider = named("provider", body.provider.trim().to_lowercase())?;
    let delivery_state = body.delivery_state.trim().to_lowercase();
    if delivery_state.is_empty() {
        return Err(Refusal::invalid("delivery_state is required"));
    }
    let payload = body.payload.filter(|payload| payload.get() != "null");
    let payload = payload.ok_or_else(|| Refusal::invalid("payload is required"))?;
    let unreadable = |error: serde_json::Error| Refusal::invalid(format!("payload cannot be read: {error}"));
    let payload = canonical::normalise(payload.get()).map_err(unreadable)?;
    let value: serde_json::Value = serde_json::from_str(payload.get()).map_err(unreadable)?;
    // A list, because a member could be absent or `null` and an object would have to tell the two apart.
    let said = json!([
        delivery_state,
        body.message_id,
        body.integration_id,
        body.recipient,
        body.occurred_at,
        body.reason,
        value
    ]);
    Ok(DeliveryRow {
        fingerprint: canonical::canonical_digest(&said),
        provider,
        event_id,
        delivery_state,
        message_id: body.message_id,
        integration_id: body.integration_id,
        recipient: body.recipient,
        occurred_at: body.occurred_at,
        reason: body.reason,
        payload,
        received_at,
    })
}

fn named(field: &str, text: String) -> Result<String, Refusal> {
    match text.chars().count() {
        0 => Err(Refusal::invalid(format!("{field} is required"))),
        1..=LONGEST_NAME => Ok(text),
        _ => Err(Refusal::invalid(format!("{field} must be at most {LONGEST_NAME} characters"))),
    }
}

#[cfg(test)]
mod tests {
    use oa_contract::Nothing;
    use serde_json::{Value, value::RawValue};

    use super::*;
    use crate::{
        WriteMode,
        testing::{World, config, on_each_engine, operator, refused},
    };

    fn event(body: Value) -> RecordDelivery {
        serde_json::from_str(&body.to_string()).expect("a body")
    }

    fn example() -> Value {
        json!({
            "event_id": " evt_9f2 ", "provider": " Resend", "delivery_state": "Delivered ", "message_id": "email_77",
            "recipient": "a@example.com", "occurred_at": "2026-02-25T10:00:00Z", "payload": {"rawType": "email.delivered", "n": 1},
        })
    }

    async fn post(world: &World, body: RecordDelivery) -> Result<(u16, DeliveryReceipt), Stop> {
        world.call::<CommsDeliveryEvents>(&operator(), Nothing {}, Nothing {}, body).await
    }

    #[tokio::test]
    async fn an_event_is_accepted_once_and_known_ever_after() {
        on_each_engine(async |world: World| {
            let (status, receipt) = post(&world, event(example())).await.expect("accepted");
            let told = serde_json::to_string(&receipt).expect("JSON");
            assert_eq!(status, 202);
            assert_eq!(
                told,
                r#"{"event_id":"evt_9f2","status":"accepted","idempotentReplay":false,"eventId":"evt_9f2"}"#
            );
            let world = world.restart().await;
            let mut again = example();
            again["payload"] = json!({"n": 1, "rawType": "email.delivered"});
            let (status, receipt) = post(&world, event(again)).await.expect("accepted");
            assert_eq!((status, receipt.idempotent_replay), (200, true));
            let mut other_provider = example();
            other_provider["provider"] = "postmark".into();
            assert_eq!(post(&world, event(other_provider)).await.expect("accepted").0, 202);
            let read = async |tx: &mut Tx, (): &()| comms::get(tx, "resend", "evt_9f2").await;
            let kept =
                world.runtime.store.read("test.get", (), read).await.expect("read").expect("the event");
            assert_eq!(
                (kept.delivery_state.as_str(), kept.recipient.as_deref()),
                ("delivered", Some("a@example.com"))
            );
            assert_eq!(kept.payload.get(), r#"{"rawType":"email.delivered","n":1}"#);
        })
        .await;
    }

    #[tokio::test]
    async fn another_content_under_a_known_id_is_a_conflict() {
        let world = World::sqlite().await;
        post(&world, event(example())).await.expect("accepted");
        for (member, value) in [
            ("delivery_state", json!("bounced")),
            ("message_id", Value::Null),
            ("integration_id", json!("")),
            ("recipient", json!("b@example.com")),
            ("occurred_at", json!("2026-02-25T10:00:00.000Z")),
            ("reason", json!("x")),
            ("payload", json!({"rawType": "email.delivered", "n": 1.0})),
        ] {
            let mut changed = example();
            changed[member] = value;
            let refusal = refused(post(&world, event(changed)).await);
            assert_eq!(
                (refusal.code.name(), refusal.message.as_str()),
                ("conflict", "event_id payload mismatch for existing webhook event"),
                "{member}"
            );
        }
    }

    #[tokio::test]
    async fn duplicates_at_one_time_are_accepted_once() {
        on_each_engine(async |world: World| {
            let posts = (0..16).map(|_| post(&world, event(example())));
            let posts = futures_util::future::join_all(posts).await;
            let statuses: Vec<u16> = posts.into_iter().map(|posted| posted.expect("accepted").0).collect();
            assert_eq!(statuses.iter().filter(|status| **status == 202).count(), 1);
            assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 15);
        })
        .await;
    }

    #[test]
    fn what_is_missing_is_told_in_order() {
        let said = |body: Value| read(event(body), Timestamp::EPOCH).expect_err("refused").message;
        let blank = json!({"event_id": " ", "provider": " ", "delivery_state": "", "payload": null});
        assert_eq!(said(blank.clone()), "event_id is required");
        let with = |more: &[(&str, Value)]| {
            let mut body = blank.clone();
            more.iter().for_each(|(member, value)| body[*member] = value.clone());
            body
        };
        let (id, provider) = (("event_id", json!("e")), ("provider", json!("p")));
        let state = ("delivery_state", json!("s"));
        assert_eq!(said(with(std::slice::from_ref(&id))), "provider is required");
        assert_eq!(said(with(&[id.clone(), provider.clone()])), "delivery_state is required");
        assert_eq!(said(with(&[id.clone(), provider.clone(), state.clone()])), "payload is required");
        let mut absent = with(&[id.clone(), provider.clone(), state.clone()]);
        absent.as_object_mut().expect("an object").remove("payload");
        assert_eq!(said(absent), "payload is required");
        for falsy in [json!(false), json!(0), json!(""), json!({}), json!([])] {
            let whole = with(&[id.clone(), provider.clone(), state.clone(), ("payload", falsy)]);
            assert!(read(event(whole), Timestamp::EPOCH).is_ok());
        }
        let long = with(&[("event_id", "x".repeat(256).into()), provider, state]);
        assert_eq!(said(long), "event_id must be at most 255 characters");
    }

    #[test]
    fn a_payload_that_is_too_deep_is_refused() {
        let mut body = event(example());
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        body.payload = Some(RawValue::from_string(deep).expect("JSON"));
        let refusal = read(body, Timestamp::EPOCH).expect_err("refused");
        assert!(
            refusal.message.starts_with("payload cannot be read: recursion limit"),
            "{}",
            refusal.message
        );
    }

    #[tokio::test]
    async fn a_read_only_instance_still_takes_deliveries() {
        let config = crate::Config { write_mode: WriteMode::ReadOnly, ..config() };
        let world = World::with(oa_store::EngineKind::Sqlite, config).await;
        assert_eq!(post(&world, event(example())).await.expect("accepted").0, 202);
        assert!(!<CommsDeliveryEvents as oa_contract::Operation>::ROW.gated);
    }
}
