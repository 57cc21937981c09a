//! Decides how the system says no: the closed list of refusal codes, and the line between a refusal
//! (a promise to the caller) and a fault (ours, logged once, never explained to the caller).

use std::fmt;

/// Which of the two services is speaking. The same code may carry another status on the other side,
/// because clients of each were written against different specifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    Control,
    Runtime,
}

impl Service {
    /// The owner label of the route tables.
    pub const fn label(self) -> &'static str {
        match self {
            Service::Control => "control_service",
            Service::Runtime => "runtime_service",
        }
    }
}

/// Whether asking again can help, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same request will be refused again: change it.
    Never,
    /// Read the current state first, then decide.
    AfterReading,
    /// The same request may succeed later, unchanged.
    Later,
}

impl Retry {
    pub const fn label(self) -> &'static str {
        match self {
            Retry::Never => "no: change the request",
            Retry::AfterReading => "after reading the current state",
            Retry::Later => "yes, unchanged, later",
        }
    }
}

macro_rules! codes {
    ($( $(#[doc = $doc:literal])+ $variant:ident $name:literal runtime $runtime:literal control $control:literal retry $retry:ident; )+) => {
        /// Every code that either service may put into `error`. The list is closed: a new code is a
        /// change of the contract, and `docs/refusals.md` is derived from it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $( $(#[doc = $doc])+ $variant, )+ }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$variant),+];

            /// The word on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Code::$variant => $name),+ }
            }

            /// The status this code usually has on that service; a refusal may carry a closer one
            /// (a malformed body is `invalid_request` under 400, 413, 415 and 422).
            pub const fn status(self, service: Service) -> u16 {
                match (self, service) {
                    $( (Code::$variant, Service::Runtime) => $runtime, (Code::$variant, Service::Control) => $control, )+
                }
            }

            pub const fn meaning(self) -> &'static str {
                match self { $(Code::$variant => concat!($($doc),+)),+ }
            }

            pub const fn retry(self) -> Retry {
                match self { $(Code::$variant => Retry::$retry),+ }
            }
        }
    };
}

codes! {
    /// The request is malformed or asks for something the rules forbid; `message` names the member.
    InvalidRequest "invalid_request" runtime 400 control 422 retry Never;
    /// A scope was asked for that is not given out, or that a topic needs and the request does not name.
    InvalidScope "invalid_scope" runtime 400 control 422 retry Never;
    /// No credential, or one that does not verify.
    Unauthorized "unauthorized" runtime 401 control 401 retry Never;
    /// The credential is good, but not for this resource or this act.
    Forbidden "forbidden" runtime 403 control 403 retry Never;
    /// Nothing with this id is visible to the caller, or the path is not served.
    NotFound "not_found" runtime 404 control 404 retry Never;
    /// The path is served, but not with this method; `Allow` lists the ones that are.
    MethodNotAllowed "method_not_allowed" runtime 405 control 405 retry Never;
    /// The request contradicts what is stored: another sequence, or another content under a used key.
    Conflict "conflict" runtime 409 control 409 retry AfterReading;
    /// The position asked for lies before what is still kept; start again from `resume_after`.
    StaleCursor "stale_cursor" runtime 410 control 410 retry AfterReading;
    /// The lane has reached the date of its end; `message` says what replaces it.
    Gone "gone" runtime 410 control 410 retry Never;
    /// The body is larger than the limit of the route.
    PayloadTooLarge "payload_too_large" runtime 413 control 413 retry Never;
    /// The client's build is too old for this lane: update it.
    UpgradeRequired "upgrade_required" runtime 426 control 426 retry Never;
    /// The client does not say its build in `x-oa-client-build-id`, or not in a form that can be read.
    InvalidClientBuild "invalid_client_build" runtime 426 control 426 retry Never;
    /// The client's build is newer than what this lane still serves.
    UnsupportedClientBuild "unsupported_client_build" runtime 426 control 426 retry Never;
    /// The client speaks another protocol than `x-oa-protocol-version` may name here.
    UnsupportedProtocolVersion "unsupported_protocol_version" runtime 426 control 426 retry Never;
    /// The client's `x-oa-schema-version` lies outside what this lane reads.
    UnsupportedSchemaVersion "unsupported_schema_version" runtime 426 control 426 retry Never;
    /// Too many requests of this kind; wait as long as `Retry-After` says.
    RateLimited "rate_limited" runtime 429 control 429 retry Later;
    /// Something broke on our side. The request id leads to the log line; nothing more is said here.
    Internal "internal" runtime 500 control 500 retry Later;
    /// The control service's word for `internal`.
    InternalError "internal_error" runtime 500 control 500 retry Later;
    /// The row stands in the table, but this build does not serve it yet.
    NotBuilt "not_built" runtime 501 control 501 retry Never;
    /// A service that we need answered wrongly or not at all.
    DependencyUnavailable "dependency_unavailable" runtime 502 control 502 retry Later;
    /// The instance is read-only: writes go to another one, or wait.
    WritePathFrozen "write_path_frozen" runtime 503 control 503 retry Later;
    /// Sync tokens are switched off, or there is no key to sign them with.
    SyncTokenUnavailable "sync_token_unavailable" runtime 503 control 503 retry Later;
    /// The runtime is not configured or not reachable, the store cannot be written, or the service is
    /// draining.
    ServiceUnavailable "service_unavailable" runtime 503 control 503 retry Later;
}

