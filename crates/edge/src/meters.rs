//! Counts and times every request by row and status. Labels are bounded: names of rows and numbers of
//! statuses, never ids.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// The process's metrics, rendered for Prometheus.
#[derive(Clone)]
pub struct Meters(PrometheusHandle);

impl Meters {
    pub fn render(&self) -> String {
        self.0.run_upkeep();
        self.0.render()
    }

    /// Sums up what was recorded since the last time. To be called every few seconds: until then each recorded
    /// value takes memory of its own.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

/// Installs the process-wide recorder once; later calls give the same handle.
pub fn install_meters() -> Meters {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    let seconds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    let handle = HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new();
        let recorder = match builder.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &seconds) {
            Ok(builder) => builder.build_recorder(),
            Err(_) => PrometheusBuilder::new().build_recorder(),
        };
        let handle = recorder.handle();
        // A second recorder in the process is not an error: whoever came first keeps counting.
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed already; /metrics will be empty");
        }
        handle
    });
    Meters(handle.clone())
}

/// The statuses that are counted by number; others count as `other`.
const STATUSES: [u16; 23] = [
    200, 201, 202, 204, 304, 307, 400, 401, 403, 404, 405, 408, 409, 410, 413, 415, 422, 426, 429, 500, 501,
    502, 503,
];

/// Handles of one row, so that a request hashes no labels.
pub struct RowMeters {
    by_status: Vec<OnceLock<Counter>>,
    other: OnceLock<Counter>,
    seconds: Histogram,
    service: &'static str,
    row: &'static str,
}

impl RowMeters {
    pub fn new(service: &'static str, row: &'static str) -> Self {
        RowMeters {
            by_status: STATUSES.iter().map(|_| OnceLock::new()).collect(),
            other: OnceLock::new(),
            seconds: histogram!("oa_http_request_seconds", "service" => service, "route" => row),
            service,
            row,
        }
    }

    /// The name of the row.
    pub fn row(&self) -> &'static str {
        self.row
    }

    pub fn record(&self, status: u16, took: Duration) {
        let slot = STATUSES.iter().position(|known| *known == status);
        let cell = slot.map_or(&self.other, |at| &self.by_status[at]);
        let counted = cell.get_or_init(|| {
            let label = slot.map_or_else(|| "other".to_owned(), |_| status.to_string());
            counter!("oa_http_requests_total", "service" => self.service, "route" => self.row, "status" => label)
        });
        counted.increment(1);
        self.seconds.record(took.as_secs_f64());
    }
}

/// Counts the requests that are being answered now, and refuses more than a limit.
#[derive(Clone)]
pub struct InFlight {
    now: Arc<AtomicU64>,
    gauge: Gauge,
    limit: u64,
}

impl InFlight {
    pub fn new(service: &'static str, limit: u64) -> Self {
        InFlight {
            now: Arc::new(AtomicU64::new(0)),
            gauge: gauge!("oa_http_requests_in_flight", "service" => service),
            limit,
        }
    }

    /// A place among the requests being answered, given back when dropped.
    pub fn enter(&self) -> Option<Place> {
        let before = self.now.fetch_add(1, Ordering::Relaxed);
        let place = Place(self.clone());
        self.gauge.set((before + 1) as f64);
        (before < self.limit).then_some(place)
    }
}

pub struct Place(InFlight);

impl Drop for Place {
    fn drop(&mut self) {
        let before = self.0.now.fetch_sub(1, Ordering::Relaxed);
        self.0.gauge.set(before.saturating_sub(1) as f64);
    }
}
