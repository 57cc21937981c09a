//! Large and on-chain payouts wait for signatures, and are made once.

use futures_util::future::join_all;
use oa_contract::{
    canonical::unhex,
    matrix::{
        PoolsApprove, PoolsExecuteSigned, PoolsOpenChannel, PoolsPutSignerSet, PoolsSignerSet,
        PoolsSigningRequests,
    },
    receipt::ReceiptSignature,
    wire::{
        paths::PoolRequestPath,
        pool_signing::{
            ApproveSigning, ListSigningRequests, OpenChannel, PoolSigner, PutSignerSet, SignerSetReply,
            SigningExecuted, SigningRequest, SigningRequestReply, SigningStatus,
        },
        pools::WithdrawalStatus,
    },
};

use super::{wallet::Mood, *};

pub(super) fn key(n: u8) -> Signer {
    Signer::from_secret(&format!("{n:02x}").repeat(32)).expect("a key")
}

impl Place {
    pub(super) async fn put_signers(
        &self,
        threshold: u32,
        signers: &[Signer],
    ) -> Result<SignerSetReply, Stop> {
        let signers =
            signers.iter().map(|key| PoolSigner { pubkey: key.public_key_hex(), label: None }).collect();
        let body = PutSignerSet {
            schema: "openagents.liquidity.pool_signer_set_upsert_request.v1".into(),
            threshold,
            signers,
            policy: None,
        };
        let path = PoolPath { pool_id: POOL.into() };
        let told = self.world.call::<PoolsPutSignerSet>(&operator(), path, Nothing {}, body).await;
        told.map(|told| told.1)
    }

    async fn requests(&self, status: Option<SigningStatus>) -> Vec<SigningRequest> {
        let path = PoolPath { pool_id: POOL.into() };
        let query = ListSigningRequests { status, limit: None };
        let told = self.world.call::<PoolsSigningRequests>(&operator(), path, query, Nothing {}).await;
        told.expect("a list").1.requests
    }

    pub(super) async fn approve(
        &self,
        request: &SigningRequest,
        signature: ReceiptSignature,
    ) -> Result<SigningRequestReply, Stop> {
        let path = PoolRequestPath { pool_id: POOL.into(), request_id: request.request_id.clone() };
        let schema = "openagents.liquidity.pool_signing_approval_submit_request.v1".into();
        let body = ApproveSigning { schema, signature };
        self.world.call::<PoolsApprove>(&operator(), path, Nothing {}, body).await.map(|told| told.1)
    }

    async fn execute(&self, request: &SigningRequest) -> Result<SigningExecuted, Stop> {
        let path = PoolRequestPath { pool_id: POOL.into(), request_id: request.request_id.clone() };
        let told = self.world.call::<PoolsExecuteSigned>(&operator(), path, Nothing {}, Nothing {}).await;
        told.map(|told| told.1)
    }
}

fn signed(key: &Signer, request: &SigningRequest) -> ReceiptSignature {
    ReceiptSignature::new(key, &unhex(&request.payload_sha256).expect("a digest"))
}

/// A deposit, and a withdrawal on chain that waits for signatures.
pub(super) async fn waiting(place: &Place, shares: u64) -> (RequestWithdrawal, SigningRequest) {
    place.deposit("lp:a", "d", 10_000).await;
    let body = on_chain("lp:a", "w", shares, ADDRESS);
    place.withdraw(body.clone()).await.expect("queued");
    assert_eq!(place.execute_due().await.signing_requests_created, 1);
    let request = place.requests(Some(SigningStatus::Pending)).await.into_iter().next();
    (body, request.expect("a request"))
}

/// A withdrawal on chain that its one signer has agreed to.
pub(super) async fn approved(place: &Place, shares: u64) -> (RequestWithdrawal, SigningRequest) {
    place.put_signers(1, &[key(1)]).await.expect("signers");
    let (body, request) = waiting(place, shares).await;
    place.approve(&request, signed(&key(1), &request)).await.expect("approved");
    (body, request)
}

pub(super) async fn execute(place: &Place, request: &SigningRequest) -> Result<SigningExecuted, Stop> {
    place.execute(request).await
}

pub(super) async fn requests_in(place: &Place, status: SigningStatus) -> usize {
    place.requests(Some(status)).await.len()
}

