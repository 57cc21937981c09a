//! Decides what an operation is: one row of the table, with the types of what is asked and answered. The
//! trait is sealed, so a handler without a row and a row without a handler both fail to compile.

use std::{borrow::Cow, future::Future, marker::PhantomData, pin::Pin};

use bytes::Bytes;
use futures_util::Stream;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    caller::Caller,
    refusal::{Code, Fault, Refusal, Service, Stop},
};

/// Only the table can make an operation: a handler for something that is no row does not compile.
///
/// ```compile_fail,E0603
/// enum Mine {}
/// impl oa_contract::operation::sealed::Sealed for Mine {}
/// ```
pub(crate) mod sealed {
    pub trait Sealed {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Get,
    Post,
    Delete,
}

impl Method {
    pub const fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        }
    }
}

/// Owner, delivery and migration status always move together, so a row has one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// `/api/runtime/*`, decided by the control service.
    Native,
    /// `/api/runtime/*`, a compatibility proxy of an authority operation.
    Proxied,
    /// `/internal/v1/*`, decided by the runtime service.
    Authority,
    /// Outside the two owned prefixes: health, sign-in, operator acts.
    Aside(Service),
}

impl Lane {
    /// The service whose decision it is.
    pub const fn owner(self) -> Service {
        match self {
            Lane::Native => Service::Control,
            Lane::Proxied | Lane::Authority => Service::Runtime,
            Lane::Aside(service) => service,
        }
    }

    /// The service on whose port the row answers.
    pub const fn served_by(self) -> Service {
        match self {
            Lane::Native | Lane::Proxied => Service::Control,
            Lane::Authority => Service::Runtime,
            Lane::Aside(service) => service,
        }
    }

    pub const fn delivery(self) -> &'static str {
        match self {
            Lane::Native | Lane::Aside(_) => "in_process",
            Lane::Proxied => "runtime_proxy",
            Lane::Authority => "runtime_authority",
        }
    }

    pub const fn migration_status(self) -> &'static str {
        match self {
            Lane::Native | Lane::Aside(Service::Control) => "control_native",
            Lane::Proxied => "runtime_authority_proxy",
            Lane::Authority | Lane::Aside(Service::Runtime) => "runtime_authority_canonical",
        }
    }
}

/// Who may call a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// No credential is asked for.
    Anyone,
    /// A service credential (`/internal/v1/*`).
    Service,
    /// A service credential that is not bound to one owner.
    Operator,
    /// A session, or a personal token with this ability.
    User(&'static str),
}

/// One row of the table.
#[derive(Debug)]
pub struct Row {
    /// The one name in logs, metrics, traces, OpenAPI and on the command line.
    pub name: &'static str,
    pub method: Method,
    /// As in the route-ownership document, with `:name` for a parameter.
    pub path: &'static str,
    pub lane: Lane,
    /// Why the row is there.
    pub rationale: &'static str,
    /// `false` while the row stands in a `planned` block and answers `501 not_built`.
    pub built: bool,
    pub class: Class,
    /// Refused with `write_path_frozen` while the instance is read-only (runtime-core §5).
    pub gated: bool,
    /// Statuses of success, the usual one first.
    pub success: &'static [u16],
    /// Codes this row can refuse with beyond those every row shares.
    pub refusals: &'static [Code],
    /// Request headers that the operation reads.
    pub headers: &'static [&'static str],
    pub shape: Shape,
}

/// The schemas of a row, as functions, so that the table itself stays constant.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub path: &'static [&'static str],
    pub query: fn(&mut SchemaGenerator) -> Option<Schema>,
    pub body: fn(&mut SchemaGenerator) -> Option<Schema>,
    pub reply: fn(&mut SchemaGenerator) -> Option<Schema>,
    pub has_body: bool,
    pub content_type: &'static str,
    /// What the row answers with instead when the caller asks for it.
    pub also: Option<&'static str>,
}

impl Row {
    /// The path with `{name}` parameters, as OpenAPI and the router write it.
    pub fn braced_path(&self) -> String {
        let mut out = String::with_capacity(self.path.len() + 8);
        for segment in self.path.split('/').skip(1) {
            out.push('/');
            match segment.strip_prefix(':') {
                Some(name) => {
                    out.push('{');
                    out.push_str(name);
                    out.push('}');
                }
                None => out.push_str(segment),
            }
        }
        out
    }

    /// The service on whose port the row answers.
    pub const fn served_by(&self) -> Service {
        self.lane.served_by()
    }
}

/// What every operation fixes by its row.
pub trait Operation: sealed::Sealed + Send + Sync + 'static {
    const ROW: &'static Row;
    type Path: PathParams;
    type Query: Query;
    type Body: Body;
    type Reply: Reply;
}

/// An operation that stands in the authority table; only such a one can be the target of a proxy.
pub trait Authority: Operation {}

