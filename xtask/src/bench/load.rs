//! Decides how load is made: closed loops on one thread, requests written out beforehand, every answer checked.
//!
//! The load shares the cores with what it measures, so it does nothing per request but write, read, check
//! the status and take the time. No HTTP library: the requests are whole byte strings, and the parser knows
//! just as much as a keep-alive answer with a `content-length` needs.

use std::{
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::{JoinSet, LocalSet},
};

/// Whole requests, one per run, ready to be written.
pub type Requests = Rc<Vec<Vec<u8>>>;

/// How long to run before counting, and how long to count.
#[derive(Clone, Copy)]
pub struct Window {
    pub warm: Duration,
    pub measured: Duration,
}

impl Window {
    /// A fifth of it, and no more than half a second, to warm up.
    pub fn of(seconds: f64) -> Self {
        Window {
            warm: Duration::from_secs_f64((seconds / 5.0).min(0.5)),
            measured: Duration::from_secs_f64(seconds),
        }
    }
}

/// What one stretch of load saw.
pub struct Sample {
    /// Of every call that ended within the window, in microseconds, sorted.
    pub micros: Vec<u32>,
    pub measured: Duration,
    /// All calls answered, those outside the window too.
    pub calls: u64,
}

impl Sample {
    pub fn new(mut micros: Vec<u32>, measured: Duration, calls: u64) -> Self {
        micros.sort_unstable();
        Sample { micros, measured, calls }
    }

    pub fn rate(&self) -> f64 {
        self.micros.len() as f64 / self.measured.as_secs_f64()
    }

    /// The latency in milliseconds that `share` of the calls did not exceed.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (self.micros.len() as f64 * share).ceil() as usize;
        let micros = self.micros.get(rank.max(1) - 1).copied().unwrap_or(0);
        f64::from(micros) / 1e3
    }
}

/// One caller in a closed loop: the next call starts when this one was answered.
pub trait Caller: 'static {
    fn call(&mut self) -> impl Future<Output = Result<()>>;
}

/// Writes out a request. `headers` are whole lines with their line ends.
pub fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut whole = format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    whole.extend_from_slice(body);
    whole
}

/// One keep-alive connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .await
            .with_context(|| format!("connecting to port {port}"))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: vec![0; 16 * 1024] })
    }

    /// Sends one request and returns the body of its answer, which must have the status `expected`.
    pub async fn exchange(&mut self, request: &[u8], expected: u16) -> Result<&[u8]> {
        self.stream.write_all(request).await?;
        let mut have = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[have..]).await?;
            ensure!(
                read > 0,
                "the connection was closed before the answer was whole, or the answer is too long"
            );
            have += read;
            let Some(head) = Head::parse(&self.buffer[..have])? else { continue };
            let end = head.body_at + head.body_length;
            if head.status != expected && (have >= end || have == self.buffer.len()) {
                let said = String::from_utf8_lossy(&self.buffer[..have.min(2_000)]);
                bail!("expected the status {expected}, but was answered:\n{said}");
            }
            ensure!(have <= end, "more bytes than the answer announced");
            if have == end {
                return Ok(&self.buffer[head.body_at..end]);
            }
        }
    }
}

struct Head {
    status: u16,
    body_at: usize,
    body_length: usize,
}

impl Head {
    /// `None` until the head is whole.
    fn parse(bytes: &[u8]) -> Result<Option<Head>> {
        let Some(blank) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let status = bytes
            .get(9..12)
            .filter(|_| bytes.starts_with(b"HTTP/1.1 "))
            .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
            .context("not an HTTP/1.1 answer")?;
        let mut length = None;
        for line in bytes[..blank].split(|byte| *byte == b'\n').skip(1) {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            if line[..colon].eq_ignore_ascii_case(b"content-length") {
                let digits = line[colon + 1..].trim_ascii();
                length = Some(std::str::from_utf8(digits)?.parse().context("content-length")?);
            }
        }
        let body_length = match (length, status) {
            (Some(length), _) => length,
            (None, 204) => 0,
            (None, _) => bail!("an answer without content-length"),
        };
        Ok(Some(Head { status, body_at: blank + 4, body_length }))
    }
}

/// One connection and its walk over the requests.
struct Walker {
    connection: Connection,
    requests: Requests,
    at: usize,
    step: usize,
    expected: u16,
}

