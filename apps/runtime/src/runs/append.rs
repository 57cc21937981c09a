//! Decides whether an event may enter a run's log, and which number it gets (runtime-core §9.3).

use oa_contract::{
    Answer, Ask, Caller, Handle, Refusal, Stop, Timestamp,
    matrix::RunsAppend,
    receipt::validate_known_event,
    wire::runs::{Actor, AppendEvent, Appended, EventPosition, EventWindow, RunReply},
};
use oa_store::{Tx, tables::runs::Head};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::{
    bounded_json,
    get::{self, Look},
    key,
    log::{self, Entry, Logged},
    minimal, visible_head,
};
use crate::Runtime;

/// Receipt types that only the service may write (§23.3).
const SERVICE_RECEIPTS: [&str; 12] = [
    "QuoteCommitted",
    "PriceIntegrityPassed",
    "PriceIntegrityFailed",
    "BudgetReserved",
    "BudgetReleased",
    "VerificationPassed",
    "VerificationFailed",
    "CepSettlementLinked",
    "PaymentReleased",
    "PaymentWithheld",
    "RouterDecision",
    "HydraRoutingDecision",
];

/// Everything the transaction needs, decided before it.
struct Append {
    run_id: Uuid,
    caller: Caller,
    entry: Entry,
    expected_previous_seq: Option<u64>,
    event_limit: u64,
    now: Timestamp,
}

impl Handle<RunsAppend> for Runtime {
    async fn handle(&self, ask: Ask<RunsAppend>) -> Result<Answer<Appended>, Stop> {
        let run_id = ask.path.run_id;
        let minimal_wanted = ask.meta.wants_minimal();
        let expected_previous_seq = ask.body.expected_previous_seq;
        let entry = admit(ask.body)?;
        let caller = ask.caller.clone();
        let append = Append {
            run_id,
            caller: ask.caller,
            entry,
            expected_previous_seq,
            event_limit: self.config.run_event_limit,
            now: self.now(),
        };
        let logged = self.store.write("runs.append", key(run_id), append, append_event).await?;
        if logged.replayed {
            self.hub.counters.duplicate();
        }
        if minimal_wanted {
            return Ok(minimal(Appended::Position(logged.position)));
        }
        // The event is in the log: whatever keeps us from showing the whole run is no reason to refuse.
        match self.whole(run_id, caller).await {
            Ok(whole) => return Ok(Appended::Run(Box::new(whole)).into()),
            // Too long to be shown at once, for one.
            Err(Stop::Refusal(_)) => {}
            // A chain that does not fit is ours to look at, whoever was answered.
            Err(Stop::Fault(fault)) => {
                tracing::error!(%run_id, seq = logged.position.seq, "a run whose event was kept cannot be read: {fault}");
            }
        }
        Ok(minimal(Appended::Position(logged.position)))
    }
}

impl Runtime {
    async fn whole(&self, run_id: Uuid, caller: Caller) -> Result<RunReply, Stop> {
        let look = Look { run_id, caller, window: EventWindow::default() };
        Ok(RunReply { run: self.store.read("runs.get", look, get::read).await? })
    }
}

struct Done {
    position: EventPosition,
    replayed: bool,
}

/// Idempotency before state: a repeated append is answered, whatever the run has become since.
async fn append_event(tx: &mut Tx, ask: &Append) -> Result<Done, Stop> {
    let head = visible_head(tx, ask.run_id, &ask.caller).await?;
    if let Some(position) = log::replayed(tx, &head, &ask.entry).await? {
        return Ok(Done { position, replayed: true });
    }
    decide(&head, &ask.entry, ask.expected_previous_seq, ask.event_limit)?;
    let Logged { position, .. } = log::append_fresh(tx, head, &ask.entry, ask.now).await?;
    Ok(Done { position, replayed: false })
}

/// Whether the event fits the run's state, the run is where the caller believes it to be, and has room.
fn decide(
    head: &Head,
    entry: &Entry,
    expected_previous_seq: Option<u64>,
    event_limit: u64,
) -> Result<(), Refusal> {
    log::next_status(head.status, entry)?;
    if let Some(expected) = expected_previous_seq.filter(|expected| *expected != head.latest_seq) {
        let message = format!(
            "expected_previous_seq {expected} does not match actual previous seq {}",
            head.latest_seq
        );
        return Err(Refusal::conflict(message));
    }
    match head.latest_seq >= event_limit {
        true => Err(Refusal::invalid(format!(
            "the run holds {event_limit} events, which is the most; begin another run"
        ))),
        false => Ok(()),
    }
}

/// What a caller may write: not what belongs to the treasury, not what only the service can know, and nothing
/// that would spoil the receipt (§9.3, §23.3).
fn admit(event: AppendEvent) -> Result<Entry, Refusal> {
    let event_type = event.event_type.trim();
    match event_type {
        "payment" => {
            return Err(Refusal::invalid("payment events must be emitted via treasury settlement endpoints"));
        }
        "" => return Err(Refusal::invalid("event_type cannot be empty")),
        "fraud" => return Err(Refusal::invalid("fraud events are recorded by the service itself")),
        long if long.len() > 255 => return Err(Refusal::invalid("event_type is longer than 255 bytes")),
        control if control.contains(char::is_control) => {
            return Err(Refusal::invalid("event_type contains a control character"));
        }
        _ => {}
    }
    let payload = bounded_json("payload", event.payload.as_deref())?;
    if matches!(event_type, "tool" | "verification" | "receipt") {
        admit_known(event_type, &payload)?;
    }
    let key = event.idempotency_key.as_deref().map(str::trim).filter(|key| !key.is_empty());
    if key.is_some_and(|key| key.len() > 255) {
        return Err(Refusal::invalid("idempotency_key is longer than 255 bytes"));
    }
    Ok(Entry {
        event_type: event_type.to_owned(),
        payload,
        idempotency_key: key.map(str::to_owned),
        actor: Actor::Caller,
    })
}

