//! Decides who is woken when something was committed. It carries no data: whoever follows a stream reads the
//! store from its own position, so a wake may be lost, doubled or late and nothing is.

use std::{
    collections::{HashMap, HashSet, hash_map},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use oa_store::Wake;
use tokio::sync::{Notify, watch};

/// A follower looks without a wake at least so often, when nothing tells it what other replicas have committed.
const ALONE: Duration = Duration::from_millis(500);
/// The same when something does: this is for what gets lost on the way.
const TOLD: Duration = Duration::from_secs(5);

/// Carries wakes to other replicas and brings theirs. It may lose, double and reorder them, and stop altogether:
/// followers then look for themselves. Nothing here may wait.
pub trait Relay: Send + Sync {
    /// A stream has come so far in this process.
    fn tell(&self, stream: &str, seq: u64);
    /// Somebody here follows a stream. When what others tell of it arrives, [`Hub::look_again`] is due.
    fn follow(&self, stream: &str);
    /// Nobody here follows it any more.
    fn leave(&self, stream: &str);
    /// Why it carries nothing at the moment, if so.
    fn trouble(&self) -> Option<String>;
}

/// Followers by stream, and what has been published since the process started.
#[derive(Default)]
pub struct Hub {
    followers: Mutex<HashMap<String, Followed>>,
    relay: OnceLock<Arc<dyn Relay>>,
    following: AtomicU64,
    /// There is something in the outbox.
    pub outbox: Notify,
    /// Workers that were changed since somebody took note of it.
    changed_workers: Mutex<HashSet<String>>,
    pub counters: Counters,
}

/// A stream that somebody follows.
struct Followed {
    head: Arc<watch::Sender<u64>>,
    followers: usize,
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
    /// Has wakes carried between replicas from now on. The first relay stays.
    pub fn relay_through(&self, relay: Arc<dyn Relay>) {
        let _ = self.relay.set(relay);
    }

    /// Why wakes of other replicas do not arrive, if they should.
    pub fn relay_trouble(&self) -> Option<String> {
        self.relay.get()?.trouble()
    }

    /// How long a follower waits for a wake before it looks all the same.
    pub fn patience(&self) -> Duration {
        match self.relay.get() {
            Some(relay) if relay.trouble().is_none() => TOLD,
            _ => ALONE,
        }
    }

    /// Called by the store after each commit.
    pub fn wake(&self, wakes: &[Wake]) {
        let anybody = self.following.load(Ordering::Acquire) > 0 || self.relay.get().is_some();
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
        if let Some(relay) = self.relay.get() {
            relay.tell(stream, seq);
        }
        if let Some(followed) = self.lock().get(stream) {
            followed.head.send_if_modified(|head| {
                let newer = seq > *head;
                *head = seq.max(*head);
                newer
            });
        }
    }

    /// Another replica says that a stream has come so far. It is believed enough to look, and no more: the head that
    /// this process knows of stays, so that a wrong number hides no right one.
    pub fn heard(&self, stream: &str, seq: u64) {
        if let Some(followed) = self.lock().get(stream) {
            followed.head.send_if_modified(|head| seq > *head);
        }
    }

    /// Has the followers of a stream look, whatever they have seen.
    pub fn look_again(&self, stream: &str) {
        if let Some(followed) = self.lock().get(stream) {
            followed.head.send_modify(|_| {});
        }
    }

    /// Has every follower look: wakes may have been lost.
    pub fn everybody_looks_again(&self) {
        for followed in self.lock().values() {
            followed.head.send_modify(|_| {});
        }
    }

    /// Follows a stream from now on: the receiver changes when its head does.
    pub fn follow(self: &Arc<Self>, stream: &str) -> Follower {
        let mut followers = self.lock();
        let followed = match followers.entry(stream.to_owned()) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(new) => {
                if let Some(relay) = self.relay.get() {
                    relay.follow(stream);
                }
                new.insert(Followed { head: Arc::new(watch::Sender::new(0)), followers: 0 })
            }
        };
        followed.followers += 1;
        self.following.fetch_add(1, Ordering::AcqRel);
        let head = followed.head.subscribe();
        Follower { head, stream: stream.to_owned(), hub: self.clone() }
    }

    /// Followers connected now.
    pub fn following(&self) -> u64 {
        self.following.load(Ordering::Acquire)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Followed>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who follows a stream. The last one to leave takes the entry along.
pub struct Follower {
    pub head: watch::Receiver<u64>,
    stream: String,
    hub: Arc<Hub>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.hub.following.fetch_sub(1, Ordering::AcqRel);
        let mut followers = self.hub.lock();
        let Some(followed) = followers.get_mut(&self.stream) else { return };
        followed.followers -= 1;
        if followed.followers == 0 {
            followers.remove(&self.stream);
            if let Some(relay) = self.hub.relay.get() {
                relay.leave(&self.stream);
            }
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

    /// Writes down what it is asked to do, and carries nothing.
    #[derive(Default)]
    struct Noted {
        said: Mutex<Vec<String>>,
        trouble: Mutex<Option<String>>,
    }

    impl Noted {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut *self.said.lock().expect("lock"))
        }

        fn note(&self, said: String) {
            self.said.lock().expect("lock").push(said);
        }
    }

    impl Relay for Noted {
        fn tell(&self, stream: &str, seq: u64) {
            self.note(format!("tell {stream} {seq}"));
        }

        fn follow(&self, stream: &str) {
            self.note(format!("follow {stream}"));
        }

        fn leave(&self, stream: &str) {
            self.note(format!("leave {stream}"));
        }

        fn trouble(&self) -> Option<String> {
            self.trouble.lock().expect("lock").clone()
        }
    }

    #[test]
    fn others_are_told_of_every_commit_and_asked_for_what_is_followed_here() {
        let (hub, relay) = (Arc::new(Hub::default()), Arc::new(Noted::default()));
        hub.relay_through(relay.clone());
        let run_id = uuid::Uuid::nil();
        hub.wake(&[Wake::Run { run_id, seq: 3 }, Wake::Stream { stream_id: "a".into(), seq: 4 }]);
        assert_eq!(relay.take(), [format!("tell {} 3", run_stream(run_id)), "tell a 4".into()]);
        let (one, two) = (hub.follow("a"), hub.follow("a"));
        drop(one);
        assert_eq!(relay.take(), ["follow a"], "once for all who follow here");
        drop(two);
        assert_eq!(relay.take(), ["leave a"]);
    }

    #[test]
    fn what_others_say_has_followers_look_and_hides_nothing() {
        let hub = Arc::new(Hub::default());
        let mut follower = hub.follow("a");
        let looks = |follower: &mut Follower| {
            let looks = follower.head.has_changed().expect("open");
            follower.head.mark_unchanged();
            looks
        };
        hub.heard("b", 1);
        assert!(!looks(&mut follower));
        // Too high by far, and twice.
        hub.heard("a", u64::MAX);
        assert!(looks(&mut follower));
        hub.heard("a", u64::MAX);
        assert!(looks(&mut follower));
        hub.wake(&[Wake::Stream { stream_id: "a".into(), seq: 3 }]);
        assert!(looks(&mut follower), "a wrong number hides no commit");
        hub.heard("a", 2);
        assert!(!looks(&mut follower), "what was seen here already is no news");
        hub.look_again("a");
        assert!(looks(&mut follower));
        hub.everybody_looks_again();
        assert!(looks(&mut follower));
    }

    #[test]
    fn followers_look_often_where_nobody_tells_them() {
        let (hub, relay) = (Hub::default(), Arc::new(Noted::default()));
        assert_eq!((hub.patience(), hub.relay_trouble()), (ALONE, None));
        hub.relay_through(relay.clone());
        assert_eq!((hub.patience(), hub.relay_trouble()), (TOLD, None));
        *relay.trouble.lock().expect("lock") = Some("away".into());
        assert_eq!((hub.patience(), hub.relay_trouble()), (ALONE, Some("away".into())));
    }
}
