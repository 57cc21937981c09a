//! THE TABLE. A route exists if and only if it has one row here. Routers, proxies, OpenAPI, docs, the status
//! page, the client and the contract tests are derived from it; nobody keeps a second list.
//!
//! A row says why it is there, then its lane, its operation, its one name, method and path; then what is asked
//! (path, query, body) and answered (statuses, the usual one first), who may call, whether it is `gated`
//! (refused while the instance is read-only) or `open`, the codes it may refuse with beyond those that every
//! row shares, and the request headers it reads. A row not built yet stands in `planned { }`, without
//! types, and answers `501 not_built`; taking it out makes the compiler ask for its handler.

use crate::{
    operation::{
        Answer, Ask, Authority, Body, Cacheable, Class, Enveloped, EventStream, Forward, Handle, Lane,
        Method, Mount, Ndjson, Nothing, Operation, PathParams, Prometheus, Reply, Row, Shape, Streamed,
        body_schema, query_schema, sealed::Sealed,
    },
    receipt::Receipt,
    refusal::{Code, Service, Stop},
    wire::{
        accounts, admin, autopilots, budgets, chat, codex, comms, control, credit, fraud, fx, health, hydra,
        identity, l402, liquidity, marketplace, openapi, paths, pool_signing, pools, projectors, resolutions,
        routing, runs, shell, skills, spacetime, sync, threads, tools, treasury, verifications, workers,
    },
};

macro_rules! lane {
    (native) => {
        Lane::Native
    };
    (proxied) => {
        Lane::Proxied
    };
    (authority) => {
        Lane::Authority
    };
    (control) => {
        Lane::Aside(Service::Control)
    };
    (runtime) => {
        Lane::Aside(Service::Runtime)
    };
}

macro_rules! method {
    (GET) => {
        Method::Get
    };
    (POST) => {
        Method::Post
    };
    (DELETE) => {
        Method::Delete
    };
}

macro_rules! class {
    (anyone) => {
        Class::Anyone
    };
    (service) => {
        Class::Service
    };
    (operator) => {
        Class::Operator
    };
    ((user $ability:literal)) => {
        Class::User($ability)
    };
    (native) => {
        Class::User("*")
    };
    (authority) => {
        Class::Service
    };
    (control) => {
        Class::User("*")
    };
    (runtime) => {
        Class::Operator
    };
}

macro_rules! gate {
    (gated) => {
        true
    };
    (open) => {
        false
    };
}

/// What a lane adds to an operation: authority rows may be proxied, proxied rows need no handler.
macro_rules! lane_impl {
    (authority $op:ident) => {
        impl Authority for $op {}
    };
    (proxied $op:ident) => {
        impl<S: Forward> Handle<$op> for S {
            async fn handle(&self, ask: Ask<$op>) -> Result<Answer<Enveloped>, Stop> {
                self.forward::<$op>(ask).await
            }
        }
        const _: fn() = crate::operation::is_proxied::<$op>;
    };
    ($other:ident $op:ident) => {};
}

macro_rules! operation {
    (row [$($why:literal)+] $lane:ident $op:ident $name:literal $method:ident $path:literal
        ($p:ty, $q:ty, $b:ty) -> [$($status:literal)+] $reply:ty,
        by $class:tt, $gate:ident, may [$($code:ident)*], reads [$($header:literal)*]
    ) => {
        $(#[doc = $why])+
        pub enum $op {}
        impl Sealed for $op {}
        impl Operation for $op {
            const ROW: &'static Row = &Row {
                name: $name,
                method: method!($method),
                path: $path,
                lane: lane!($lane),
                rationale: concat!($($why),+),
                built: true,
                class: class!($class),
                gated: gate!($gate),
                success: &[$($status),+],
                refusals: &[$(Code::$code),*],
                headers: &[$($header),*],
                shape: Shape {
                    path: <$p as PathParams>::NAMES,
                    query: query_schema::<$q>,
                    body: body_schema::<$b>,
                    reply: <$reply as Reply>::schema,
                    has_body: !<$b as Body>::NONE,
                    content_type: <$reply as Reply>::CONTENT_TYPE,
                    also: <$reply as Reply>::ALSO,
                },
            };
            type Path = $p;
            type Query = $q;
            type Body = $b;
            type Reply = $reply;
        }
        lane_impl!($lane $op);
    };
    (planned [$($why:literal)+] $lane:ident $op:ident $name:literal $method:ident $path:literal) => {
        $(#[doc = $why])+
        pub enum $op {}
        impl Sealed for $op {}
        impl Operation for $op {
            const ROW: &'static Row = &Row {
                name: $name,
                method: method!($method),
                path: $path,
                lane: lane!($lane),
                rationale: concat!($($why),+),
                built: false,
                class: class!($lane),
                gated: false,
                success: &[],
                refusals: &[Code::NotBuilt],
                headers: &[],
                shape: Shape {
                    path: &[],
                    query: query_schema::<Nothing>,
                    body: body_schema::<Nothing>,
                    reply: <Nothing as Reply>::schema,
                    has_body: false,
                    content_type: "application/json",
                    also: None,
                },
            };
            type Path = paths::AnyPath;
            type Query = Nothing;
            type Body = Nothing;
            type Reply = Nothing;
        }
        impl<S: Send + Sync + 'static> Handle<$op> for S {
            async fn handle(&self, _: Ask<$op>) -> Result<Answer<Nothing>, Stop> {
                let message = concat!("`", $name, "` stands in the route table, but this build does not serve it yet");
                Err(crate::refusal::Refusal::new(Code::NotBuilt, message).into())
            }
        }
    };
}

