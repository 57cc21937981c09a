//! The one client for URLs that a caller gives us. It decides which addresses may be reached: the resolved
//! address is judged at connect time, redirects are not followed, size and time are capped (architecture §7).

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
    pub timeout: Duration,
    pub max_bytes: usize,
    /// Fetches at one time.
    pub concurrency: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            allow_private_networks: false,
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
    /// It could not be reached, or did not answer well.
    Failed(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::Forbidden(why) | FetchError::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for FetchError {}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Fetched {
    pub status: u16,
    pub body: Vec<u8>,
}

/// The guarded client. Clones share connections and places.
#[derive(Clone)]
pub struct Fetcher {
    http: reqwest::Client,
    policy: Policy,
    places: Arc<Semaphore>,
}

impl Fetcher {
    pub fn new(policy: Policy) -> Result<Self, FetchError> {
        // Fails when the process has chosen a provider already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(policy.timeout)
            .dns_resolver(Arc::new(GuardedResolver { allow_private: policy.allow_private_networks }))
            .build()
            .map_err(|error| FetchError::Failed(error.to_string()))?;
        Ok(Fetcher { http, policy, places: Arc::new(Semaphore::new(policy.concurrency.max(1))) })
    }

    /// `GET url`.
    pub async fn get(&self, url: &str) -> Result<Fetched, FetchError> {
        let url = self.admit(url)?;
        let _place =
            self.places.acquire().await.map_err(|_| FetchError::Failed("the client is closed".into()))?;
        let mut response = self.http.get(url).send().await.map_err(failed)?;
        let status = response.status().as_u16();
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
        Ok(Fetched { status, body })
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
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
            None => return Err(FetchError::Forbidden("the URL names no host".into())),
        };
        match literal {
            Some(address) if !self.policy.allow_private_networks && !is_public(address) => {
                Err(FetchError::Forbidden(private(address)))
            }
            _ => Ok(url),
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
    FetchError::Failed(text)
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
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let resolved: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let (open, closed): (Vec<_>, Vec<_>) =
                resolved.into_iter().partition(|address| allow_private || is_public(address.ip()));
            match (open.is_empty(), closed.first()) {
                (true, Some(address)) => {
                    Err(Box::new(Refused(private(address.ip()))) as Box<dyn std::error::Error + Send + Sync>)
                }
                _ => Ok(Box::new(open.into_iter()) as Addrs),
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
        || protocol)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    if let Some(embedded) = embedded_v4(address) {
        return is_public_v4(embedded);
    }
    let unique_local = segments[0] & 0xfe00 == 0xfc00;
    let link_local = segments[0] & 0xffc0 == 0xfe80;
    let site_local = segments[0] & 0xffc0 == 0xfec0;
    let documentation = segments[0] == 0x2001 && segments[1] == 0x0db8;
    !(address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || unique_local
        || link_local
        || site_local
        || documentation)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_told_from_public_ones_in_every_disguise() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.0.8",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2001:db8::1",
        ] {
            assert!(!is_public(text.parse().expect("an address")), "{text} passed for public");
        }
        for text in ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1"] {
            assert!(is_public(text.parse().expect("an address")), "{text} was refused");
        }
    }

    #[tokio::test]
    async fn loopback_is_refused_by_literal_by_name_and_by_odd_notation() {
        let fetcher = Fetcher::new(Policy::default()).expect("a fetcher");
        for url in [
            "http://127.0.0.1:9/",
            "http://localhost:9/",
            "http://2130706433:9/",
            "http://0x7f.1:9/",
            "http://[::1]:9/",
            "http://[::ffff:127.0.0.1]:9/",
        ] {
            let error = fetcher.get(url).await.expect_err(url);
            assert!(matches!(error, FetchError::Forbidden(_)), "{url}: {error}");
        }
        for url in ["file:///etc/passwd", "ftp://example.com/", "http://user:pass@example.com/", "nonsense"] {
            assert!(matches!(fetcher.get(url).await, Err(FetchError::Forbidden(_))), "{url}");
        }
    }
}
