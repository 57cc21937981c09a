//! Decides what a service must offer to be served over the wire: who may call it, whether it takes writes,
//! and what it adds to its answers.

use std::{future::Future, net::IpAddr};

use crate::{
    caller::Caller,
    operation::Class,
    refusal::{Refusal, Service, Stop},
};

/// The credentials of a request, before anybody believes them.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    pub method: &'a str,
    /// Path and query, exactly as sent.
    pub path: &'a str,
    pub authorization: Option<&'a str>,
    pub signature: Option<&'a str>,
    pub cookie: Option<&'a str>,
    /// Read before the credential is checked only if `signature` is present, because it binds the body.
    pub body: &'a [u8],
    pub peer: &'a str,
}

/// A request whose head was read, before anybody looked for its row.
pub struct Arriving<'a> {
    pub method: &'a str,
    /// Without the query, as sent.
    pub path: &'a str,
    /// What stands behind the `?`, as sent.
    pub query: Option<&'a str>,
    /// The value of a header, by its lower-case name.
    pub header: &'a (dyn Fn(&str) -> Option<&'a str> + Sync),
    pub request_id: &'a str,
}

/// What a request is answered with that gets no further.
#[derive(Clone, Debug, PartialEq)]
pub enum Barred {
    /// A refusal, with headers of its own and, where one is specified, one more member of its body.
    Refused {
        refusal: Box<Refusal>,
        headers: Vec<(&'static str, String)>,
        member: Option<(&'static str, serde_json::Value)>,
    },
    /// Anything else, as it is to be sent.
    Answered { status: u16, headers: Vec<(&'static str, String)>, body: String },
}

/// A service, seen from the edge.
pub trait Port: Send + Sync + 'static {
    const SERVICE: Service;
    /// Whether callers may sign their requests; where they may not, the header means nothing.
    const TAKES_SIGNATURES: bool = false;

    /// Who is calling a row of this class, or why nobody may.
    fn authenticate(
        &self,
        class: Class,
        presented: Presented<'_>,
    ) -> impl Future<Output = Result<Caller, Stop>> + Send;

    /// Whether a signature could be good, as far as it can be told without the body that it binds.
    fn admits_head(&self, _presented: Presented<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    /// Whether gated rows may run now.
    fn admits_writes(&self) -> Result<(), Refusal>;

    /// A new request id, for a caller who sent none.
    fn request_id(&self) -> String;

    /// Answers a request before its row is looked for, or lets it pass. Preflights are answered earlier.
    fn bars(&self, _arriving: &Arriving<'_>) -> Option<Barred> {
        None
    }

    /// On whose behalf `peer` asks; the two texts are what forwarded headers say, empty when there are none.
    /// Without a reason to believe them, it asks for itself.
    fn client(&self, peer: IpAddr, _forwarded_for: &str, _real_ip: &str) -> IpAddr {
        peer
    }

    /// Whether `OPTIONS` on this path is answered with the headers of [`Port::dress`] and nothing else.
    fn answers_preflight(&self, _path: &str) -> bool {
        false
    }

    /// Headers that every answer on this path carries.
    fn dress(&self, _path: &str, _origin: Option<&str>, _preflight: bool) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