#[tokio::test]
async fn a_payout_on_chain_needs_its_signatures_and_is_made_once() {
    on_each(TrustMode::Strict, usual_ways(), async |place: Place| {
        place.deposit("lp:a", "d0", 2_000).await;
        place.withdraw(on_chain("lp:a", "w0", 1_600, ADDRESS)).await.expect("queued");
        assert_eq!(place.execute_due().await.failed, 1, "there is nobody to sign");
        let [one, two] = [key(1), key(2)];
        place.put_signers(2, &[one.clone(), two.clone()]).await.expect("signers");
        place.world.clock.advance_ms(300_000);
        assert_eq!(place.execute_due().await.signing_requests_created, 1);
        assert_eq!(place.execute_due().await.attempted, 0, "it is the signers' now");
        let (body, request) = waiting(&place, 1_500).await;
        assert_eq!(
            (request.action_class.as_str(), request.required_signatures),
            ("onchain_withdrawal_batch", 2)
        );
        let payload: serde_json::Value = serde_json::from_str(request.payload_json.get()).expect("JSON");
        let withdrawal = place.again(body.clone()).await;
        assert_eq!(payload["withdrawal_id"], withdrawal.withdrawal_id);
        assert_eq!(oa_contract::canonical::canonical_hash(&payload), request.payload_sha256);
        let not_met = (409, "signing quorum not met".to_owned());
        assert_eq!(told(place.execute(&request).await), not_met);
        let reply = place.approve(&request, signed(&one, &request)).await.expect("approved");
        assert_eq!((reply.approvals.len(), reply.request.remaining_signatures), (1, Some(1)));
        place.approve(&request, signed(&one, &request)).await.expect("the same again");
        assert_eq!(told(place.execute(&request).await), not_met);
        place.approve(&request, signed(&two, &request)).await.expect("approved");
        let many = join_all((0..8).map(|_| place.execute(&request))).await;
        assert!(many.iter().any(Result::is_ok));
        assert_eq!(place.wallet.payments(), 1);
        let withdrawal = place.again(body).await;
        assert_eq!(withdrawal.status, WithdrawalStatus::Paid);
        assert!(withdrawal.wallet_receipt_sha256.is_some());
        assert_eq!(told(place.execute(&request).await), (409, "signing request is not pending".into()));
        let executed = place.requests(Some(SigningStatus::Executed)).await;
        let result: serde_json::Value =
            serde_json::from_str(executed[0].execution_result_json.as_ref().expect("a result").get())
                .expect("JSON");
        assert_eq!(result["txid"], "9f".repeat(32));
        let llp = place.llp().await;
        // 500 were sent and 40 went to the network, out of the thousand that were kept back for it.
        assert_eq!((llp.total_shares, llp.assets_sats_estimate), (11_460, 11_460));
        place.audit().await;
    })
    .await;
}