/// A public `/api/runtime/*` row that repeats an authority operation in the public shape (control spec §10):
/// the owner comes from the credential, the answer is one member of the authority's reply under `data`.
pub trait Proxied: Operation {
    type Target: Authority;
    /// The member of the authority's reply that becomes `data`.
    const MEMBER: &'static str;
    /// What `data` is when the member is missing.
    const ABSENT: &'static str;
    /// Validates the public shape and turns it into the authority's, for this owner.
    fn translate(
        path: Self::Path,
        query: Self::Query,
        body: Self::Body,
        owner_user_id: u64,
    ) -> Result<Call<Self::Target>, Refusal>;
}

/// The arguments of a call, ready to be sent.
pub struct Call<O: Operation> {
    pub path: O::Path,
    pub query: O::Query,
    pub body: O::Body,
}

/// Compiles only for a proxied row that says what it is a proxy of.
pub(crate) const fn is_proxied<P: Proxied<Reply = Enveloped>>() {}

/// Whoever decides an operation implements this for its row.
pub trait Handle<O: Operation>: Send + Sync + 'static {
    fn handle(&self, ask: Ask<O>) -> impl Future<Output = Result<Answer<O::Reply>, Stop>> + Send;
}

/// Whoever serves proxied rows: the rows themselves need no code.
pub trait Forward: Send + Sync + 'static {
    fn forward<O: Proxied<Reply = Enveloped>>(
        &self,
        ask: Ask<O>,
    ) -> impl Future<Output = Result<Answer<Enveloped>, Stop>> + Send;
}

/// Takes the rows of a service, one by one; a router is one, a list of names another.
///
/// A row that the service has no handler for does not compile. Here it is the first one; a row added to the
/// table, or taken out of `planned`, is refused in the same way until somebody decides it:
///
/// ```compile_fail,E0277
/// use oa_contract::{Handle, Mount, Operation, matrix};
///
/// struct Undecided;
/// struct Router;
/// impl Mount<Undecided> for Router {
///     fn row<O: Operation>(&mut self)
///     where
///         Undecided: Handle<O>,
///     {
///     }
/// }
/// matrix::mount_authority::<Undecided>(&mut Router);
/// ```
///
/// A planned row needs none; it answers `501 not_built`.
pub trait Mount<S> {
    fn row<O: Operation>(&mut self)
    where
        S: Handle<O>;
}

/// What was asked, once it is authenticated, bounded and parsed.
pub struct Ask<O: Operation> {
    pub path: O::Path,
    pub query: O::Query,
    pub body: O::Body,
    pub caller: Caller,
    pub meta: Meta,
}

/// What accompanies every request.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    pub request_id: String,
    /// W3C trace context, as received or begun here.
    pub traceparent: String,
    /// The headers that the row says it reads, lower-case names.
    pub headers: Vec<(&'static str, String)>,
    /// The peer's address, without the port.
    pub peer: String,
}

impl Meta {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// `Prefer: return=minimal` (RFC 7240).
    pub fn wants_minimal(&self) -> bool {
        self.header("prefer").is_some_and(|prefer| {
            prefer.split(',').any(|one| one.trim().eq_ignore_ascii_case("return=minimal"))
        })
    }
}

/// What is answered. Without a status it is the row's first.
#[derive(Debug)]
pub struct Answer<R> {
    pub status: Option<u16>,
    pub headers: Vec<(&'static str, String)>,
    pub body: R,
}

impl<R> Answer<R> {
    pub fn new(body: R) -> Self {
        Answer { status: None, headers: Vec::new(), body }
    }

    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl<R> From<R> for Answer<R> {
    fn from(body: R) -> Self {
        Answer::new(body)
    }
}

/// The parameters of a path, decoded once.
pub trait PathParams: Send + Sized + 'static {
    const NAMES: &'static [&'static str];
    fn parse(segments: &[Cow<'_, str>]) -> Result<Self, Refusal>;
    /// The values in order, not yet encoded.
    fn values(&self) -> Vec<String>;
}

/// What stands behind the `?`.
pub trait Query: DeserializeOwned + Serialize + JsonSchema + Send + 'static {
    const NONE: bool = false;
}

/// What a body holds. Without one, any body and content type are ignored.
pub trait Body: DeserializeOwned + Serialize + JsonSchema + Send + 'static {
    const NONE: bool = false;
}

/// No path parameters, no query, or no body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Nothing {}

impl PathParams for Nothing {
    const NAMES: &'static [&'static str] = &[];
    fn parse(_: &[Cow<'_, str>]) -> Result<Self, Refusal> {
        Ok(Nothing {})
    }
    fn values(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Query for Nothing {
    const NONE: bool = true;
}

impl Body for Nothing {
    const NONE: bool = true;
}

/// Bytes to send: whole, or as they come.
pub enum Content {
    Whole(Vec<u8>),
    Stream(Chunks),
}

/// Chunks of a body that is produced while it is sent.
pub type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, Fault>> + Send>>;

/// What an operation answers with.
pub trait Reply: Send + 'static {
    const CONTENT_TYPE: &'static str;
    /// A second media type, for replies that come in two.
    const ALSO: Option<&'static str> = None;
    /// The media type of this one.
    fn content_type(&self) -> &'static str {
        Self::CONTENT_TYPE
    }
    fn schema(generator: &mut SchemaGenerator) -> Option<Schema>;
    fn content(self) -> Result<Content, Fault>;
}

