//! The one client for URLs that a caller gives us. It decides which addresses may be reached: the resolved
//! address is judged at connect time, redirects are not followed, size and time are capped (docs/security.md, URLs).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;
use url::{Host, Url};

/// What a fetch may cost and where it may go.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Loopback, private, link-local and the like are refused unless this is set.
    pub allow_private_networks: bool,
    /// Of what is refused, these may be reached all the same: `127.0.0.0/8` and `::1`, written as addresses. No
    /// name leads there.
    pub allow_loopback: bool,
    pub timeout: Duration,
    pub max_bytes: usize,
    /// Fetches at one time.
    pub concurrency: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            allow_private_networks: false,
            allow_loopback: false,
            timeout: Duration::from_secs(2),
            max_bytes: 1024 * 1024,
            concurrency: 32,
        }
    }
}

/// Why nothing was fetched.
#[derive(Debug, PartialEq, Eq)]
pub enum FetchError {
    /// The URL may not be fetched; no connection was made.
    Forbidden(String),
    /// It could not be reached, and nothing of the request was sent.
    Unsent(String),
    /// It did not answer well. The request may have had its effect.
    Failed(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::Forbidden(why) | FetchError::Unsent(why) | FetchError::Failed(why) => {
                f.write_str(why)
            }
        }
    }
}

impl std::error::Error for FetchError {}

/// What is sent.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `GET` when empty.
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Shorter or longer than the policy's, for the whole exchange.
    pub timeout: Option<Duration>,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Fetched {
    pub status: u16,
    /// Lower-case names; values that are not text are left out.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Fetched {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Whom an https server must be, beyond the public authorities.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// One more root, as PEM or DER.
    pub root: Option<Vec<u8>>,
    /// Any certificate will do: only for a server on this machine.
    pub any: bool,
}

/// A place that is never fetched, wherever else may be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Denied {
    host: String,
    port: u16,
}

/// The guarded client. Clones share connections and places.
#[derive(Clone)]
pub struct Fetcher {
    http: reqwest::Client,
    policy: Policy,
    places: Arc<Semaphore>,
    denied: Arc<[Denied]>,
    lookup: Lookup,
}

impl Fetcher {
    pub fn new(policy: Policy) -> Result<Self, FetchError> {
        Self::build(policy, Trust::default(), Lookup::System)
    }

    /// A client that believes other certificates too: for addresses of the operator's own.
    pub fn trusting(policy: Policy, trust: Trust) -> Result<Self, FetchError> {
        Self::build(policy, trust, Lookup::System)
    }

