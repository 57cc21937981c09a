//! Decides what a fetch comes to: the answer, a price that is too high, a price that somebody has to agree to, or a
//! price that is paid and what was bought with it (control §11.6).

use oa_contract::{Refusal, Stop};
use oa_fetch::{FetchError, Fetched};
use oa_store::{
    Tx,
    tables::l402::{self as rows, Credential, Task, TaskState},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    End, Facts, Run, bad_gateway,
    challenge::Challenge,
    invoice::Invoice,
    receipt::Response,
    settle::{Bill, DayLimits, OverDay, Proof, Settled, credential_place},
    target::Target,
};
use crate::tools::{Tools, execute::Verdict, ledger::Keep};

/// An approval waits so long.
const APPROVAL_SECONDS: i64 = 30 * 60;

/// What waits for approval, sealed.
#[derive(Serialize, Deserialize)]
pub struct Held {
    pub target: Target,
    pub macaroon: String,
    pub invoice: String,
}

/// The price of a fetch, once it is known.
#[derive(Clone, Copy)]
pub struct Price {
    pub quoted_msats: Option<u64>,
    pub max_msats: u64,
}

impl Price {
    fn amount(self) -> u64 {
        self.quoted_msats.unwrap_or(self.max_msats)
    }
}

impl Tools {
    pub(super) async fn fetch(&self, run: &Run<'_>, target: &Target) -> Result<End, Stop> {
        if let Some(payment) = self.payment_of(&run.subject()).await? {
            // An earlier attempt at this very call had come as far as paying.
            let price = Price { quoted_msats: payment.quoted_msats, max_msats: payment.max_msats };
            let settled = self.resume(payment).await?;
            return self.settled(run, target, price, settled, None).await;
        }
        if !run.limits.allows(&target.host) {
            let result =
                json!({"blocked": true, "host": target.host, "allowedHosts": run.limits.allowed_hosts()});
            let message = format!("{} is not among the hosts that may be fetched", target.host);
            let verdict = Verdict::denied("policy_denied.host_not_allowed", message, result);
            return Ok(End::new(verdict, self.for_a_while(), facts(target)));
        }
        let credential = self.credential(run.principal(), target).await?;
        let fetched = self.send(target, credential.as_deref()).await?;
        let response = Response::of(&fetched);
        if response.status != 402 {
            return Ok(self.answered(target, response, credential.is_some()));
        }
        let challenges = fetched.headers.iter().filter(|(name, _)| name == "www-authenticate");
        let Some(challenge) = Challenge::read(challenges.map(|(_, value)| value.as_str())) else {
            let message = "the answer is 402, without a macaroon and an invoice";
            let verdict = Verdict::failed("l402_challenge_missing", message, result_of(target, &response));
            return Ok(End::new(verdict, Keep::No, Facts { response: Some(response), ..facts(target) }));
        };
        let config = &self.config;
        match Invoice::read(&challenge.invoice, config.trust, &config.l402.network, self.now()) {
            Ok(invoice) => self.priced(run, target, challenge, invoice).await,
            Err(why) => {
                let verdict = Verdict::failed("l402_invoice_invalid", why, result_of(target, &response));
                Ok(End::new(verdict, Keep::No, Facts { response: Some(response), ..facts(target) }))
            }
        }
    }

    fn answered(&self, target: &Target, response: Response, cache_hit: bool) -> End {
        let result = result_of(target, &response);
        let (verdict, keep) = match (response.is_good(), cache_hit) {
            (true, true) => (Verdict::allowed("cached_fetch_completed", result), self.for_a_while()),
            (true, false) => {
                (Verdict::allowed("fetch_completed_without_challenge", result), self.for_a_while())
            }
            (false, _) => {
                let message = format!("{} answered {}", target.host, response.status);
                let keep = if response.may_pass() { Keep::No } else { self.for_a_while() };
                (Verdict::failed("fetch_failed", message, result), keep)
            }
        };
        End::new(verdict, keep, Facts { cache_hit, response: Some(response), ..facts(target) })
    }

    async fn priced(
        &self,
        run: &Run<'_>,
        target: &Target,
        challenge: Challenge,
        invoice: Invoice,
    ) -> Result<End, Stop> {
        let quoted_msats = invoice.amount_msats;
        let price = Price { quoted_msats, max_msats: run.limits.cap(quoted_msats) };
        if quoted_msats.is_some_and(|quoted| quoted > price.max_msats) {
            return Ok(self.too_dear(target, price));
        }
        let day = days(run);
        let over = self.room_today(run.principal(), run.autopilot(), day, price.amount()).await?;
        if let Some(over) = over {
            return Ok(self.over_the_day(target, price, &over, None));
        }
        if run.limits.require_approval {
            return self.ask_for_approval(run, target, challenge, invoice, price).await;
        }
        let bill = Bill {
            subject: run.subject(),
            principal: run.principal(),
            autopilot: run.autopilot(),
            payment_hash: &invoice.payment_hash,
            invoice: &invoice.text,
            macaroon: &challenge.macaroon,
            origin: &target.origin,
            host: &target.host,
            scope: &target.scope,
            quoted_msats,
            max_msats: price.max_msats,
            day,
        };
        let settled = self.settle(bill).await?;
        self.settled(run, target, price, settled, None).await
    }