macro_rules! section {
    ($(#[doc = $doc:literal])+ $rows:ident $serves:ident $mount:ident {
        $( $(#[doc = $why:literal])+ $state:ident { $lane:ident $op:ident = $name:literal, $method:ident $path:literal $($shape:tt)* } )+
    }) => {
        $( operation!($state [$($why)+] $lane $op $name $method $path $($shape)*); )+

        $(#[doc = $doc])+
        pub const $rows: &[&Row] = &[$(<$op as Operation>::ROW),+];

        /// Whoever decides every row of this section.
        pub trait $serves: $(Handle<$op> +)+ {}
        impl<S: $(Handle<$op> +)+> $serves for S {}

        /// Gives every row of the section to `mount`, in the order of the table.
        pub fn $mount<S: $serves>(mount: &mut impl Mount<S>) {
            $( mount.row::<$op>(); )+
        }
    };
}

section! {
    /// The `/api/runtime/*` rows, in the order of the route-ownership document.
    CONTROL ServesControl mount_control {
        /// Control runs tool packs itself: it holds the caller's policy and the tool-call ledger.
        row { native ToolsExecute = "tools.execute", POST "/api/runtime/tools/execute"
            (Nothing, Nothing, tools::ExecuteTool) -> [200] tools::ToolReply,
            by (user "runtime.write"), open, may [NotFound Conflict DependencyUnavailable], reads [] }
        /// The skill registry lives with the users and organisations that own its records.
        row { native SkillsListToolSpecs = "skills.list_tool_specs", GET "/api/runtime/skills/tool-specs"
            (Nothing, skills::ListSpecs, Nothing) -> [200] skills::ToolSpecList,
            by (user "runtime.read"), open, may [InvalidRequest], reads [] }
        /// A tool specification is stored by the user who owns it.
        row { native SkillsStoreToolSpec = "skills.store_tool_spec", POST "/api/runtime/skills/tool-specs"
            (Nothing, Nothing, skills::StoreToolSpec) -> [201] skills::ToolSpecReply,
            by (user "runtime.write"), open, may [Conflict], reads [] }
        /// Skill specifications are listed from the control-owned registry.
        row { native SkillsListSkillSpecs = "skills.list_skill_specs", GET "/api/runtime/skills/skill-specs"
            (Nothing, skills::ListSpecs, Nothing) -> [200] skills::SkillSpecList,
            by (user "runtime.read"), open, may [InvalidRequest], reads [] }
        /// A skill specification is stored by the user who owns it.
        row { native SkillsStoreSkillSpec = "skills.store_skill_spec", POST "/api/runtime/skills/skill-specs"
            (Nothing, Nothing, skills::StoreSkillSpec) -> [201] skills::SkillSpecReply,
            by (user "runtime.write"), open, may [Conflict], reads [] }
        /// Publishing freezes a validated specification into an immutable release of the registry.
        row { native SkillsPublish = "skills.publish", POST "/api/runtime/skills/skill-specs/:skill_id/:version/publish"
            (paths::SkillPath, Nothing, Nothing) -> [201] skills::SkillReleaseReply,
            by (user "runtime.write"), open, may [Conflict], reads [] }
        /// Releases are read where they were published.
        row { native SkillsRelease = "skills.release", GET "/api/runtime/skills/releases/:skill_id/:version"
            (paths::SkillPath, Nothing, Nothing) -> [200] skills::SkillReleaseReply,
            by (user "runtime.read"), open, may [], reads [] }
        /// Threads belong to the signed-in principal that control knows.
        row { native ThreadsList = "threads.list", GET "/api/runtime/threads"
            (Nothing, threads::ListThreads, Nothing) -> [200] threads::ThreadListReply,
            by (user "runtime.read"), open, may [InvalidRequest], reads [] }
        /// Messages are read by the owner of the thread, which control checks.
        row { native ThreadsMessages = "threads.messages", GET "/api/runtime/threads/:thread_id/messages"
            (paths::ThreadPath, threads::ListMessages, Nothing) -> [200] threads::MessageListReply,
            by (user "runtime.read"), open, may [], reads [] }
        /// A user's message enters a thread through the service that knows the user.
        row { native ThreadsAppendMessage = "threads.append_message", POST "/api/runtime/threads/:thread_id/messages"
            (paths::ThreadPath, Nothing, threads::AppendMessage) -> [200] threads::MessageAcceptedReply,
            by (user "runtime.write"), open, may [Conflict RateLimited], reads ["idempotency-key"] }
        /// Codex workers are attached to control, next to the threads that they serve.
        row { native CodexListWorkers = "codex.list_workers", GET "/api/runtime/codex/workers"
            (Nothing, codex::ListCodexWorkers, Nothing) -> [200] codex::CodexWorkerList,
            by (user "runtime.read"), open, may [InvalidRequest], reads [] }
        /// A codex worker is created for the signed-in principal.
        row { native CodexCreateWorker = "codex.create_worker", POST "/api/runtime/codex/workers"
            (Nothing, Nothing, codex::CreateCodexWorker) -> [202] codex::CreatedCodexWorkerReply,
            by (user "runtime.write"), open, may [], reads [] }
        /// One codex worker as control knows it.
        row { native CodexGetWorker = "codex.get_worker", GET "/api/runtime/codex/workers/:worker_id"
            (paths::WorkerPath, Nothing, Nothing) -> [200] codex::CodexWorkerReply,
            by (user "runtime.read"), open, may [], reads [] }
        /// The worker's event feed is kept by control, which assigned its sequence.
        row { native CodexStream = "codex.stream", GET "/api/runtime/codex/workers/:worker_id/stream"
            (paths::WorkerPath, codex::FollowCodexWorker, Nothing) -> [200] codex::CodexFeedReply,
            by (user "runtime.read"), open, may [RateLimited StaleCursor], reads ["accept" "last-event-id" "prefer"] }
        /// A codex worker posts its events to the service it is attached to.
        row { native CodexEvents = "codex.events", POST "/api/runtime/codex/workers/:worker_id/events"
            (paths::WorkerPath, Nothing, codex::PostCodexEvent) -> [202] codex::TakenCodexEventReply,
            by (user "runtime.write"), open, may [Conflict], reads [] }
        /// Stopping is an act of the worker's owner, checked by control.
        row { native CodexStop = "codex.stop", POST "/api/runtime/codex/workers/:worker_id/stop"
            (paths::WorkerPath, Nothing, codex::StopCodexWorker) -> [202] codex::StoppedCodexWorkerReply,
            by (user "runtime.write"), open, may [], reads [] }
        /// Requests to a codex worker pass control's idempotency ledger exactly once.
        row { native CodexRequests = "codex.requests", POST "/api/runtime/codex/workers/:worker_id/requests"
            (paths::WorkerPath, Nothing, codex::PostCodexRequest) -> [200 202] codex::CodexRequestReply,
            by (user "runtime.write"), open, may [Conflict RateLimited ServiceUnavailable], reads [] }
        /// Compatibility proxy: the worker registry is the runtime's, control adds the caller as owner.
        row { proxied PublicWorkersList = "api.workers.list", GET "/api/runtime/workers"
            (Nothing, workers::ListPublicWorkers, Nothing) -> [200] Enveloped,
            by (user "runtime.read"), open, may [InvalidRequest ServiceUnavailable], reads [] }
        /// Compatibility proxy: a worker is registered in the runtime, owned by the caller.
        row { proxied PublicWorkersRegister = "api.workers.register", POST "/api/runtime/workers"
            (Nothing, Nothing, workers::PublicRegisterWorker) -> [200] Enveloped,
            by (user "runtime.write"), open, may [Conflict ServiceUnavailable], reads [] }
        /// Compatibility proxy: the runtime answers for one worker of the caller.
        row { proxied PublicWorkersGet = "api.workers.get", GET "/api/runtime/workers/:worker_id"
            (paths::WorkerPath, Nothing, Nothing) -> [200] Enveloped,
            by (user "runtime.read"), open, may [ServiceUnavailable], reads [] }
        /// Compatibility proxy: liveness is recorded where the worker is registered.
        row { proxied PublicWorkersHeartbeat = "api.workers.heartbeat", POST "/api/runtime/workers/:worker_id/heartbeat"
            (paths::WorkerPath, Nothing, workers::PublicHeartbeatWorker) -> [200] Enveloped,
            by (user "runtime.write"), open, may [ServiceUnavailable], reads [] }
        /// Compatibility proxy: the runtime owns the worker's state machine.
        row { proxied PublicWorkersStatus = "api.workers.status", POST "/api/runtime/workers/:worker_id/status"
            (paths::WorkerPath, Nothing, workers::PublicChangeWorkerStatus) -> [200] Enveloped,
            by (user "runtime.write"), open, may [ServiceUnavailable], reads [] }
    }
}

section! {
    /// The `/internal/v1/*` rows, in the order of the route-ownership document.
    AUTHORITY ServesAuthority mount_authority {
        /// The authority describes itself, from this table.
        row { authority OpenapiDocument = "openapi.document", GET "/internal/v1/openapi.json"
            (Nothing, Nothing, Nothing) -> [200] openapi::Document,
            by service, open, may [], reads [] }
        /// Delivery webhooks become durable facts of the authority, once per provider and event id.
        row { authority CommsDeliveryEvents = "comms.delivery_events", POST "/internal/v1/comms/delivery-events"
            (Nothing, Nothing, comms::RecordDelivery) -> [202 200] comms::DeliveryReceipt,
            by operator, open, may [Conflict], reads [] }
        /// A run begins here and nowhere else; its first event is already in the log.
        row { authority RunsStart = "runs.start", POST "/internal/v1/runs"
            (Nothing, Nothing, runs::StartRun) -> [201 200] runs::RunReply,
            by service, gated, may [Conflict], reads ["prefer"] }
        /// A run with its events, as the log has them.
        row { authority RunsGet = "runs.get", GET "/internal/v1/runs/:run_id"
            (paths::RunPath, runs::EventWindow, Nothing) -> [200] runs::RunReply,
            by service, open, may [], reads [] }
        /// The only way into a run's log for callers: one event, one sequence number, one durable commit.
        row { authority RunsAppend = "runs.append", POST "/internal/v1/runs/:run_id/events"
            (paths::RunPath, Nothing, runs::AppendEvent) -> [200] runs::Appended,
            by service, gated, may [Conflict], reads ["prefer"] }
        /// What was done in a run, hashed and signed, computed from its log.
        row { authority RunsReceipt = "runs.receipt", GET "/internal/v1/runs/:run_id/receipt"
            (paths::RunPath, Nothing, Nothing) -> [200 304] Cacheable<Receipt>,
            by service, open, may [], reads ["if-none-match"] }
        /// The run told again as lines of canonical JSON.
        row { authority RunsReplay = "runs.replay", GET "/internal/v1/runs/:run_id/replay"
            (paths::RunPath, Nothing, Nothing) -> [200] Streamed<Ndjson>,
            by service, open, may [], reads [] }
        /// How far delivery has come; delivery itself never fails or slows a request.
        row { authority SpacetimeSyncMetrics = "spacetime.sync_metrics", GET "/internal/v1/spacetime/sync/metrics"
            (Nothing, Nothing, Nothing) -> [200] spacetime::SyncMetrics,
            by service, open, may [], reads [] }
        /// Where the projection of a run stands.
        row { authority ProjectorsCheckpoint = "projectors.checkpoint", GET "/internal/v1/projectors/checkpoints/:run_id"
            (paths::RunPath, Nothing, Nothing) -> [200] projectors::CheckpointReply,
            by service, open, may [], reads [] }
        /// Whether a projection still says what its log says; recomputed when asked.
        row { authority ProjectorsDrift = "projectors.drift", GET "/internal/v1/projectors/drift"
            (Nothing, projectors::DriftTopic, Nothing) -> [200] projectors::DriftReply,
            by service, open, may [NotFound], reads [] }
        /// The projected summary of a run, with its hash.
        row { authority ProjectorsRunSummary = "projectors.run_summary", GET "/internal/v1/projectors/run-summary/:run_id"
            (paths::RunPath, Nothing, Nothing) -> [200] projectors::RunSummaryReply,
            by service, open, may [], reads [] }
        /// The workers of one owner.
        row { authority WorkersList = "workers.list", GET "/internal/v1/workers"
            (Nothing, workers::ListWorkers, Nothing) -> [200] workers::WorkerList,
            by service, open, may [], reads [] }
        /// Workers enter the registry here; providers are qualified before they are believed.
        row { authority WorkersRegister = "workers.register", POST "/internal/v1/workers"
            (Nothing, Nothing, workers::RegisterWorker) -> [201] workers::WorkerReply,
            by service, gated, may [Conflict], reads [] }
        /// One worker and how alive it is.
        row { authority WorkersGet = "workers.get", GET "/internal/v1/workers/:worker_id"
            (paths::WorkerPath, workers::NameOwner, Nothing) -> [200] workers::WorkerReply,
            by service, open, may [], reads [] }
        /// A worker says that it lives, and what has changed about it.
        row { authority WorkersHeartbeat = "workers.heartbeat", POST "/internal/v1/workers/:worker_id/heartbeat"
            (paths::WorkerPath, Nothing, workers::HeartbeatWorker) -> [200] workers::WorkerReply,
            by service, gated, may [], reads [] }
        /// The worker's state machine moves here only.
        row { authority WorkersStatus = "workers.status", POST "/internal/v1/workers/:worker_id/status"
            (paths::WorkerPath, Nothing, workers::ChangeWorkerStatus) -> [200] workers::WorkerReply,
            by service, gated, may [], reads [] }
        /// Where the projection of a worker's lifecycle stands.
        row { authority WorkersCheckpoint = "workers.checkpoint", GET "/internal/v1/workers/:worker_id/checkpoint"
            (paths::WorkerPath, Nothing, Nothing) -> [200] projectors::CheckpointReply,
            by service, open, may [], reads [] }
        /// Which providers may be bought from, with what the service itself knows of them.
        row { authority MarketplaceCatalogProviders = "marketplace.catalog_providers", GET "/internal/v1/marketplace/catalog/providers"
            (Nothing, marketplace::ListProviders, Nothing) -> [200] marketplace::ProviderCatalog,
            by service, open, may [], reads [] }
        /// The closed list of job types that can be bought.
        row { authority MarketplaceCatalogJobTypes = "marketplace.catalog_job_types", GET "/internal/v1/marketplace/catalog/job-types"
            (Nothing, Nothing, Nothing) -> [200] marketplace::JobTypeCatalog,
            by service, open, may [], reads [] }
        /// How the compute market is doing.
        row { authority MarketplaceTelemetryCompute = "marketplace.telemetry_compute", GET "/internal/v1/marketplace/telemetry/compute"
            (Nothing, marketplace::AskTelemetry, Nothing) -> [200] marketplace::ComputeTelemetry,
            by service, open, may [], reads [] }
        /// A pure choice among providers, explained.
        row { authority MarketplaceRouteProvider = "marketplace.route_provider", POST "/internal/v1/marketplace/route/provider"
            (Nothing, Nothing, marketplace::RouteProvider) -> [200] marketplace::Selection,
            by service, open, may [NotFound], reads [] }
        /// A binding price for a sandbox run, stored under its hash.
        row { authority MarketplaceQuoteSandboxRun = "marketplace.quote_sandbox_run", POST "/internal/v1/marketplace/compute/quote/sandbox-run"
            (Nothing, Nothing, marketplace::QuoteSandboxRun) -> [200] marketplace::QuoteReply,
            by service, open, may [NotFound RateLimited], reads [] }
        /// The router's choice, recorded in the run.
        row { authority MarketplaceRouterSelect = "marketplace.router_select", POST "/internal/v1/marketplace/router/compute/select"
            (Nothing, Nothing, marketplace::SelectRoute) -> [200] marketplace::RouterDecision,
            by service, gated, may [NotFound Conflict], reads [] }
        /// Scores routing candidates and records the decision.
        row { authority HydraRoutingScore = "hydra.routing_score", POST "/internal/v1/hydra/routing/score"
            (Nothing, Nothing, hydra::ScoreRoutes) -> [200] hydra::RoutingScore,
            by service, gated, may [NotFound Conflict], reads [] }
        /// Opens a request for quotes between two currencies.
        row { authority HydraFxRfq = "hydra.fx_rfq", POST "/internal/v1/hydra/fx/rfq"
            (Nothing, Nothing, fx::OpenRfq) -> [200] fx::RfqReply,
            by service, gated, may [Conflict], reads [] }
        /// A provider's quote for an open request.
        row { authority HydraFxQuote = "hydra.fx_quote", POST "/internal/v1/hydra/fx/quote"
            (Nothing, Nothing, fx::UpsertFxQuote) -> [200] fx::FxQuoteReply,
            by service, gated, may [NotFound Conflict], reads [] }
        /// Selects one quote by policy.
        row { authority HydraFxSelect = "hydra.fx_select", POST "/internal/v1/hydra/fx/select"
            (Nothing, Nothing, fx::SelectFxQuote) -> [200] fx::FxSelection,
            by service, gated, may [NotFound Conflict], reads [] }
        /// Settles the selected quote, once.
        row { authority HydraFxSettle = "hydra.fx_settle", POST "/internal/v1/hydra/fx/settle"
            (Nothing, Nothing, fx::SettleFx) -> [200] fx::FxSettlement,
            by service, gated, may [NotFound Conflict], reads [] }
        /// One request for quotes and where it stands.
        row { authority HydraFxGet = "hydra.fx_get", GET "/internal/v1/hydra/fx/rfq/:rfq_id"
            (paths::RfqPath, Nothing, Nothing) -> [200] fx::RfqReply,
            by service, open, may [], reads [] }
        /// The treasury's risk posture, from cached snapshots.
        row { authority HydraRiskHealth = "hydra.risk_health", GET "/internal/v1/hydra/risk/health"
            (Nothing, Nothing, Nothing) -> [200] hydra::RiskHealth,
            by service, open, may [], reads [] }
        /// Counters of routing, FX and risk.
        row { authority HydraObservability = "hydra.observability", GET "/internal/v1/hydra/observability"
            (Nothing, Nothing, Nothing) -> [200] hydra::Observability,
            by service, open, may [], reads [] }
        /// Sends a job to a provider and keeps what came back.
        row { authority MarketplaceDispatchSandboxRun = "marketplace.dispatch_sandbox_run", POST "/internal/v1/marketplace/dispatch/sandbox-run"
            (Nothing, Nothing, marketplace::DispatchSandboxRun) -> [200] marketplace::DispatchReply,
            by service, gated, may [NotFound Conflict RateLimited], reads [] }
        /// Checks what a provider says about a sandbox run.
        row { authority VerificationsSandboxRun = "verifications.sandbox_run", POST "/internal/v1/verifications/sandbox-run"
            (Nothing, Nothing, verifications::VerifySandboxRun) -> [200] verifications::SandboxVerdict,
            by service, open, may [], reads [] }
        /// Checks an index against the tree that it claims to describe.
        row { authority VerificationsRepoIndex = "verifications.repo_index", POST "/internal/v1/verifications/repo-index"
            (Nothing, Nothing, verifications::VerifyRepoIndex) -> [200] verifications::RepoIndexVerdict,
            by service, open, may [], reads [] }
        /// What compute has cost and what is reserved.
        row { authority TreasuryComputeSummary = "treasury.compute_summary", GET "/internal/v1/treasury/compute/summary"
            (Nothing, treasury::ComputeSummaryQuery, Nothing) -> [200] treasury::ComputeSummary,
            by service, open, may [], reads [] }
        /// Compares ledger, events and receipts, and says where they differ.
        row { authority TreasuryComputeReconcile = "treasury.compute_reconcile", POST "/internal/v1/treasury/compute/reconcile"
            (Nothing, Nothing, treasury::Reconcile) -> [200] treasury::ReconcileSummary,
            by service, gated, may [], reads [] }
        /// Pays for verified work, once.
        row { authority TreasurySettleSandboxRun = "treasury.settle_sandbox_run", POST "/internal/v1/treasury/compute/settle/sandbox-run"
            (Nothing, Nothing, treasury::SettleSandboxRun) -> [200] treasury::Settlement,
            by service, gated, may [NotFound Conflict DependencyUnavailable], reads [] }
        /// Prices the payment of an invoice.
        row { authority LiquidityQuotePay = "liquidity.quote_pay", POST "/internal/v1/liquidity/quote_pay"
            (Nothing, Nothing, liquidity::QuotePay) -> [200] liquidity::PayQuote,
            by service, gated, may [Conflict], reads [] }
        /// An agent asks for credit.
        row { authority CreditIntent = "credit.intent", POST "/internal/v1/credit/intent"
            (Nothing, Nothing, credit::DeclareIntent) -> [200] credit::IntentReply,
            by service, gated, may [Conflict], reads [] }
        /// Underwrites an intent into an offer.
        row { authority CreditOffer = "credit.offer", POST "/internal/v1/credit/offer"
            (Nothing, Nothing, credit::AskOffer) -> [200] credit::OfferReply,
            by service, gated, may [NotFound Conflict], reads [] }
        /// Turns an offer into a reserved envelope.
        row { authority CreditEnvelope = "credit.envelope", POST "/internal/v1/credit/envelope"
            (Nothing, Nothing, credit::IssueEnvelope) -> [200] credit::EnvelopeReply,
            by service, gated, may [NotFound Conflict DependencyUnavailable], reads [] }
        /// Settles an envelope against verified work, once.
        row { authority CreditSettle = "credit.settle", POST "/internal/v1/credit/settle"
            (Nothing, Nothing, credit::SettleEnvelope) -> [200] credit::CreditSettlement,
            by service, gated, may [NotFound Conflict DependencyUnavailable], reads [] }
        /// Loss and failure rates, and whether a breaker is open.
        row { authority CreditHealth = "credit.health", GET "/internal/v1/credit/health"
            (Nothing, Nothing, Nothing) -> [200] credit::CreditHealth,
            by service, open, may [], reads [] }
        /// What one agent owes and may still draw.
        row { authority CreditExposure = "credit.exposure", GET "/internal/v1/credit/agents/:agent_id/exposure"
            (paths::AgentPath, Nothing, Nothing) -> [200] credit::Exposure,
            by service, open, may [], reads [] }
        /// Whether payments can be made now.
        row { authority LiquidityStatus = "liquidity.status", GET "/internal/v1/liquidity/status"
            (Nothing, Nothing, Nothing) -> [200] liquidity::LiquidityStatus,
            by service, open, may [], reads [] }
        /// Pays a quoted invoice, once.
        row { authority LiquidityPay = "liquidity.pay", POST "/internal/v1/liquidity/pay"
            (Nothing, Nothing, liquidity::Pay) -> [200] liquidity::Payment,
            by service, gated, may [NotFound Conflict Forbidden], reads [] }
        /// An operator opens a liquidity pool.
        row { authority PoolsCreate = "pools.create", POST "/internal/v1/pools/:pool_id/admin/create"
            (paths::PoolPath, Nothing, pools::CreatePool) -> [200] pools::PoolReply,
            by operator, gated, may [Conflict], reads [] }
        /// Where to send a deposit, and what it will mint.
        row { authority PoolsDepositQuote = "pools.deposit_quote", POST "/internal/v1/pools/:pool_id/deposit_quote"
            (paths::PoolPath, Nothing, pools::QuoteDeposit) -> [200] pools::DepositQuote,
            by service, gated, may [NotFound Conflict], reads [] }
        /// Mints shares against evidence of a settled deposit.
        row { authority PoolsConfirmDeposit = "pools.confirm_deposit", POST "/internal/v1/pools/:pool_id/deposits/:deposit_id/confirm"
            (paths::PoolDepositPath, Nothing, Nothing) -> [200] pools::DepositConfirmed,
            by service, gated, may [Conflict], reads [] }
        /// Burns shares and queues the payout.
        row { authority PoolsWithdrawRequest = "pools.withdraw_request", POST "/internal/v1/pools/:pool_id/withdraw_request"
            (paths::PoolPath, Nothing, pools::RequestWithdrawal) -> [200] pools::WithdrawReply,
            by service, gated, may [NotFound Conflict], reads [] }
        /// Assets, shares and queue of a pool.
        row { authority PoolsStatus = "pools.status", GET "/internal/v1/pools/:pool_id/status"
            (paths::PoolPath, Nothing, Nothing) -> [200] pools::PoolStatusReply,
            by service, open, may [], reads [] }
        /// The latest signed snapshot of a pool.
        row { authority PoolsLatestSnapshot = "pools.latest_snapshot", GET "/internal/v1/pools/:pool_id/snapshots/latest"
            (paths::PoolPath, pools::LatestSnapshot, Nothing) -> [200] pools::SnapshotReply,
            by service, open, may [NotFound Conflict WritePathFrozen], reads [] }
        /// What went wrong, with whom, and what was done about it; newest first.
        row { authority FraudIncidents = "fraud.incidents", GET "/internal/v1/fraud/incidents"
            (Nothing, fraud::ListIncidents, Nothing) -> [200] fraud::IncidentList,
            by operator, open, may [], reads [] }
    }
}

section! {
    /// What the runtime serves outside `/internal/v1`.
    RUNTIME_ASIDES ServesRuntimeAsides mount_runtime_asides {
        /// The process lives.
        row { runtime RuntimeHealth = "runtime.health", GET "/healthz"
            (Nothing, Nothing, Nothing) -> [200] health::RuntimeHealth,
            by anyone, open, may [], reads [] }
        /// The store takes writes and gives them back, and nothing is draining.
        row { runtime RuntimeReady = "runtime.ready", GET "/readyz"
            (Nothing, Nothing, Nothing) -> [200 503] health::RuntimeReadiness,
            by anyone, open, may [], reads [] }
        /// Counters and histograms for Prometheus.
        row { runtime RuntimeMetrics = "runtime.metrics", GET "/metrics"
            (Nothing, Nothing, Nothing) -> [200] Streamed<Prometheus>,
            by anyone, open, may [], reads [] }
        /// A stream of durable events, live and resumable by sequence.
        row { runtime StreamsSubscribe = "streams.subscribe", GET "/streams/:stream"
            (paths::StreamPath, spacetime::FollowStream, Nothing) -> [200] Streamed<EventStream>,
            by service, open, may [StaleCursor], reads ["last-event-id"] }
        /// The runs that the caller may see, newest first.
        row { runtime RunsList = "runs.list", GET "/admin/v1/runs"
            (Nothing, runs::ListRuns, Nothing) -> [200] runs::RunList,
            by service, open, may [], reads [] }
        /// Recomputes a projection from its log and repairs it.
        row { runtime ProjectorsRebuild = "projectors.rebuild", POST "/admin/v1/projectors/:run_id/rebuild"
            (paths::RunPath, Nothing, Nothing) -> [200] projectors::RebuildReply,
            by operator, gated, may [], reads [] }
        /// Sessions that control revoked are written down, for whoever checks sync tokens; no row of this runtime asks for them.
        row { runtime SyncRevoke = "sync.revoke", POST "/admin/v1/sync/sessions/revoke"
            (Nothing, Nothing, admin::RevokeSessions) -> [200] admin::RevokedSessions,
            by operator, open, may [], reads [] }
        /// How much an owner may spend, or within that an organisation, a repo, an issue or a run.
        row { runtime BudgetsSet = "budgets.set", POST "/admin/v1/budgets"
            (Nothing, Nothing, budgets::SetBudget) -> [200] budgets::BudgetReply,
            by operator, gated, may [Conflict], reads [] }
        /// Which budgets there are, and how much of each is spent, reserved and left.
        row { runtime BudgetsList = "budgets.list", GET "/admin/v1/budgets"
            (Nothing, budgets::ListBudgets, Nothing) -> [200] budgets::BudgetList,
            by operator, open, may [], reads [] }
        /// Why an offer of credit is what it is: the decision, made once more from the log.
        row { runtime CreditExplain = "credit.explain", GET "/admin/v1/credit/offers/:offer_id"
            (paths::OfferPath, Nothing, Nothing) -> [200] credit::Explanation,
            by operator, open, may [], reads [] }
        /// What an agent owes for one settlement.
        row { runtime CreditLoanGet = "credit.loan_get", GET "/admin/v1/credit/loans/:settlement_id"
            (paths::CreditSettlementPath, Nothing, Nothing) -> [200] credit::LoanReply,
            by operator, open, may [], reads [] }
        /// An owner pays what an agent owes for one settlement.
        row { runtime CreditRepay = "credit.repay", POST "/admin/v1/credit/repay"
            (Nothing, Nothing, credit::Repay) -> [200] credit::LoanReply,
            by operator, gated, may [NotFound Conflict], reads [] }
        /// Whom a pool's credit partition lends to, how much each and together.
        row { runtime PoolsLendingSet = "pools.lending_set", POST "/admin/v1/pools/:pool_id/lending"
            (paths::PoolPath, Nothing, credit::SetLending) -> [200] credit::LendingReply,
            by operator, gated, may [NotFound], reads [] }
        /// Whom a pool's credit partition lends to, and what is drawn of it.
        row { runtime PoolsLending = "pools.lending", GET "/admin/v1/pools/:pool_id/lending"
            (paths::PoolPath, Nothing, Nothing) -> [200] credit::LendingReply,
            by operator, open, may [NotFound], reads [] }
        /// How far below zero a party to exchanges may go in one asset.
        row { runtime FxLimitSet = "fx.limit_set", POST "/admin/v1/fx/accounts"
            (Nothing, Nothing, fx::SetFxLimit) -> [200] fx::FxAccount,
            by operator, gated, may [Conflict], reads [] }
        /// What a party to exchanges holds of one asset.
        row { runtime FxAccountGet = "fx.account_get", GET "/admin/v1/fx/accounts"
            (Nothing, fx::FxAccountQuery, Nothing) -> [200] fx::FxAccount,
            by operator, open, may [], reads [] }
        /// What a source says two assets are worth: the rate that quotes are compared with.
        row { runtime FxRateTell = "fx.rate_tell", POST "/admin/v1/fx/rates"
            (Nothing, Nothing, fx::TellFxRate) -> [200] fx::FxToldRateReply,
            by operator, gated, may [Conflict], reads [] }
        /// What the sources of a pair said last.
        row { runtime FxRateList = "fx.rate_list", GET "/admin/v1/fx/rates"
            (Nothing, fx::FxRatesQuery, Nothing) -> [200] fx::FxRateList,
            by operator, open, may [], reads [] }
        /// Pays the withdrawals that are due now, as the background does by itself.
        row { runtime PoolsExecuteDue = "pools.execute_due", POST "/admin/v1/pools/withdrawals/execute_due"
            (Nothing, Nothing, pool_signing::ExecuteDue) -> [200] pool_signing::DueExecuted,
            by operator, gated, may [], reads [] }
        /// A withdrawal that waits is taken back: by its provider, or by an operator.
        row { runtime PoolsCancelWithdrawal = "pools.cancel_withdrawal", POST "/admin/v1/pools/:pool_id/withdrawals/:withdrawal_id/cancel"
            (paths::PoolWithdrawalPath, Nothing, Nothing) -> [200] pools::WithdrawalCanceled,
            by service, gated, may [Conflict], reads [] }
        /// Who signs for a pool, and how many of them it takes.
        row { runtime PoolsPutSignerSet = "pools.put_signer_set", POST "/admin/v1/pools/:pool_id/signer_set"
            (paths::PoolPath, Nothing, pool_signing::PutSignerSet) -> [200] pool_signing::SignerSetReply,
            by operator, gated, may [Conflict], reads [] }
        /// The signers in force.
        row { runtime PoolsSignerSet = "pools.signer_set", GET "/admin/v1/pools/:pool_id/signer_set"
            (paths::PoolPath, Nothing, Nothing) -> [200] pool_signing::SignerSetReply,
            by operator, open, may [], reads [] }
        /// Asks the signers for a channel.
        row { runtime PoolsOpenChannel = "pools.open_channel", POST "/admin/v1/pools/:pool_id/treasury/open_channel"
            (paths::PoolPath, Nothing, pool_signing::OpenChannel) -> [200] pool_signing::SigningRequestReply,
            by operator, gated, may [Conflict], reads [] }
        /// Asks the signers to close a channel.
        row { runtime PoolsCloseChannel = "pools.close_channel", POST "/admin/v1/pools/:pool_id/treasury/close_channel"
            (paths::PoolPath, Nothing, pool_signing::CloseChannel) -> [200] pool_signing::SigningRequestReply,
            by operator, gated, may [Conflict], reads [] }
        /// What waits for signatures, and what was done with them.
        row { runtime PoolsSigningRequests = "pools.signing_requests", GET "/admin/v1/pools/:pool_id/signing_requests"
            (paths::PoolPath, pool_signing::ListSigningRequests, Nothing) -> [200] pool_signing::SigningRequestList,
            by operator, open, may [], reads [] }
        /// A signer's signature is added.
        row { runtime PoolsApprove = "pools.approve", POST "/admin/v1/pools/:pool_id/signing_requests/:request_id/approve"
            (paths::PoolRequestPath, Nothing, pool_signing::ApproveSigning) -> [200] pool_signing::SigningRequestReply,
            by operator, gated, may [Conflict], reads [] }
        /// What enough signers have approved is done, once.
        row { runtime PoolsExecuteSigned = "pools.execute_signed", POST "/admin/v1/pools/:pool_id/signing_requests/:request_id/execute"
            (paths::PoolRequestPath, Nothing, Nothing) -> [200] pool_signing::SigningExecuted,
            by operator, gated, may [Conflict], reads [] }
        /// An operator ends a payment whose end no wallet can tell, on evidence that is kept.
        row { runtime LiquidityResolve = "liquidity.resolve", POST "/admin/v1/liquidity/payments/:payment_id/resolve"
            (paths::PaymentPath, Nothing, resolutions::Resolve) -> [200] resolutions::PaymentResolved,
            by operator, gated, may [Conflict], reads [] }
        /// An operator ends a payout whose end no wallet can tell, on evidence that is kept.
        row { runtime PoolsResolveWithdrawal = "pools.resolve_withdrawal", POST "/admin/v1/pools/:pool_id/withdrawals/:withdrawal_id/resolve"
            (paths::PoolWithdrawalPath, Nothing, resolutions::Resolve) -> [200] resolutions::WithdrawalResolved,
            by operator, gated, may [Conflict], reads [] }
        /// Proves to a provider that its shares are inside the signed total.
        row { runtime PoolsProve = "pools.prove", GET "/admin/v1/pools/:pool_id/proof"
            (paths::PoolPath, pools::ProveShares, Nothing) -> [200] pools::SharesProof,
            by service, open, may [], reads [] }
        /// An operator ends a provider's quarantine; it is on probation then.
        row { runtime WorkersRelease = "workers.release", POST "/admin/v1/workers/:worker_id/release"
            (paths::WorkerPath, Nothing, workers::ReleaseWorker) -> [200] workers::ReleaseReply,
            by operator, gated, may [Conflict], reads [] }
        /// What a provider has earned and was not yet paid, for its owner.
        row { runtime ProvidersStatement = "providers.statement", GET "/admin/v1/providers/:worker_id/statement"
            (paths::WorkerPath, treasury::StatementQuery, Nothing) -> [200] treasury::ProviderStatement,
            by service, open, may [], reads [] }
    }
}

section! {
    /// What control serves outside `/api/runtime`.
    CONTROL_ASIDES ServesControlAsides mount_control_asides {
        /// The process lives.
        row { control ControlHealth = "control.health", GET "/healthz"
            (Nothing, Nothing, Nothing) -> [200] health::ControlHealth,
            by anyone, open, may [], reads [] }
        /// The store takes writes and gives them back, and nothing is draining.
        row { control ControlReady = "control.ready", GET "/readyz"
            (Nothing, Nothing, Nothing) -> [200 503] health::ControlReadiness,
            by anyone, open, may [], reads [] }
        /// Counters and histograms for Prometheus.
        row { control ControlMetrics = "control.metrics", GET "/metrics"
            (Nothing, Nothing, Nothing) -> [200] Streamed<Prometheus>,
            by anyone, open, may [], reads [] }
        /// Control describes itself, from this table.
        row { control ControlOpenapi = "control.openapi", GET "/openapi.json"
            (Nothing, Nothing, Nothing) -> [200 304] openapi::Document,
            by anyone, open, may [], reads ["if-none-match"] }
        /// What control is, how it routes, and who owns each `/api/runtime` row.
        row { control ControlStatus = "control.status", GET "/api/v1/control/status"
            (Nothing, Nothing, Nothing) -> [200] control::StatusReply,
            by (user "runtime.read"), open, may [], reads [] }
        /// Sign-in begins: a code goes to an e-mail address, a challenge to whoever asked.
        row { control AuthEmail = "auth.email", POST "/api/auth/email"
            (Nothing, Nothing, identity::RequestCode) -> [200] identity::CodeSent,
            by anyone, open, may [RateLimited ServiceUnavailable], reads [] }
        /// Sign-in ends: the code proves the address, and a session begins.
        row { control AuthVerify = "auth.verify", POST "/api/auth/verify"
            (Nothing, Nothing, identity::VerifyCode) -> [200] identity::SignedIn,
            by anyone, open, may [RateLimited ServiceUnavailable], reads ["cookie" "x-client" "x-device-id"] }
        /// Both tokens of a session are replaced; a refresh token seen twice ends the session.
        row { control AuthRefresh = "auth.refresh", POST "/api/auth/refresh"
            (Nothing, Nothing, identity::RefreshSession) -> [200] identity::Refreshed,
            by anyone, open, may [Unauthorized Forbidden], reads ["authorization" "x-device-id"] }
        /// The session of the caller ends.
        row { control AuthLogout = "auth.logout", POST "/api/auth/logout"
            (Nothing, Nothing, Nothing) -> [200] identity::SignedOut,
            by (user "self"), open, may [], reads [] }
        /// What the presented credential stands for.
        row { control AuthSession = "auth.session", GET "/api/auth/session"
            (Nothing, Nothing, Nothing) -> [200] identity::SessionReply,
            by (user "self"), open, may [], reads [] }
        /// The caller, as clients show them.
        row { control Me = "me.profile", GET "/api/me"
            (Nothing, identity::ReadProfile, Nothing) -> [200] identity::ProfileReply,
            by (user "runtime.read"), open, may [], reads [] }
        /// The caller's personal tokens, without their secrets.
        row { control TokensList = "tokens.list", GET "/api/tokens"
            (Nothing, Nothing, Nothing) -> [200] identity::TokenList,
            by (user "tokens.manage"), open, may [], reads [] }
        /// Makes a personal token; its secret is answered once and never kept.
        row { control TokensCreate = "tokens.create", POST "/api/tokens"
            (Nothing, Nothing, identity::CreateToken) -> [201] identity::TokenReply,
            by (user "tokens.manage"), open, may [Conflict], reads [] }
        /// A personal token revokes itself, whatever its abilities.
        row { control TokensRevokeCurrent = "tokens.revoke_current", DELETE "/api/tokens/current"
            (Nothing, Nothing, Nothing) -> [200] identity::DeletedReply,
            by (user "self"), open, may [], reads [] }
        /// Revokes one personal token of the caller.
        row { control TokensRevoke = "tokens.revoke", DELETE "/api/tokens/:token_id"
            (paths::TokenPath, Nothing, Nothing) -> [200] identity::DeletedReply,
            by (user "tokens.manage"), open, may [], reads [] }
        /// Revokes every personal token of the caller.
        row { control TokensRevokeAll = "tokens.revoke_all", DELETE "/api/tokens"
            (Nothing, Nothing, Nothing) -> [200] identity::DeletedTokensReply,
            by (user "tokens.manage"), open, may [], reads [] }
        /// The sessions of the caller, ended ones included.
        row { control AuthSessions = "auth.sessions", GET "/api/auth/sessions"
            (Nothing, accounts::ListSessions, Nothing) -> [200] accounts::SessionList,
            by (user "tokens.manage"), open, may [InvalidRequest], reads [] }
        /// Ends sessions of the caller: one, those of a device, or all.
        row { control AuthRevokeSessions = "auth.revoke_sessions", POST "/api/auth/sessions/revoke"
            (Nothing, Nothing, accounts::RevokeMySessions) -> [200] accounts::SessionsRevoked,
            by (user "tokens.manage"), open, may [ServiceUnavailable], reads [] }
        /// Compatibility alias of `auth.session`.
        row { control AuthSessionV1 = "auth.session_v1", GET "/api/v1/auth/session"
            (Nothing, Nothing, Nothing) -> [200] identity::SessionReply,
            by (user "self"), open, may [], reads [] }
        /// Compatibility alias of `auth.sessions`.
        row { control AuthSessionsV1 = "auth.sessions_v1", GET "/api/v1/auth/sessions"
            (Nothing, accounts::ListSessions, Nothing) -> [200] accounts::SessionList,
            by (user "tokens.manage"), open, may [InvalidRequest], reads [] }
        /// Compatibility alias of `auth.revoke_sessions`.
        row { control AuthRevokeSessionsV1 = "auth.revoke_sessions_v1", POST "/api/v1/auth/sessions/revoke"
            (Nothing, Nothing, accounts::RevokeMySessions) -> [200] accounts::SessionsRevoked,
            by (user "tokens.manage"), open, may [ServiceUnavailable], reads [] }
        /// Sign-up without a person: a user and a token, for automation on a loopback address.
        row { control AuthRegister = "auth.register", POST "/api/auth/register"
            (Nothing, Nothing, accounts::Register) -> [201 200] accounts::RegisterReply,
            by anyone, open, may [NotFound RateLimited Forbidden Conflict], reads [] }
        /// The organisations of the caller.
        row { control OrgsMemberships = "orgs.memberships", GET "/api/orgs/memberships"
            (Nothing, Nothing, Nothing) -> [200] accounts::MembershipList,
            by (user "runtime.read"), open, may [], reads [] }
        /// Chooses the organisation that a session speaks for.
        row { control OrgsActivate = "orgs.activate", POST "/api/orgs/active"
            (Nothing, Nothing, accounts::ActivateOrg) -> [200] accounts::OrgActivated,
            by (user "self"), open, may [], reads [] }
        /// Asks whether the caller may, without doing it.
        row { control PolicyAuthorize = "policy.authorize", POST "/api/policy/authorize"
            (Nothing, Nothing, accounts::Authorize) -> [200] accounts::PolicyReply,
            by (user "self"), open, may [], reads [] }
        /// A short-lived signed token for a sync service outside of this repository; no row of either service takes it.
        row { control SyncToken = "sync.token", POST "/api/sync/token"
            (Nothing, Nothing, sync::RequestSyncToken) -> [200] sync::SyncTokenReply,
            by (user "runtime.read"), open, may [InvalidScope SyncTokenUnavailable], reads [] }
        /// The same token under the name of its transport.
        row { control SpacetimeToken = "sync.spacetime_token", POST "/api/spacetime/token"
            (Nothing, Nothing, sync::RequestSyncToken) -> [200] sync::SyncTokenReply,
            by (user "runtime.read"), open, may [InvalidScope SyncTokenUnavailable], reads [] }
        /// Compatibility alias of `sync.token`.
        row { control SyncTokenV1 = "sync.token_v1", POST "/api/v1/sync/token"
            (Nothing, Nothing, sync::RequestSyncToken) -> [200] sync::SyncTokenReply,
            by (user "runtime.read"), open, may [InvalidScope SyncTokenUnavailable], reads [] }
        /// Compatibility alias of `sync.spacetime_token`.
        row { control SpacetimeTokenV1 = "sync.spacetime_token_v1", POST "/api/v1/spacetime/token"
            (Nothing, Nothing, sync::RequestSyncToken) -> [200] sync::SyncTokenReply,
            by (user "runtime.read"), open, may [InvalidScope SyncTokenUnavailable], reads [] }
        /// The public keys that sync tokens are checked with.
        row { control SyncKeys = "sync.keys", GET "/.well-known/jwks.json"
            (Nothing, Nothing, Nothing) -> [200] sync::KeySet,
            by anyone, open, may [], reads [] }
        /// What was paid, refused and fetched through L402, newest first.
        row { control L402Transactions = "l402.transactions", GET "/api/l402/transactions"
            (Nothing, l402::ListTransactions, Nothing) -> [200] l402::TransactionsReply,
            by (user "runtime.read"), open, may [InvalidRequest], reads [] }
        /// One L402 receipt.
        row { control L402Transaction = "l402.transaction", GET "/api/l402/transactions/:event_id"
            (paths::EventPath, Nothing, Nothing) -> [200] l402::TransactionReply,
            by (user "runtime.read"), open, may [], reads [] }
        /// The published skills, with digests, as agents discover them.
        row { control SkillsIndex = "skills.index", GET "/.well-known/agent-skills/index.json"
            (Nothing, skills::ListPublicSkills, Nothing) -> [200 304] Cacheable<skills::SkillsIndex>,
            by anyone, open, may [], reads ["if-none-match"] }
        /// The `SKILL.md` of one public release, byte for byte as it was published.
        row { control SkillsMarkdown = "skills.markdown", GET "/.well-known/agent-skills/:skill_id/:version/SKILL.md"
            (paths::SkillPath, Nothing, Nothing) -> [200 304] Streamed<skills::Markdown>,
            by anyone, open, may [], reads ["if-none-match"] }
        /// The whole directory of one public release, as the archive that the index has the digest of.
        row { control SkillsArchive = "skills.archive", GET "/.well-known/agent-skills/:skill_id/:version/skill.tar.gz"
            (paths::SkillPath, Nothing, Nothing) -> [200 304] Streamed<skills::Gzip>,
            by anyone, open, may [], reads ["if-none-match"] }
        /// How route groups would be split, and what overrides that; it is calculated, and no page is served elsewhere.
        row { control RouteSplitStatus = "route_split.status", GET "/api/v1/control/route-split/status"
            (Nothing, Nothing, Nothing) -> [200] routing::RouteSplitStatusReply,
            by (user "runtime.read"), open, may [], reads [] }
        /// Where one path would be served by the split; nothing is served by it.
        row { control RouteSplitEvaluate = "route_split.evaluate", POST "/api/v1/control/route-split/evaluate"
            (Nothing, Nothing, routing::EvaluateRouteSplit) -> [200] routing::RouteSplitDecisionReply,
            by (user "runtime.read"), open, may [], reads ["x-oa-route-key" "x-device-id" "x-forwarded-for" "user-agent"] }
        /// Sets or clears an override of what the route split calculates; nothing that is served changes.
        row { control RouteSplitOverride = "route_split.override", POST "/api/v1/control/route-split/override"
            (Nothing, Nothing, routing::OverrideRouteSplit) -> [200] routing::RouteSplitStatusReply,
            by (user "runtime.write"), open, may [], reads [] }
        /// How threads would be routed to drivers, and what overrides that; it is calculated, and no thread is run elsewhere.
        row { control RuntimeRoutingStatus = "runtime_routing.status", GET "/api/v1/control/runtime-routing/status"
            (Nothing, Nothing, Nothing) -> [200] routing::RuntimeRoutingStatusReply,
            by (user "runtime.read"), open, may [], reads [] }
        /// Which driver would serve one thread; none is asked.
        row { control RuntimeRoutingEvaluate = "runtime_routing.evaluate", POST "/api/v1/control/runtime-routing/evaluate"
            (Nothing, Nothing, routing::EvaluateRuntimeRouting) -> [200] routing::RuntimeRoutingDecisionReply,
            by (user "runtime.read"), open, may [], reads [] }
        /// Sets an override of the driver that is calculated for a user or an autopilot; nothing that is served changes.
        row { control RuntimeRoutingOverride = "runtime_routing.override", POST "/api/v1/control/runtime-routing/override"
            (Nothing, Nothing, routing::OverrideRuntimeRouting) -> [200] routing::OverriddenRoutingReply,
            by (user "runtime.write"), open, may [], reads [] }
        /// The personal agents of the caller.
        row { control AutopilotsList = "autopilots.list", GET "/api/autopilots"
            (Nothing, autopilots::ListAutopilots, Nothing) -> [200] autopilots::AutopilotList,
            by (user "runtime.read"), open, may [InvalidRequest], reads [] }
        /// Creates a personal agent.
        row { control AutopilotsCreate = "autopilots.create", POST "/api/autopilots"
            (Nothing, Nothing, autopilots::CreateAutopilot) -> [201] autopilots::AutopilotReply,
            by (user "runtime.write"), open, may [Conflict], reads [] }
        /// The threads that are bound to an autopilot.
        row { control AutopilotsThreads = "autopilots.threads", GET "/api/autopilots/:autopilot/threads"
            (paths::AutopilotPath, autopilots::ListAutopilots, Nothing) -> [200] chat::ChatPage,
            by (user "runtime.read"), open, may [], reads [] }
        /// Begins a thread that is bound to an autopilot.
        row { control AutopilotsCreateThread = "autopilots.create_thread", POST "/api/autopilots/:autopilot/threads"
            (paths::AutopilotPath, Nothing, autopilots::CreateAutopilotThread) -> [201] chat::ChatSummaryReply,
            by (user "runtime.write"), open, may [], reads [] }
        /// Guest sessions are retired; this says where to go.
        row { control ChatGuestSession = "chat.guest_session", GET "/api/chat/guest-session"
            (Nothing, Nothing, Nothing) -> [410] chat::GuestSessionReply,
            by (user "self"), open, may [], reads [] }
        /// Legacy view of the caller's threads.
        row { control ChatsList = "chats.list", GET "/api/chats"
            (Nothing, chat::ListChats, Nothing) -> [200] chat::ChatListReply,
            by (user "runtime.read"), open, may [], reads [] }
        /// Legacy way to begin a thread.
        row { control ChatsCreate = "chats.create", POST "/api/chats"
            (Nothing, Nothing, chat::CreateChat) -> [201] chat::ChatSummaryReply,
            by (user "runtime.write"), open, may [], reads [] }
        /// Legacy view of one thread with its messages.
        row { control ChatsGet = "chats.get", GET "/api/chats/:conversation_id"
            (paths::ConversationPath, Nothing, Nothing) -> [200] chat::ConversationReply,
            by (user "runtime.read"), open, may [], reads [] }
        /// Legacy view of a thread's messages.
        row { control ChatsMessages = "chats.messages", GET "/api/chats/:conversation_id/messages"
            (paths::ConversationPath, Nothing, Nothing) -> [200] chat::ChatMessagesReply,
            by (user "runtime.read"), open, may [], reads [] }
        /// Legacy view of a thread's turns.
        row { control ChatsRuns = "chats.runs", GET "/api/chats/:conversation_id/runs"
            (paths::ConversationPath, Nothing, Nothing) -> [200] chat::ChatRunsReply,
            by (user "runtime.read"), open, may [], reads [] }
        /// Legacy view of what happened in one turn.
        row { control ChatsRunEvents = "chats.run_events", GET "/api/chats/:conversation_id/runs/:run_id/events"
            (paths::ConversationRunPath, Nothing, Nothing) -> [200] chat::ChatRunEventsReply,
            by (user "runtime.read"), open, may [], reads [] }
        /// Legacy way to send a message and read the turn as a UI message stream.
        row { control ChatStream = "chat.stream", POST "/api/chat/stream"
            (Nothing, Nothing, chat::ChatTurn) -> [200] Streamed<chat::UiMessageStream>,
            by (user "runtime.write"), open, may [Conflict RateLimited], reads [] }
        /// The same stream, with the thread named in the path.
        row { control ChatsStream = "chats.stream", POST "/api/chats/:conversation_id/stream"
            (paths::ConversationPath, Nothing, chat::ChatTurn) -> [200] Streamed<chat::UiMessageStream>,
            by (user "runtime.write"), open, may [Conflict RateLimited], reads [] }
        /// Shows a deployment that streams would be delivered.
        row { control SmokeStream = "smoke.stream", GET "/api/smoke/stream"
            (Nothing, Nothing, Nothing) -> [200] shell::StreamSmokeReply,
            by anyone, open, may [Unauthorized], reads ["x-oa-smoke-secret"] }
        /// The page that people see first.
        row { control Landing = "control.landing", GET "/"
            (Nothing, Nothing, Nothing) -> [200] Streamed<shell::Html>,
            by anyone, open, may [], reads [] }
        /// The document that the headers of the compatibility lanes name: which end, when, and what replaces them.
        row { control CompatMigration = "control.compat_migration", GET "/docs/audits/2026-02-25-oa-audit-phase5-compatibility-lane-signoff.md"
            (Nothing, Nothing, Nothing) -> [200] Streamed<skills::Markdown>,
            by anyone, open, may [], reads [] }
        /// Leads to the desktop application.
        row { control DownloadDesktop = "control.download_desktop", GET "/download-desktop"
            (Nothing, Nothing, Nothing) -> [307] Streamed<shell::Html>,
            by anyone, open, may [NotFound], reads [] }
    }
}

/// Every row of both services, table order.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    CONTROL.iter().chain(AUTHORITY).chain(RUNTIME_ASIDES).chain(CONTROL_ASIDES).copied()
}

/// The rows that answer on the port of one service.
pub fn rows_of(service: Service) -> impl Iterator<Item = &'static Row> {
    rows().filter(move |row| row.served_by() == service)
}

/// The row that owns a method and a path template. The method is trimmed and upper-cased, the template must
/// match exactly (runtime-core §7, control §8.1).
pub fn owner_of(service: Service, method: &str, path: &str) -> Option<&'static Row> {
    let method = method.trim().to_ascii_uppercase();
    rows_of(service).find(|row| row.method.name() == method && row.path == path)
}