/// A promise broken on purpose: what the caller is told, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    /// A closer status than the code's usual one.
    pub status: Option<u16>,
    /// One sentence that says what is wrong and, where it can, what to do next.
    pub message: String,
    /// The member at fault, for field validation (control envelope `errors.<field>`).
    pub field: Option<String>,
    /// A finer reason, where the specification names one.
    pub reason_code: Option<&'static str>,
    pub retry_after_ms: Option<u64>,
    /// Where a reader may start again (`stale_cursor` only).
    pub resume_after: Option<u64>,
    /// By how much a budget is too small (`budget_exceeded` only).
    pub shortage: Option<Box<Shortage>>,
}

/// What is left of a budget, and what would have been needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The account of the budget: the owner's own or a nested one.
    pub budget: String,
    pub remaining_msats: u64,
    pub needed_msats: u64,
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Refusal {
            code,
            status: None,
            message: message.into(),
            field: None,
            reason_code: None,
            retry_after_ms: None,
            resume_after: None,
            shortage: None,
        }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidRequest, message)
    }

    /// A field validation of the control service: `422` with `errors.<field>`.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Refusal { field: Some(field.into()), ..Self::new(Code::InvalidRequest, message) }
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(Code::Forbidden, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Code::Conflict, message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Code::ServiceUnavailable, message)
    }

    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    pub fn status(&self, service: Service) -> u16 {
        self.status.unwrap_or_else(|| self.code.status(service))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}

impl std::error::Error for Refusal {}

/// Something of ours that broke. Its chain goes to the log; the caller sees only the request id.
#[derive(Debug)]
pub struct Fault {
    doing: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Fault {
    /// `doing` completes the sentence "failed while …".
    pub fn new(
        doing: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Fault { doing: doing.into(), source: Some(source.into()) }
    }

    pub fn msg(what: impl Into<String>) -> Self {
        Fault { doing: what.into(), source: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing)?;
        let mut next = self.source.as_deref().map(|e| e as &dyn std::error::Error);
        while let Some(error) = next {
            write!(f, ": {error}")?;
            next = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

/// Why an operation ended without its answer.
#[derive(Debug)]
pub enum Stop {
    Refusal(Refusal),
    Fault(Fault),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Refusal(refusal) => refusal.fmt(f),
            Stop::Fault(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for Stop {}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refusal(refusal)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_name_and_the_specified_status() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        assert_eq!(Code::InvalidRequest.status(Service::Runtime), 400);
        assert_eq!(Code::InvalidRequest.status(Service::Control), 422);
        assert_eq!(Code::WritePathFrozen.status(Service::Runtime), 503);
    }

    #[test]
    fn a_fault_prints_its_whole_chain_for_the_log() {
        let fault = Fault::new(
            "reading a run",
            Fault::new("opening the file", std::io::Error::other("disk on fire")),
        );
        assert_eq!(
            fault.to_string(),
            "reading a run: opening the file: disk on fire: disk on fire"
                .replace(": disk on fire: disk on fire", ": disk on fire")
        );
    }
}