    /// The same client, which never connects to these places: URLs, of which host and port count. A name that
    /// leads to the same address is the same place.
    pub fn denying<'a>(mut self, places: impl IntoIterator<Item = &'a str>) -> Self {
        let known = places.into_iter().filter_map(|place| {
            let url = Url::parse(place).ok()?;
            Some(Denied { host: plain_host(&url)?, port: url.port_or_known_default()? })
        });
        self.denied = known.collect();
        self
    }

    fn build(policy: Policy, trust: Trust, lookup: Lookup) -> Result<Self, FetchError> {
        // Fails when the process has chosen a provider already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let failed = |error: reqwest::Error| FetchError::Unsent(error.to_string());
        let resolver =
            GuardedResolver { allow_private: policy.allow_private_networks, lookup: lookup.clone() };
        let mut http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(policy.timeout)
            .dns_resolver(Arc::new(resolver))
            .danger_accept_invalid_certs(trust.any);
        if let Some(root) = &trust.root {
            let root = reqwest::Certificate::from_pem(root)
                .or_else(|_| reqwest::Certificate::from_der(root))
                .map_err(failed)?;
            http = http.add_root_certificate(root);
        }
        let http = http.build().map_err(failed)?;
        let places = Arc::new(Semaphore::new(policy.concurrency.max(1)));
        Ok(Fetcher { http, policy, places, denied: Arc::default(), lookup })
    }

    /// `GET url`.
    pub async fn get(&self, url: &str) -> Result<Fetched, FetchError> {
        self.send(Request { url: url.to_owned(), ..Request::default() }).await
    }

    /// Sends a request and takes the whole answer, within the limits.
    pub async fn send(&self, request: Request) -> Result<Fetched, FetchError> {
        let url = self.admit(&request.url)?;
        self.refuse_denied(&url).await?;
        let method = match request.method.as_str() {
            "" => reqwest::Method::GET,
            other => reqwest::Method::from_bytes(other.as_bytes())
                .map_err(|_| FetchError::Forbidden(format!("{other:?} is not a method")))?,
        };
        let _place =
            self.places.acquire().await.map_err(|_| FetchError::Unsent("the client is closed".into()))?;
        let mut sending = self.http.request(method, url).body(request.body);
        if let Some(timeout) = request.timeout {
            sending = sending.timeout(timeout);
        }
        for (name, value) in &request.headers {
            sending = sending.header(name, value);
        }
        let mut response = sending.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
            .collect();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > self.policy.max_bytes {
                return Err(FetchError::Failed(format!(
                    "the answer is longer than {} bytes",
                    self.policy.max_bytes
                )));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Fetched { status, headers, body })
    }

    /// Whether the URL may be fetched at all, before any name is resolved.
    fn admit(&self, text: &str) -> Result<Url, FetchError> {
        let url = Url::parse(text).map_err(|error| FetchError::Forbidden(format!("not a URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FetchError::Forbidden(format!(
                "only http and https are fetched, not {}",
                url.scheme()
            )));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::Forbidden("a URL with credentials in it is not fetched".into()));
        }
        let open = self.policy.allow_private_networks;
        match url.host() {
            None => Err(FetchError::Forbidden("the URL names no host".into())),
            Some(Host::Ipv4(address)) if self.policy.allow_loopback && address.is_loopback() => Ok(url),
            Some(Host::Ipv6(address)) if self.policy.allow_loopback && address.is_loopback() => Ok(url),
            Some(Host::Ipv4(address)) if !open && !is_public(address.into()) => {
                Err(FetchError::Forbidden(private(address.into())))
            }
            Some(Host::Ipv6(address)) if !open && !is_public(address.into()) => {
                Err(FetchError::Forbidden(private(address.into())))
            }
            Some(Host::Domain(name)) if !open && is_local_name(name) => Err(FetchError::Forbidden(format!(
                "{name} names something in a private network; private networks are refused unless they are allowed by configuration"
            ))),
            Some(_) => Ok(url),
        }
    }

    /// Refuses the places that are never fetched, by their name and by the address that a name leads to.
    async fn refuse_denied(&self, url: &Url) -> Result<(), FetchError> {
        let (Some(host), Some(port)) = (plain_host(url), url.port_or_known_default()) else { return Ok(()) };
        let close: Vec<&Denied> = self.denied.iter().filter(|denied| denied.port == port).collect();
        if close.is_empty() {
            return Ok(());
        }
        let refused = || Err(FetchError::Forbidden(format!("{host}:{port} is not for callers")));
        if close.iter().any(|denied| denied.host == host) {
            return refused();
        }
        let meant = self.lookup.addresses(&host).await.unwrap_or_default();
        for denied in close {
            let known = self.lookup.addresses(&denied.host).await.unwrap_or_default();
            if meant.iter().any(|one| known.iter().any(|other| same_machine(*one, *other))) {
                return refused();
            }
        }
        Ok(())
    }
}

/// The host of a URL as it is compared: lower-case (the parser saw to that), without brackets and a last dot.
fn plain_host(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_owned())
}

/// Equal addresses, or two that both mean this machine.
fn same_machine(one: IpAddr, other: IpAddr) -> bool {
    let (one, other) = (one.to_canonical(), other.to_canonical());
    let here = |address: IpAddr| address.is_loopback() || address.is_unspecified();
    one == other || (here(one) && here(other))
}

