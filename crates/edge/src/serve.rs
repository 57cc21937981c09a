//! Decides how connections are taken and let go: one accept loop, bounded heads, and a drain that lets every
//! request that was begun end before the process does.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

/// The address of the other end.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// How a process is told to end, and whether it has been.
#[derive(Clone, Default)]
pub struct Drain {
    token: CancellationToken,
    draining: Arc<AtomicBool>,
}

impl Drain {
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on no connection is accepted; those that are open end with their request.
    pub fn begin(&self) {
        self.draining.store(true, Ordering::Release);
        self.token.cancel();
    }

    pub fn has_begun(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Ends when the drain begins.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }
}

/// Heads that take longer than this are not waited for.
const HEAD_TIME: Duration = Duration::from_secs(15);
/// More connections than this wait in the kernel's queue.
const CONNECTIONS: usize = 8_192;

/// Serves until the drain begins, then waits at most `patience` for the requests that were begun.
pub async fn serve(listener: TcpListener, router: Router, drain: Drain, patience: Duration) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(64 * 1024);
    loop {
        let place = tokio::select! {
            () = drain.begun() => break,
            place = places.clone().acquire_owned() => match place {
                Ok(place) => place,
                Err(_) => break,
            },
        };
        let (stream, address) = tokio::select! {
            () = drain.begun() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Usually too many open files: wait for some to close instead of spinning.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let _ = stream.set_nodelay(true);
        let router = router.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(address));
            router.clone().call(request)
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(patience, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests had not ended when the drain ran out of time");
    }
}