fn admit_known(event_type: &str, payload: &RawValue) -> Result<(), Refusal> {
    let payload: Value = serde_json::from_str(payload.get()).unwrap_or(Value::Null);
    if event_type == "receipt" {
        let claimed = payload["receipt_type"].as_str().unwrap_or_default();
        return match SERVICE_RECEIPTS.contains(&claimed) {
            true => {
                Err(Refusal::invalid(format!("receipts of type {claimed} are issued by the service itself")))
            }
            false => Ok(()),
        };
    }
    validate_known_event(event_type, &payload).map_err(Refusal::invalid)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use oa_contract::{
        Nothing,
        matrix::RunsStart,
        wire::{paths::RunPath, runs::StartRun},
    };
    use oa_store::{Statement, params};
    use tracing::{
        Metadata,
        span::{Attributes, Id, Record},
    };

    use super::*;
    use crate::testing::{World, operator};

    fn event(event_type: &str, payload: &str) -> AppendEvent {
        AppendEvent {
            event_type: event_type.into(),
            payload: Some(RawValue::from_string(payload.into()).expect("json")),
            idempotency_key: Some("  k  ".into()),
            expected_previous_seq: None,
        }
    }

    #[test]
    fn type_and_key_are_trimmed_and_the_payload_keeps_its_order() {
        let entry = admit(event(" step ", r#"{"b":1,"a":2,"b":3}"#)).expect("admitted");
        assert_eq!(entry.event_type, "step");
        assert_eq!(entry.idempotency_key.as_deref(), Some("k"));
        assert_eq!(entry.payload.get(), r#"{"b":3,"a":2}"#);
    }

    #[test]
    fn what_belongs_to_the_service_is_refused_with_the_specified_sentence() {
        let message =
            |event_type: &str, payload: &str| admit(event(event_type, payload)).expect_err("refused").message;
        assert_eq!(
            message(" payment", "{}"),
            "payment events must be emitted via treasury settlement endpoints"
        );
        assert_eq!(message("  ", "{}"), "event_type cannot be empty");
        assert!(message("fraud", "{}").contains("service"));
        assert!(message("receipt", r#"{"receipt_type":"PaymentReleased"}"#).contains("PaymentReleased"));
        assert!(admit(event("receipt", r#"{"receipt_type":"DeviceEnrolled"}"#)).is_ok());
    }

    #[test]
    fn an_event_that_would_spoil_the_receipt_is_refused_with_the_receipts_own_sentence() {
        let refused = admit(event("tool", r#"{"tool":"x"}"#)).expect_err("refused");
        assert_eq!(refused.message, "invalid tool receipt payload: missing params_hash");
    }

    /// Counts the errors that this file says.
    struct Errors(Arc<AtomicUsize>);

    impl tracing::Subscriber for Errors {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &tracing::Event<'_>) {
            let said = event.metadata();
            if *said.level() == tracing::Level::ERROR
                && said.target() == module_path!().trim_end_matches("::tests")
            {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    /// What a disk that forgets would do: the row's seal is not its own any more.
    static DAMAGE: Statement =
        Statement::new("test/damage", "UPDATE runs SET metadata = '{\"a\":2}' WHERE run_id = $1", None);

    async fn damage(tx: &mut Tx, run_id: &Uuid) -> Result<u64, Stop> {
        tx.execute(&DAMAGE, params![run_id.as_bytes()]).await
    }

    #[tokio::test]
    async fn a_run_that_cannot_be_read_is_told_to_whoever_runs_the_service_and_the_event_is_acknowledged() {
        let world = World::sqlite().await;
        let (_, begun) = world
            .call::<RunsStart>(&operator(), Nothing {}, Nothing {}, StartRun::default())
            .await
            .expect("begun");
        let run_id = begun.run.id;
        let append = async |key: &str| {
            let event = AppendEvent { idempotency_key: Some(key.into()), ..event("step", "{}") };
            world
                .call::<RunsAppend>(&operator(), RunPath { run_id }, Nothing {}, event)
                .await
                .expect("kept")
                .1
        };
        let errors = Arc::new(AtomicUsize::new(0));
        let _listening = tracing::subscriber::set_default(Errors(errors.clone()));
        assert!(matches!(append("1").await, Appended::Run(_)));
        assert_eq!(errors.load(Ordering::Relaxed), 0);
        assert_eq!(world.runtime.store.write("test.damage", (), run_id, damage).await.expect("written"), 1);
        let Appended::Position(kept) = append("2").await else { panic!("a damaged run was shown") };
        assert_eq!((kept.seq, errors.load(Ordering::Relaxed)), (3, 1));
    }
}