const _: () = {
    assert!(CONTROL.len() == 22, "the route-ownership document has 22 /api/runtime rows");
    assert!(AUTHORITY.len() == 53, "the route-ownership document has 53 /internal/v1 rows");
    all_start_with(CONTROL, "/api/runtime/");
    all_start_with(AUTHORITY, "/internal/v1/");
    unambiguous(&[CONTROL, CONTROL_ASIDES]);
    unambiguous(&[AUTHORITY, RUNTIME_ASIDES]);
};

const fn all_start_with(rows: &[&Row], prefix: &str) {
    let mut i = 0;
    while i < rows.len() {
        assert!(
            starts_with(rows[i].path.as_bytes(), prefix.as_bytes()),
            "a row stands outside the prefix of its section"
        );
        i += 1;
    }
}

const fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    if text.len() < prefix.len() {
        return false;
    }
    let mut i = 0;
    while i < prefix.len() {
        if text[i] != prefix[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Refuses two rows of one port with the same method and the same shape of path.
const fn unambiguous(sections: &[&[&Row]]) {
    let mut s = 0;
    while s < sections.len() {
        let mut i = 0;
        while i < sections[s].len() {
            let mut t = s;
            while t < sections.len() {
                let mut j = if t == s { i + 1 } else { 0 };
                while j < sections[t].len() {
                    let (a, b) = (sections[s][i], sections[t][j]);
                    assert!(
                        a.method as u8 != b.method as u8 || !same_shape(a.path.as_bytes(), b.path.as_bytes()),
                        "two rows have one method and one shape of path"
                    );
                    j += 1;
                }
                t += 1;
            }
            i += 1;
        }
        s += 1;
    }
}

/// Whether two templates match the same paths: equal but for the names of their parameters.
const fn same_shape(a: &[u8], b: &[u8]) -> bool {
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        if a[i] == b':' && b[j] == b':' {
            while i < a.len() && a[i] != b'/' {
                i += 1;
            }
            while j < b.len() && b[j] != b'/' {
                j += 1;
            }
        } else if a[i] != b[j] {
            return false;
        } else {
            i += 1;
            j += 1;
        }
    }
    i == a.len() && j == b.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_dotted() {
        let mut names: Vec<_> = rows().map(|row| row.name).collect();
        assert!(names.iter().all(|name| name.contains('.')));
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn an_owner_is_found_by_method_and_exact_template() {
        let row = owner_of(Service::Runtime, " post ", "/internal/v1/runs/:run_id/events").expect("the row");
        assert_eq!(row.name, "runs.append");
        assert!(owner_of(Service::Runtime, "POST", "/internal/v1/runs/:id/events").is_none());
    }

    #[test]
    fn parameters_with_other_names_are_the_same_shape() {
        assert!(same_shape(b"/a/:x/b", b"/a/:other/b"));
        assert!(!same_shape(b"/a/:x/b", b"/a/:x/c"));
        assert!(!same_shape(b"/a/:x", b"/a/:x/b"));
    }
}