impl Caller for Walker {
    async fn call(&mut self) -> Result<()> {
        self.connection.exchange(&self.requests[self.at], self.expected).await?;
        self.at = (self.at + self.step) % self.requests.len();
        Ok(())
    }
}

/// `connections` keep-alive connections, each walking its own share of the requests round and round.
pub fn timed(
    port: u16,
    requests: &Requests,
    expected: u16,
    connections: usize,
    window: Window,
) -> Result<Sample> {
    timed_over(&[port], requests, expected, connections, window)
}

/// The same, the connections spread over several servers.
pub fn timed_over(
    ports: &[u16],
    requests: &Requests,
    expected: u16,
    connections: usize,
    window: Window,
) -> Result<Sample> {
    on_one_thread(async {
        let mut callers = Vec::with_capacity(connections);
        for at in 0..connections {
            callers.push(Walker {
                connection: Connection::open(ports[at % ports.len()]).await?,
                requests: Rc::clone(requests),
                at: at % requests.len(),
                step: connections,
                expected,
            });
        }
        timed_callers(callers, window).await
    })
}

/// Runs every caller in its loop until the window closes.
pub async fn timed_callers<C: Caller>(callers: Vec<C>, window: Window) -> Result<Sample> {
    let opens = Instant::now() + window.warm;
    let closes = opens + window.measured;
    let mut tasks = JoinSet::new();
    for mut caller in callers {
        tasks.spawn_local(async move {
            let mut micros = Vec::with_capacity(64 * 1024);
            let mut calls = 0_u64;
            let mut began = Instant::now();
            while began < closes {
                caller.call().await?;
                calls += 1;
                let ended = Instant::now();
                if ended >= opens && ended < closes {
                    micros.push(u32::try_from((ended - began).as_micros()).unwrap_or(u32::MAX));
                }
                began = ended;
            }
            anyhow::Ok((micros, calls))
        });
    }
    let mut micros = Vec::new();
    let mut calls = 0;
    while let Some(task) = tasks.join_next().await {
        let (some, count) = task??;
        micros.extend_from_slice(&some);
        calls += count;
    }
    ensure!(!micros.is_empty(), "no call ended within {:?}", window.measured);
    Ok(Sample::new(micros, window.measured, calls))
}

/// Sends `count` requests, the `n`th being `requests[n % len]`, and returns what `keep` makes of each
/// answer, in the order of `n`.
pub fn counted<T: Default + 'static>(
    port: u16,
    requests: &Requests,
    expected: u16,
    count: usize,
    keep: fn(&[u8]) -> Result<T>,
) -> Result<Vec<T>> {
    let connections = CONNECTIONS_TO_FILL.min(count);
    on_one_thread(async {
        let mut tasks = JoinSet::new();
        for first in 0..connections {
            let requests = Rc::clone(requests);
            tasks.spawn_local(async move {
                let mut connection = Connection::open(port).await?;
                let mut kept = Vec::new();
                for n in (first..count).step_by(connections) {
                    let answer = connection.exchange(&requests[n % requests.len()], expected).await?;
                    kept.push((n, keep(answer)?));
                }
                anyhow::Ok(kept)
            });
        }
        let mut all: Vec<T> = std::iter::repeat_with(T::default).take(count).collect();
        while let Some(task) = tasks.join_next().await {
            for (n, value) in task?? {
                all[n] = value;
            }
        }
        Ok(all)
    })
}

/// Filling is not measured, so it takes the width at which stores are fastest.
const CONNECTIONS_TO_FILL: usize = 64;

/// Everything the load does happens on the calling thread.
pub fn on_one_thread<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_by_its_length() -> Result<()> {
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\ncontent-le")?.is_none());
        let head = Head::parse(b"HTTP/1.1 200 OK\r\ncontent-type: x\r\nContent-Length: 12\r\n\r\n{}")?
            .context("a whole head")?;
        assert_eq!((head.status, head.body_length), (200, 12));
        let head = Head::parse(b"HTTP/1.1 204 No Content\r\netag: 1\r\n\r\n")?.context("a whole head")?;
        assert_eq!((head.status, head.body_length), (204, 0));
        assert!(Head::parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        Ok(())
    }

    #[test]
    fn quantiles_are_of_the_sorted_sample() {
        let sample = Sample::new((1..=100).rev().map(|n| n * 1_000).collect(), Duration::from_secs(1), 100);
        assert_eq!((sample.quantile(0.5), sample.quantile(0.99), sample.rate()), (50.0, 99.0, 100.0));
    }
}