#[tokio::test]
async fn signatures_that_are_not_good_are_refused() {
    strictly(async |place: Place| {
        place.put_signers(1, &[key(1)]).await.expect("signers");
        let (_, request) = waiting(&place, 1_000).await;
        let stranger = signed(&key(9), &request);
        assert_eq!(
            told(place.approve(&request, stranger).await),
            (400, "signer is not in signer set".into())
        );
        let other = ReceiptSignature::new(&key(1), &[7; 32]);
        assert_eq!(
            told(place.approve(&request, other).await),
            (400, "signed_sha256 must match signing request payload sha".into())
        );
        let forged = ReceiptSignature { signature_hex: "00".repeat(64), ..signed(&key(1), &request) };
        assert_eq!(
            told(place.approve(&request, forged).await),
            (400, "signature verification failed".into())
        );
        let nothing = SigningRequest { request_id: "sigreq_nothing".into(), ..request.clone() };
        assert_eq!(told(place.approve(&nothing, signed(&key(1), &request)).await).0, 404);
        assert_eq!(told(place.execute(&nothing).await).0, 404);
        assert_eq!(place.wallet.payments(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_large_lightning_payout_waits_for_signatures_as_well() {
    strictly(async |place: Place| {
        place.put_signers(1, &[key(1)]).await.expect("signers");
        place.deposit("lp:a", "d", 300_000).await;
        let body = leaving("lp:a", "w", 200_000, &place.invoice("large", 200_000));
        place.withdraw(body.clone()).await.expect("queued");
        assert_eq!(place.execute_due().await.signing_requests_created, 1);
        let request = place.requests(None).await.pop().expect("a request");
        assert_eq!(request.action_class, "invoice_pay_large");
        place.approve(&request, signed(&key(1), &request)).await.expect("approved");
        // The wallet refuses: it may be executed again.
        place.wallet.set(Mood::Refuses);
        assert_eq!(told(place.execute(&request).await).0, 500);
        place.wallet.set(Mood::Good);
        let executed = place.execute(&request).await.expect("executed");
        assert_eq!(executed.request.status, SigningStatus::Executed);
        assert_eq!(executed.receipt.approvals.len(), 1);
        assert_eq!(place.again(body).await.status, WithdrawalStatus::Paid);
        assert_eq!(place.wallet.payments(), 1);
        place.audit().await;
    })
    .await;
}

#[tokio::test]
async fn a_sending_of_unknown_outcome_is_asked_for() {
    strictly(async |place: Place| {
        place.put_signers(1, &[key(1)]).await.expect("signers");
        let (body, request) = waiting(&place, 1_000).await;
        place.approve(&request, signed(&key(1), &request)).await.expect("approved");
        place.wallet.set(Mood::PaysSilently);
        assert_eq!(told(place.execute(&request).await).0, 409);
        assert_eq!(place.again(body.clone()).await.status, WithdrawalStatus::Approved);
        place.wallet.set(Mood::Good);
        place.world.clock.advance_ms(120_000);
        assert_eq!(place.execute_due().await.paid, 1, "the queue asks as well");
        assert_eq!((place.wallet.payments(), place.wallet.asked_to_pay().len()), (1, 1));
        assert_eq!(place.again(body).await.status, WithdrawalStatus::Paid);
        assert_eq!(place.requests(Some(SigningStatus::Executed)).await.len(), 1);
        place.audit().await;
    })
    .await;
}

#[tokio::test]
async fn strictly_signers_are_changed_by_those_who_sign_now() {
    strictly(async |place: Place| {
        let path = || PoolPath { pool_id: POOL.into() };
        let get =
            async || place.world.call::<PoolsSignerSet>(&operator(), path(), Nothing {}, Nothing {}).await;
        assert_eq!(told(get().await).0, 404);
        place.put_signers(1, &[key(1)]).await.expect("the first");
        let asked = place.put_signers(1, &[key(2)]).await.expect("asked");
        assert_eq!(asked.signer_set.signers[0].pubkey, key(1).public_key_hex(), "nothing has changed yet");
        let request = asked.signing_request.expect("a request");
        assert_eq!(told(place.execute(&request).await), (409, "signing quorum not met".into()));
        assert_eq!(told(place.approve(&request, signed(&key(2), &request)).await).0, 400);
        place.approve(&request, signed(&key(1), &request)).await.expect("approved");
        place.execute(&request).await.expect("changed");
        let now = get().await.expect("signers").1.signer_set;
        assert_eq!(now.signers[0].pubkey, key(2).public_key_hex());
    })
    .await;
    on_each(TrustMode::Lenient, settings(), async |place: Place| {
        place.put_signers(1, &[key(1)]).await.expect("the first");
        let set = place.put_signers(1, &[key(2)]).await.expect("the second").signer_set;
        assert_eq!(set.signers[0].pubkey, key(2).public_key_hex());
    })
    .await;
}

#[tokio::test]
async fn a_request_asks_for_as_many_signatures_as_the_signers_of_today() {
    on_each(TrustMode::Lenient, settings(), async |place: Place| {
        place.put_signers(3, &[key(1), key(2), key(3)]).await.expect("signers");
        let (body, request) = waiting(&place, 1_000).await;
        assert_eq!(request.required_signatures, 3);
        place.put_signers(1, &[key(1), key(2)]).await.expect("fewer");
        let reply = place.approve(&request, signed(&key(2), &request)).await.expect("approved");
        assert_eq!(reply.request.remaining_signatures, Some(0));
        place.execute(&request).await.expect("executed");
        assert_eq!(place.again(body).await.status, WithdrawalStatus::Paid);
    })
    .await;
}

#[tokio::test]
async fn channels_are_asked_for_and_without_a_node_not_opened() {
    strictly(async |place: Place| {
        let open = async |amount_sats: u64| {
            let path = PoolPath { pool_id: POOL.into() };
            let body = OpenChannel {
                schema: "openagents.liquidity.pool_treasury.open_channel_request.v1".into(),
                idempotency_key: "o".into(),
                peer_id: "02ab".into(),
                amount_sats,
            };
            let told = place.world.call::<PoolsOpenChannel>(&operator(), path, Nothing {}, body).await;
            told.map(|told| told.1.request)
        };
        assert_eq!(told(open(5).await), (409, "pool signer set not configured".into()));
        place.put_signers(1, &[key(1)]).await.expect("signers");
        let request = open(5).await.expect("asked");
        assert_eq!(open(5).await.expect("the same").request_id, request.request_id);
        let reused = "idempotency_key reused with different signing payload";
        assert_eq!(told(open(6).await), (409, reused.into()));
        place.approve(&request, signed(&key(1), &request)).await.expect("approved");
        let (status, message) = told(place.execute(&request).await);
        assert_eq!(status, 500);
        assert!(message.starts_with("open_channel failed (unsupported)"), "{message}");
        assert_eq!(place.requests(Some(SigningStatus::Pending)).await.len(), 1, "it may be tried again");
    })
    .await;
}