    pub(super) fn too_dear(&self, target: &Target, price: Price) -> End {
        let result = json!({"blocked": true, "host": target.host, "scope": target.scope,
            "quotedAmountMsats": price.quoted_msats, "maxSpendMsats": price.max_msats});
        let message = "the price is higher than a call may cost";
        let verdict = Verdict::denied("policy_denied.max_spend_per_call_exceeded", message, result);
        End::new(verdict, self.for_a_while(), priced_facts(target, price))
    }

    fn over_the_day(&self, target: &Target, price: Price, over: &OverDay, task_id: Option<&str>) -> End {
        let result = json!({"blocked": true, "host": target.host, "scope": target.scope,
            "quotedAmountMsats": price.quoted_msats, "maxSpendMsatsPerDay": over.limit_msats,
            "spentMsatsToday": over.spent_msats, "projectedMsatsToday": over.projected_msats});
        let message = "the price is higher than what is left of today's limit";
        let verdict = Verdict::denied("policy_denied.max_spend_per_day_exceeded", message, result);
        // A payment under way may fail and give its share back, and tomorrow is another day: it is not remembered.
        let facts = Facts { task_id: task_id.map(str::to_owned), ..priced_facts(target, price) };
        End::new(verdict, Keep::No, facts)
    }

    async fn ask_for_approval(
        &self,
        run: &Run<'_>,
        target: &Target,
        challenge: Challenge,
        invoice: Invoice,
        price: Price,
    ) -> Result<End, Stop> {
        let task_id = self.task_id(run).await?;
        let now = self.now();
        let expires_at = now.plus_seconds(APPROVAL_SECONDS);
        let held = Held { target: target.clone(), macaroon: challenge.macaroon, invoice: invoice.text };
        let held = serde_json::to_string(&held)
            .map_err(|error| oa_contract::Fault::new("writing what waits for approval", error))?;
        let task = Task {
            held: self.vault.seal(&*self.ids, &format!("task/{task_id}"), &held)?,
            task_id: task_id.clone(),
            principal: run.principal().to_owned(),
            state: TaskState::Pending,
            payment_hash: invoice.payment_hash,
            origin: target.origin.clone(),
            host: target.host.clone(),
            scope: target.scope.clone(),
            autopilot: run.autopilot().to_owned(),
            quoted_msats: price.quoted_msats,
            max_msats: price.max_msats,
            max_day_msats: run.limits.caller_day_msats,
            created_at: now,
            expires_at,
            changed_at: now,
        };
        let result = json!({"taskId": task_id, "status": "approval_requested", "host": target.host,
            "scope": target.scope, "quotedAmountMsats": price.quoted_msats, "maxSpendMsats": price.max_msats,
            "expiresAt": expires_at.zulu_seconds()});
        let verdict = Verdict {
            state: "blocked",
            decision: "approval_requested",
            reason_code: "approval_required".into(),
            error: None,
            result,
        };
        let facts = Facts { task_id: Some(task_id), ..priced_facts(target, price) };
        // Asked again later, there is a new price to agree to.
        let end = End::new(verdict, Keep::Until(expires_at), facts);
        Ok(End { task: Some(task), ..end })
    }

    /// The name of the task: from the hash of the call, and for a later purchase under it, from its beginning too.
    async fn task_id(&self, run: &Run<'_>) -> Result<String, Stop> {
        let plain = format!("l402tsk_{}", &run.call.hash[..24]);
        let read = async |tx: &mut Tx, task_id: &String| rows::task(tx, task_id).await;
        match self.store.read("l402_task", plain.clone(), read).await? {
            None => Ok(plain),
            Some(_) => {
                let again = format!("{}:{}", run.call.hash, run.row.begun_at.micros());
                let digest = oa_contract::canonical::hex(&Sha256::digest(again));
                Ok(format!("l402tsk_{}", &digest[..24]))
            }
        }
    }

