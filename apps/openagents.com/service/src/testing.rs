//! Decides nothing: a control service on a real store in a directory of its own, with a clock that tests move.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use oa_contract::{
    Answer, Ask, Caller, Clock, Fault, Handle, Ids, Meta, Nothing, Operation, Port, Presented, Refusal, Stop,
    Timestamp,
    matrix::{AuthEmail, AuthRefresh, AuthSession, AuthVerify},
    signer::Signer,
    wire::identity::{CurrentSession, RefreshSession, Refreshed, RequestCode, Secret, SignedIn, VerifyCode},
};
use oa_store::{
    SqliteConfig, Store, Tx,
    tables::identity::{self as rows, PersonalToken, Session},
};
use uuid::Uuid;

use crate::{
    Config, Control, Parts,
    identity::{self, NewToken, NewUser, UserRecord},
};

/// The code that the mock provider takes.
pub const CODE: &str = "123456";

/// A clock that stands still until it is moved.
pub struct StoppedClock(AtomicI64);

impl StoppedClock {
    pub fn advance_millis(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH.plus_millis(self.0.load(Ordering::SeqCst))
    }
}

/// Ids and secrets that differ, and are the same in every run.
#[derive(Default)]
pub struct CountedIds(AtomicU64);

impl CountedIds {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

impl Ids for CountedIds {
    fn uuid_v7(&self, _: Timestamp) -> Uuid {
        Uuid::from_u128(u128::from(self.next()))
    }

    fn uuid32(&self) -> String {
        format!("{:032x}", self.next())
    }

    fn secret(&self) -> [u8; 32] {
        let mut secret = [7; 32];
        secret[..8].copy_from_slice(&self.next().to_be_bytes());
        secret
    }
}

/// A clock and ids, for what needs no more than these.
pub fn still() -> (Arc<dyn Clock>, Arc<dyn Ids>) {
    (Arc::new(StoppedClock(AtomicI64::new(0))), Arc::new(CountedIds::default()))
}

pub struct World {
    pub control: Arc<Control>,
    pub clock: Arc<StoppedClock>,
    dir: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

pub fn email(address: &str) -> RequestCode {
    RequestCode { email: address.to_owned() }
}

impl World {
    pub async fn new() -> Self {
        Self::with_runtime(&[("OA_AUTH_PROVIDER_MODE", "mock")]).await
    }

    pub async fn without_provider() -> Self {
        Self::with_runtime(&[]).await
    }