/// Names that mean something nearby wherever they are asked for, whatever a name server says.
fn is_local_name(name: &str) -> bool {
    const SUFFIXES: [&str; 9] = [
        "localhost",
        "localdomain",
        "local",
        "internal",
        "intranet",
        "lan",
        "home.arpa",
        "in-addr.arpa",
        "ip6.arpa",
    ];
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let alias = ["ip6-localhost", "ip6-loopback", "localhost6", "localhost4", "metadata", "broadcasthost"];
    let under =
        |suffix: &str| name == suffix || name.strip_suffix(suffix).is_some_and(|head| head.ends_with('.'));
    alias.contains(&name.as_str()) || SUFFIXES.iter().any(|suffix| under(suffix))
}

/// Where names are looked up.
#[derive(Clone)]
enum Lookup {
    System,
    /// Every name leads here.
    #[cfg(test)]
    Fixed(Vec<IpAddr>),
}

impl Lookup {
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        if let Ok(literal) = host.parse() {
            return Ok(vec![literal]);
        }
        match self {
            Lookup::System => {
                Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
            }
            #[cfg(test)]
            Lookup::Fixed(addresses) => Ok(addresses.clone()),
        }
    }
}

fn private(address: IpAddr) -> String {
    format!(
        "{address} is not a public address; private networks are refused unless they are allowed by configuration"
    )
}

fn failed(error: reqwest::Error) -> FetchError {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(&error);
    while let Some(source) = next {
        if source.is::<Refused>() {
            return FetchError::Forbidden(source.to_string());
        }
        text = format!("{text}: {source}");
        next = source.source();
    }
    match error.is_connect() || error.is_builder() {
        true => FetchError::Unsent(text),
        false => FetchError::Failed(text),
    }
}

#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Resolves a name and keeps only addresses that may be reached. The connection is made to exactly these, so
/// a second answer of the name server changes nothing.
struct GuardedResolver {
    allow_private: bool,
    lookup: Lookup,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (allow_private, lookup) = (self.allow_private, self.lookup.clone());
        Box::pin(async move {
            let resolved = lookup.addresses(name.as_str()).await?;
            let (open, closed): (Vec<_>, Vec<_>) =
                resolved.into_iter().partition(|address| allow_private || is_public(*address));
            match (open.is_empty(), closed.first()) {
                (true, Some(address)) => {
                    Err(Box::new(Refused(private(*address))) as Box<dyn std::error::Error + Send + Sync>)
                }
                _ => Ok(Box::new(open.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs),
            }
        })
    }
}

/// Whether an address is one that anybody on the internet could mean.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (b == 18 || b == 19);
    let protocol = a == 192 && b == 0 && c == 0;
    let relay = a == 192 && b == 88 && c == 99;
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || shared
        || benchmark
        || protocol
        || relay)
}

/// Only global unicast is public, and of it neither what is set aside for protocols and documents nor an
/// interface that carries an IPv4 address of its own (ISATAP).
fn is_public_v6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    if let Some(embedded) = embedded_v4(address) {
        return is_public_v4(embedded);
    }
    let global = s[0] & 0xe000 == 0x2000;
    let protocols = s[0] == 0x2001 && s[1] < 0x0200;
    let documentation = (s[0] == 0x2001 && s[1] == 0x0db8) || s[0] & 0xfff0 == 0x3ff0;
    let isatap = s[4] & 0xfdff == 0 && s[5] == 0x5efe;
    global && !protocols && !documentation && !isatap
}

/// The IPv4 address inside mapped, compatible, NAT64 and 6to4 addresses.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let from = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(from(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(from(high, low)),
        [0x2002, high, low, ..] => Some(from(high, low)),
        _ => None,
    }
}

#[cfg(any(test, feature = "spellings"))]
pub mod spellings;
#[cfg(test)]
mod tests;