    /// What a payment came to, and with it the call.
    pub(super) async fn settled(
        &self,
        run: &Run<'_>,
        target: &Target,
        price: Price,
        settled: Settled,
        task_id: Option<&str>,
    ) -> Result<End, Stop> {
        let facts = Facts { task_id: task_id.map(str::to_owned), ..priced_facts(target, price) };
        let result = json!({"host": target.host, "scope": target.scope, "quotedAmountMsats": price.quoted_msats,
            "maxSpendMsats": price.max_msats, "paymentBackend": self.payer.backend()});
        match settled {
            Settled::Paid(proof) => self.bought(run, target, price, proof, facts).await,
            Settled::OverDay(over) => Ok(self.over_the_day(target, price, &over, task_id)),
            Settled::Failed { code, message, retryable } => {
                let keep = if retryable || task_id.is_some() { Keep::No } else { self.for_a_while() };
                let verdict = Verdict::failed("invoice_pay_failed", message, result).with_error_code(&code);
                Ok(End::new(verdict, keep, facts))
            }
            Settled::Unknown { code, message } => {
                let message = format!(
                    "{message}; whether it was paid is not known. Ask again with exactly the same request: the payer is asked, and nothing is paid twice"
                );
                let verdict = Verdict::failed("invoice_payment_unknown", message, result);
                let verdict = Verdict { state: "blocked", ..verdict.with_error_code(&code) };
                Ok(End::new(verdict, Keep::No, facts))
            }
        }
    }

    /// Fetches what was paid for.
    async fn bought(
        &self,
        run: &Run<'_>,
        target: &Target,
        price: Price,
        proof: Proof,
        facts: Facts,
    ) -> Result<End, Stop> {
        let credential = format!("{}:{}", proof.macaroon, proof.preimage_hex);
        let fetched = match self.send(target, Some(&credential)).await {
            Ok(fetched) => fetched,
            Err(Stop::Refusal(refusal)) => {
                tracing::warn!(receipt_hash = run.call.hash, "paid, and then not answered");
                let message = format!(
                    "{}; it is paid: ask again with exactly the same request, and it is only fetched",
                    refusal.message
                );
                return Err(Refusal { message, ..refusal }.into());
            }
            Err(stop) => return Err(stop),
        };
        let response = Response::of(&fetched);
        let proof_reference = format!("preimage:{}", &proof.preimage_hex[..16]);
        let result = json!({"host": target.host, "scope": target.scope, "quotedAmountMsats": price.quoted_msats,
            "maxSpendMsats": price.max_msats, "response": response.view(),
            "payment": {"paymentId": proof.payment_id, "proofReference": proof_reference}});
        let good = response.is_good();
        let facts = Facts {
            paid: good,
            amount_msats: proof.amount_msats.or(Some(price.amount())),
            proof_reference: Some(proof_reference),
            response: Some(response.clone()),
            ..facts
        };
        let (verdict, keep) = match (good, &facts.task_id) {
            (true, None) => (Verdict::allowed("paid_fetch_completed", result), self.for_a_while()),
            (true, Some(_)) => (Verdict::allowed("paid_fetch_completed", result), Keep::Forever),
            (false, _) => {
                let message = format!("it is paid, but {} answered {}", target.host, response.status);
                // Asked again, it is fetched again and not paid again.
                let keep = if response.may_pass() { Keep::No } else { self.for_a_while() };
                (Verdict::failed("paid_fetch_failed", message, result), keep)
            }
        };
        Ok(End::new(verdict, keep, facts))
    }

    /// A credential of this caller for this place and scope that is still good.
    async fn credential(&self, principal: &str, target: &Target) -> Result<Option<String>, Stop> {
        let ask = (principal.to_owned(), target.origin.clone(), target.scope.clone());
        let read = async |tx: &mut Tx, (principal, origin, scope): &(String, String, String)| {
            rows::credential(tx, principal, origin, scope).await
        };
        let kept: Option<Credential> = self.store.read("l402_credential", ask, read).await?;
        let good = kept.filter(|kept| self.now() < kept.expires_at);
        let place = credential_place(principal, &target.origin, &target.scope);
        Ok(good.and_then(|good| self.vault.open(&place, &good.credential)))
    }

    async fn send(&self, target: &Target, credential: Option<&str>) -> Result<Fetched, Stop> {
        self.fetcher()?.send(target.request(credential)).await.map_err(|error| match error {
            FetchError::Forbidden(why) => {
                Refusal::field("request.url", format!("request.url may not be fetched: {why}")).into()
            }
            FetchError::Unsent(_) => bad_gateway(format!("{} could not be reached", target.host)).into(),
            FetchError::Failed(_) => bad_gateway(format!("{} did not answer well", target.host)).into(),
        })
    }
}

pub(super) fn days(run: &Run<'_>) -> DayLimits {
    DayLimits { caller_msats: run.limits.caller_day_msats, house_msats: run.limits.house_day_msats }
}

fn result_of(target: &Target, response: &Response) -> Value {
    json!({"host": target.host, "scope": target.scope, "response": response.view()})
}

fn facts(target: &Target) -> Facts {
    Facts { host: target.host.clone(), scope: target.scope.clone(), ..Facts::default() }
}

fn priced_facts(target: &Target, price: Price) -> Facts {
    Facts { quoted_msats: price.quoted_msats, max_msats: Some(price.max_msats), ..facts(target) }
}
