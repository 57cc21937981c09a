//! Decides what an approval comes to: the fetch that waited is paid for and done, once. An approval is used up by a
//! payment that succeeded, and by nothing else (control §11.6, §21.2).

use oa_contract::{Fault, Refusal, Stop};
use oa_store::{
    Tx,
    tables::l402::{self as rows, Receipt, Task, TaskState},
};
use serde_json::{Value, json};

use super::{
    End, Facts, Run,
    fetch::{Held, Price, days},
    settle::{Bill, DayLimits, task_subject},
};
use crate::tools::{Tools, config::TrustMode, execute::Verdict, ledger::Keep};

impl Tools {
    pub(super) async fn approve(&self, run: &Run<'_>, task_id: &str) -> Result<End, Stop> {
        // Until the receipt is kept, so that whoever comes next finds it.
        let turn = self.paying.take(&task_subject(task_id)).await;
        let end = self.approve_in_turn(run, task_id).await?;
        Ok(End { turn: Some(turn), ..end })
    }

    async fn approve_in_turn(&self, run: &Run<'_>, task_id: &str) -> Result<End, Stop> {
        let ask = (run.principal().to_owned(), task_id.to_owned());
        let (task, paid) = self.store.read("l402_approve", ask, known).await?;
        // Whose task it is, strangers are not told.
        let task = task
            .filter(|task| task.principal == run.principal())
            .ok_or_else(|| Refusal::not_found("there is no such task"))?;
        match (task.state, paid) {
            (TaskState::Paid, Some((receipt, result))) => Ok(self.already(&task, &receipt, result)),
            (TaskState::Expired, _) => Ok(self.expired(task)),
            (TaskState::Pending | TaskState::Failed, _) if self.now() >= task.expires_at => {
                Ok(self.expired(task))
            }
            _ => self.carry_out(run, task).await,
        }
    }

    fn already(&self, task: &Task, receipt: &Receipt, result: Value) -> End {
        let verdict = Verdict::allowed("approval_already_executed", result);
        let quoted_msats = task.quoted_msats;
        let facts = Facts { quoted_msats, max_msats: Some(task.max_msats), ..facts(task) };
        tracing::debug!(event_id = receipt.event_id, "an approval was asked for again");
        End::new(verdict, Keep::Forever, facts)
    }

    fn expired(&self, task: Task) -> End {
        let result =
            json!({"taskId": task.task_id, "status": "expired", "host": task.host, "scope": task.scope});
        let message = "the approval came too late: fetch again for a new price";
        let verdict = Verdict::denied("approval_task_expired", message, result);
        let end = End::new(verdict, Keep::Forever, facts(&task));
        let changed_at = self.now();
        End { task: Some(Task { state: TaskState::Expired, changed_at, ..task }), ..end }
    }

    async fn carry_out(&self, run: &Run<'_>, task: Task) -> Result<End, Stop> {
        let sealed = self.vault.open(&format!("task/{}", task.task_id), &task.held);
        let sealed = sealed.ok_or_else(|| {
            Fault::msg(format!("the task {} is sealed with another key than this service has", task.task_id))
        })?;
        let held: Held = serde_json::from_str(&sealed)
            .map_err(|error| Fault::new("reading what waits for approval", error))?;
        let price = Price { quoted_msats: task.quoted_msats, max_msats: task.max_msats };
        let (target, task_id) = (&held.target, task.task_id.as_str());
        let subject = task_subject(task_id);
        if let Some(payment) = self.payment_of(&subject).await? {
            let settled = self.resume(payment).await?;
            return self.settled(run, target, price, settled, Some(task_id)).await;
        }
        if let Some(end) = self.forbidden_meanwhile(run, &held, price, &task) {
            return Ok(end);
        }
        let day = days(run);
        let caller_msats = [day.caller_msats, task.max_day_msats].into_iter().flatten().min();
        let bill = Bill {
            subject,
            principal: run.principal(),
            autopilot: &task.autopilot,
            payment_hash: &task.payment_hash,
            invoice: &held.invoice,
            macaroon: &held.macaroon,
            origin: &task.origin,
            host: &task.host,
            scope: &task.scope,
            quoted_msats: task.quoted_msats,
            max_msats: task.max_msats,
            day: DayLimits { caller_msats, ..day },
        };
        let settled = self.settle(bill).await?;
        self.settled(run, target, price, settled, Some(task_id)).await
    }

    /// What was asked for under other limits is held to those of today.
    fn forbidden_meanwhile(&self, run: &Run<'_>, held: &Held, price: Price, task: &Task) -> Option<End> {
        if self.config.trust == TrustMode::Lenient {
            return None;
        }
        let cap_msats = run.limits.cap(price.quoted_msats);
        if price.quoted_msats.is_some_and(|quoted| quoted > cap_msats) {
            let mut end = self.too_dear(&held.target, Price { max_msats: cap_msats, ..price });
            end.facts.task_id = Some(task.task_id.clone());
            return Some(End { keep: Keep::No, ..end });
        }
        if !run.limits.allows(&task.host) {
            let result =
                json!({"blocked": true, "host": task.host, "allowedHosts": run.limits.allowed_hosts()});
            let message = format!("{} is not among the hosts that may be fetched", task.host);
            let verdict = Verdict::denied("policy_denied.host_not_allowed", message, result);
            return Some(End::new(verdict, Keep::No, facts(task)));
        }
        None
    }
}

fn facts(task: &Task) -> Facts {
    Facts {
        host: task.host.clone(),
        scope: task.scope.clone(),
        task_id: Some(task.task_id.clone()),
        ..Facts::default()
    }
}

type Known = (Option<Task>, Option<(Receipt, Value)>);

/// The task, and what was bought for it.
async fn known(tx: &mut Tx, (principal, task_id): &(String, String)) -> Result<Known, Stop> {
    let task = rows::task(tx, task_id).await?;
    let Some(receipt) = rows::paid_receipt_of_task(tx, principal, task_id).await? else {
        return Ok((task, None));
    };
    let result = match rows::result(tx, receipt.event_id).await? {
        Some(whole) => serde_json::from_str(&whole),
        None => serde_json::from_str(&receipt.receipt.payload)
            .map(|payload: Value| payload.get("result").cloned().unwrap_or_default()),
    };
    let result = result.map_err(|error| Fault::new("reading what an approval came to", error))?;
    Ok((task, Some((receipt, result))))
}
