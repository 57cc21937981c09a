//! Decides who is woken when something was committed. It carries no data: whoever follows a stream reads the
//! store from its own position, so a wake may be lost, doubled or late and nothing is.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use oa_store::Wake;
use tokio::sync::{Notify, watch};

/// Followers by stream, and what has been published since the process started.
#[derive(Default)]
pub struct Hub {
    followers: Mutex<HashMap<String, Weak<watch::Sender<u64>>>>,
    following: AtomicU64,
    /// There is something in the outbox.
    pub outbox: Notify,
    /// Workers that were changed since somebody took note of it.
    changed_workers: Mutex<HashSet<String>>,
    pub counters: Counters,
}

/// The publisher's counters (runtime-core §12).
#[derive(Default)]
pub struct Counters {
    pub published: AtomicU64,
    pub duplicates: AtomicU64,
    pub failed: AtomicU64,
    pub streams: AtomicU64,
    pub events: AtomicU64,
    pub stale_cursors: AtomicU64,
}

impl Counters {
    /// Counts a message that reached its stream; its first one makes the stream.
    pub fn published(&self, seq: u64) {
        self.published.fetch_add(1, Ordering::Relaxed);
        self.events.fetch_add(1, Ordering::Relaxed);
        if seq == 1 {
            self.streams.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn duplicate(&self) {
        self.duplicates.fetch_add(1, Ordering::Relaxed);
    }

    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The stream of a run's events.
pub fn run_stream(run_id: uuid::Uuid) -> String {
    format!("runtime.run.{run_id}.events")
}

/// The stream of a topic, for the topics of §12.
pub fn stream_of_topic(topic: &str) -> String {
    let parts: Vec<&str> = topic.splitn(2, ':').collect();
    match parts.as_slice() {
        ["run", rest] => rest.strip_suffix(":events").map(|id| format!("runtime.run.{id}.events")),
        ["worker", rest] => {
            rest.strip_suffix(":lifecycle").map(|id| format!("runtime.worker.{id}.lifecycle"))
        }
        ["fleet", rest] => rest
            .strip_suffix(":workers")
            .and_then(|rest| rest.split_once(':'))
            .filter(|(kind, _)| matches!(*kind, "user" | "guest"))
            .map(|(kind, id)| format!("runtime.fleet.{kind}.{id}.workers")),
        _ => None,
    }
    .unwrap_or_else(|| format!("runtime.topic.{}", topic.replace(':', ".")))
}

impl Hub {
    /// Called by the store after each commit.
    pub fn wake(&self, wakes: &[Wake]) {
        let anybody = self.following.load(Ordering::Acquire) > 0;
        for wake in wakes {
            match wake {
                Wake::Run { run_id, seq } => {
                    self.counters.published(*seq);
                    if anybody {
                        self.tell(&run_stream(*run_id), *seq);
                    }
                }
                Wake::Stream { stream_id, seq } => self.tell(stream_id, *seq),
                Wake::Worker { worker_id } => self.note_worker(worker_id),
                Wake::Outbox => self.outbox.notify_one(),
            }
        }
    }

    fn note_worker(&self, worker_id: &str) {
        let mut changed = self.changed_workers.lock().unwrap_or_else(PoisonError::into_inner);
        changed.insert(worker_id.to_owned());
    }

    /// Takes the names of the workers that were changed since the last time.
    pub fn take_changed_workers(&self) -> HashSet<String> {
        std::mem::take(&mut *self.changed_workers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives names back that could not be looked up.
    pub fn return_changed_workers(&self, names: HashSet<String>) {
        self.changed_workers.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
    }

    fn tell(&self, stream: &str, seq: u64) {
        let mut followers = self.lock();
        let Some(sender) = followers.get(stream) else { return };
        match sender.upgrade() {
            Some(sender) => {
                sender.send_if_modified(|head| {
                    let newer = seq > *head;
                    *head = seq.max(*head);
                    newer
                });
            }
            None => {
                followers.remove(stream);
            }
        }
    }

    /// Follows a stream from now on: the receiver changes when its head does.
    pub fn follow(self: &Arc<Self>, stream: &str) -> Follower {
        let mut followers = self.lock();
        let sender = match followers.get(stream).and_then(Weak::upgrade) {
            Some(sender) => sender,
            None => {
                let sender = Arc::new(watch::Sender::new(0));
                followers.insert(stream.to_owned(), Arc::downgrade(&sender));
                sender
            }
        };
        self.following.fetch_add(1, Ordering::AcqRel);
        Follower { head: sender.subscribe(), _sender: sender, stream: stream.to_owned(), hub: self.clone() }
    }

    /// Followers connected now.
    pub fn following(&self) -> u64 {
        self.following.load(Ordering::Acquire)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Weak<watch::Sender<u64>>>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who follows a stream. The last one to leave takes the entry along.
pub struct Follower {
    pub head: watch::Receiver<u64>,
    _sender: Arc<watch::Sender<u64>>,
    stream: String,
    hub: Arc<Hub>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.hub.following.fetch_sub(1, Ordering::AcqRel);
        let mut followers = self.hub.lock();
        if followers.get(&self.stream).is_some_and(|sender| sender.strong_count() <= 1) {
            followers.remove(&self.stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_have_the_specified_streams() {
        assert_eq!(stream_of_topic("run:abc:events"), "runtime.run.abc.events");
        assert_eq!(stream_of_topic("worker:desktop:w1:lifecycle"), "runtime.worker.desktop:w1.lifecycle");
        assert_eq!(stream_of_topic("fleet:user:7:workers"), "runtime.fleet.user.7.workers");
        assert_eq!(stream_of_topic("fleet:guest:lab:workers"), "runtime.fleet.guest.lab.workers");
        assert_eq!(stream_of_topic("fraud:incidents"), "runtime.topic.fraud.incidents");
    }

    #[tokio::test]
    async fn a_follower_is_woken_by_its_stream_only_and_leaves_nothing_behind() {
        let hub = Arc::new(Hub::default());
        let mut follower = hub.follow("a");
        hub.wake(&[Wake::Stream { stream_id: "b".into(), seq: 9 }]);
        assert!(!follower.head.has_changed().expect("open"));
        hub.wake(&[
            Wake::Stream { stream_id: "a".into(), seq: 3 },
            Wake::Stream { stream_id: "a".into(), seq: 2 },
        ]);
        follower.head.changed().await.expect("open");
        assert_eq!(*follower.head.borrow_and_update(), 3);
        drop(follower);
        assert_eq!(hub.following(), 0);
        assert!(hub.lock().is_empty());
    }
}