impl<T: Serialize + JsonSchema + Send + 'static> Reply for T {
    const CONTENT_TYPE: &'static str = "application/json";

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<T>())
    }

    fn content(self) -> Result<Content, Fault> {
        let bytes =
            serde_json::to_vec(&self).map_err(|error| Fault::new("writing an answer as JSON", error))?;
        Ok(Content::Whole(bytes))
    }
}

/// Marks a body that is not one JSON document by its media type.
pub trait Media: Send + 'static {
    const TYPE: &'static str;
}

/// A body of the media type `M`, streamed.
pub struct Streamed<M> {
    chunks: Chunks,
    media: PhantomData<M>,
}

impl<M: Media> Streamed<M> {
    pub fn new(chunks: impl Stream<Item = Result<Bytes, Fault>> + Send + 'static) -> Self {
        Streamed { chunks: Box::pin(chunks), media: PhantomData }
    }

    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::new(futures_util::stream::once(async move { Ok(bytes) }))
    }
}

impl<M: Media> Reply for Streamed<M> {
    const CONTENT_TYPE: &'static str = M::TYPE;

    fn schema(_: &mut SchemaGenerator) -> Option<Schema> {
        None
    }

    fn content(self) -> Result<Content, Fault> {
        Ok(Content::Stream(self.chunks))
    }
}

/// A reply that a caller may hold already: `304` with nothing, or the whole.
#[derive(Debug)]
pub enum Cacheable<T> {
    Fresh(T),
    Unchanged,
}

impl<T: Serialize + JsonSchema + Send + 'static> Reply for Cacheable<T> {
    const CONTENT_TYPE: &'static str = "application/json";

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<T>())
    }

    fn content(self) -> Result<Content, Fault> {
        match self {
            Cacheable::Fresh(whole) => whole.content(),
            Cacheable::Unchanged => Ok(Content::Whole(Vec::new())),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Cacheable<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Cacheable::Fresh)
    }
}

/// One JSON document, or a stream of the media type `M` for whoever accepts it.
pub enum JsonOr<T, M> {
    Json(T),
    Streamed(Streamed<M>),
}

impl<T: Serialize + JsonSchema + Send + 'static, M: Media> Reply for JsonOr<T, M> {
    const CONTENT_TYPE: &'static str = "application/json";
    const ALSO: Option<&'static str> = Some(M::TYPE);

    fn content_type(&self) -> &'static str {
        match self {
            JsonOr::Json(_) => Self::CONTENT_TYPE,
            JsonOr::Streamed(_) => M::TYPE,
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<T>())
    }

    fn content(self) -> Result<Content, Fault> {
        match self {
            JsonOr::Json(whole) => whole.content(),
            JsonOr::Streamed(streamed) => streamed.content(),
        }
    }
}

impl<'de, T: Deserialize<'de>, M> Deserialize<'de> for JsonOr<T, M> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(JsonOr::Json)
    }
}

/// Lines of JSON.
pub struct Ndjson;
impl Media for Ndjson {
    const TYPE: &'static str = "application/x-ndjson";
}

/// Server-sent events.
pub struct EventStream;
impl Media for EventStream {
    const TYPE: &'static str = "text/event-stream";
}

/// The text format that Prometheus reads.
pub struct Prometheus;
impl Media for Prometheus {
    const TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";
}

/// `{"data": …}` around something that is passed on untouched.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Enveloped {
    #[schemars(with = "serde_json::Value")]
    pub data: Box<serde_json::value::RawValue>,
    /// Where the rest of a list begins, if there is more: give it as `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// `{"data": …}` around a typed answer of the control service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Data<T> {
    pub data: T,
}

/// Written by hand for its name: whoever generates a client from the document meets `ThreadListReply`, and not the
/// twelfth `Data`.
impl<T: JsonSchema> JsonSchema for Data<T> {
    fn schema_name() -> Cow<'static, str> {
        let inner = T::schema_name();
        match inner.strip_prefix("Array_of_") {
            Some(item) => format!("{item}ListReply").into(),
            None => format!("{inner}Reply").into(),
        }
    }

    fn schema_id() -> Cow<'static, str> {
        format!("{}::Data<{}>", module_path!(), T::schema_id()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": {"data": generator.subschema_for::<T>()},
            "required": ["data"],
            "description": "`{\"data\": …}` around a typed answer of the control service.",
        })
    }
}

/// Schema of a query, or nothing; used by the table.
pub fn query_schema<Q: Query>(generator: &mut SchemaGenerator) -> Option<Schema> {
    (!Q::NONE).then(|| Q::json_schema(generator))
}

/// Schema of a body, or nothing; used by the table.
pub fn body_schema<B: Body>(generator: &mut SchemaGenerator) -> Option<Schema> {
    (!B::NONE).then(|| generator.subschema_for::<B>())
}