    /// With a client for the runtime that the environment names, if it names one.
    pub async fn with_runtime(env: &[(&str, &str)]) -> Self {
        let config = Config::read(&|name| {
            env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        });
        let config = config.expect("a configuration");
        let dir = std::env::temp_dir().join(format!("oa-control-{}", Uuid::new_v4().simple()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let hub = Arc::new(crate::Hub::default());
        let on_commit = {
            let hub = hub.clone();
            Arc::new(move |wakes: &[oa_store::Wake]| hub.wake(wakes))
        };
        let store =
            Store::open_with(SqliteConfig::new(dir.join("control.db")), on_commit).await.expect("a store");
        let clock = Arc::new(StoppedClock(AtomicI64::new(1_772_020_800_000)));
        let ids = Arc::new(CountedIds::default());
        let runtime = crate::runtime_client(&config.runtime, clock.clone(), ids.clone()).expect("a client");
        let control = Control::new(Parts {
            config,
            store,
            hub,
            clock: clock.clone(),
            ids,
            runtime,
            signer: Some(Signer::from_secret(&"2a".repeat(32)).expect("a key")),
            metrics: Arc::new(String::new),
            draining: Arc::new(|| false),
        });
        World { control: Arc::new(control), clock, dir }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn meta(&self, headers: &[(&'static str, &str)]) -> Meta {
        Meta {
            request_id: "req_test".into(),
            traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
            headers: headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            peer: "127.0.0.1".into(),
        }
    }

    /// Asks a row for anyone.
    pub async fn ask<O>(&self, body: O::Body) -> Result<Answer<O::Reply>, Refusal>
    where
        O: Operation<Path = Nothing, Query = Nothing>,
        Control: Handle<O>,
    {
        self.ask_with::<O>(body, &[]).await
    }

    pub async fn ask_with<O>(
        &self,
        body: O::Body,
        headers: &[(&'static str, &str)],
    ) -> Result<Answer<O::Reply>, Refusal>
    where
        O: Operation<Path = Nothing, Query = Nothing>,
        Control: Handle<O>,
    {
        self.run::<O>(body, headers, Caller::Anyone).await
    }

    /// Asks a row with a session or a personal token, as the edge does: authenticated for the row's class first.
    pub async fn ask_as<O>(&self, secret: &str, body: O::Body) -> Result<Answer<O::Reply>, Refusal>
    where
        O: Operation<Path = Nothing, Query = Nothing>,
        Control: Handle<O>,
    {
        let caller = self.caller_for(secret, O::ROW.class).await?;
        self.run::<O>(body, &[], caller).await
    }

    async fn run<O>(
        &self,
        body: O::Body,
        headers: &[(&'static str, &str)],
        caller: Caller,
    ) -> Result<Answer<O::Reply>, Refusal>
    where
        O: Operation<Path = Nothing, Query = Nothing>,
        Control: Handle<O>,
    {
        let meta = self.meta(headers);
        self.control.counts(O::ROW, &caller, &meta.peer)?;
        let ask = Ask { path: Nothing {}, query: Nothing {}, body, caller, meta };
        refused(Handle::<O>::handle(&*self.control, ask).await)
    }

    pub async fn caller(&self, secret: &str) -> Result<Caller, Refusal> {
        self.caller_for(secret, oa_contract::Class::User("self")).await
    }

    /// The person behind a credential, as handlers see them.
    pub async fn signed_in(&self, secret: &str) -> oa_contract::User {
        match self.caller(secret).await.expect("a caller") {
            Caller::User(user) => user,
            other => panic!("{other:?} is nobody"),
        }
    }

    async fn caller_for(&self, secret: &str, class: oa_contract::Class) -> Result<Caller, Refusal> {
        let header = format!("Bearer {secret}");
        let presented = Presented {
            method: "GET",
            path: "/",
            authorization: Some(&header),
            signature: None,
            cookie: None,
            body: b"",
            peer: "127.0.0.1",
        };
        refused(self.control.authenticate(class, presented).await)
    }

    pub async fn whoami(&self, secret: &str) -> Result<CurrentSession, Refusal> {
        Ok(self.ask_as::<AuthSession>(secret, Nothing {}).await?.body.data)
    }

    pub async fn sign_in(&self, address: &str, device: &str) -> SignedIn {
        let sent = self.ask::<AuthEmail>(email(address)).await.expect("a code");
        let body = VerifyCode {
            code: Secret::new(CODE),
            challenge_id: Some(sent.body.challenge_id),
            device_id: Some(device.to_owned()),
        };
        self.ask::<AuthVerify>(body).await.expect("signed in").body
    }

    pub async fn refresh(&self, token: &str, device: Option<&str>) -> Result<Refreshed, Refusal> {
        let body = RefreshSession {
            refresh_token: Some(Secret::new(token)),
            device_id: device.map(str::to_owned),
            ..RefreshSession::default()
        };
        Ok(self.ask::<AuthRefresh>(body).await?.body)
    }

    pub async fn user(&self, address: &str) -> UserRecord {
        let new = NewUser { email: address.to_owned(), ..NewUser::default() };
        identity::add_user(&self.control.store, &*self.control.clock, &*self.control.ids, new)
            .await
            .expect("a user")
            .0
    }

    pub async fn personal_token(&self, user_id: &str, new: NewToken) -> Secret {
        let Control { store, clock, ids, .. } = &*self.control;
        identity::issue_token(store, &**clock, &**ids, user_id, new).await.expect("a token").secret
    }

    pub async fn session(&self, session_id: &str) -> Option<Session> {
        self.control.store.read("test_session", (session_id.to_owned(),), session).await.expect("a read")
    }

    pub async fn tokens_of(&self, user_id: &str) -> Vec<PersonalToken> {
        self.control.store.read("test_tokens", (user_id.to_owned(),), tokens).await.expect("a read")
    }

    /// Revokes every token of a user as another process would, straight in the store.
    pub async fn revoke_behind_its_back(&self, user_id: &str) {
        let ask = (user_id.to_owned(), self.now());
        self.control.store.write("test_revoke", (), ask, revoke_tokens).await.expect("a write");
    }

    /// Whether the text stands in any file of the store, the log included.
    pub async fn files_hold(&self, text: &str) -> bool {
        let files =
            std::fs::read_dir(&self.dir).expect("the directory").map(|file| file.expect("a file").path());
        files
            .map(|path| std::fs::read(path).expect("the bytes"))
            .any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    }
}

async fn session(tx: &mut Tx, (id,): &(String,)) -> Result<Option<Session>, Stop> {
    rows::session(tx, id).await
}

async fn tokens(tx: &mut Tx, (user_id,): &(String,)) -> Result<Vec<PersonalToken>, Stop> {
    rows::tokens_of_user(tx, user_id, 1_000).await
}

async fn revoke_tokens(tx: &mut Tx, (user_id, now): &(String, Timestamp)) -> Result<(), Stop> {
    for token in rows::tokens_of_user(tx, user_id, 1_000).await? {
        rows::put_token(tx, &PersonalToken { revoked_at: Some(*now), ..token }).await?;
    }
    Ok(())
}

fn refused<T>(result: Result<T, Stop>) -> Result<T, Refusal> {
    match result {
        Ok(answer) => Ok(answer),
        Err(Stop::Refusal(refusal)) => Err(refusal),
        Err(Stop::Fault(fault)) => panic!("a fault: {}", Fault::to_string(&fault)),
    }
}

/// Calls of tools, as a signed-in user makes them.
pub mod tools {
    use oa_contract::{
        Refusal,
        matrix::ToolsExecute,
        wire::tools::{ExecuteTool, ToolOutcome},
    };
    use serde_json::Value;

    use super::World;
    use crate::identity::NewToken;

    async fn execute(world: &World, body: Value) -> Result<ToolOutcome, Refusal> {
        let body: ExecuteTool = serde_json::from_value(body).expect("a body");
        let user = world.user("tools@example.com").await;
        let token = world.personal_token(&user.user_id, NewToken::named("tools")).await;
        Ok(world.ask_as::<ToolsExecute>(token.reveal(), body).await?.body.data)
    }

    pub async fn call_tool(world: &World, body: Value) -> ToolOutcome {
        execute(world, body).await.expect("an outcome")
    }

    pub async fn tool_refusal(world: &World, body: Value) -> Refusal {
        execute(world, body).await.expect_err("a refusal")
    }
}
