//! Decides who is woken when something was committed. It carries no data: whoever follows a feed reads the store from
//! its own position, so a wake may be lost, doubled or late and nothing is.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use oa_store::Wake;
use tokio::sync::watch;

/// Followers by stream. The store calls [`Hub::wake`] after each commit.
#[derive(Default)]
pub struct Hub(Mutex<HashMap<String, Weak<watch::Sender<u64>>>>);

impl Hub {
    pub fn wake(&self, wakes: &[Wake]) {
        for wake in wakes {
            if let Wake::Stream { stream_id, seq } = wake {
                self.tell(stream_id, *seq);
            }
        }
    }

    fn tell(&self, stream: &str, seq: u64) {
        let sender = self.lock().get(stream).and_then(Weak::upgrade);
        if let Some(sender) = sender {
            sender.send_if_modified(|head| {
                let newer = seq > *head;
                *head = seq.max(*head);
                newer
            });
        }
    }

    /// Follows a stream from now on.
    pub fn follow(self: &Arc<Self>, stream: &str) -> Follower {
        let mut followers = self.lock();
        let sender = followers.get(stream).and_then(Weak::upgrade).unwrap_or_else(|| {
            let sender = Arc::new(watch::Sender::new(0));
            followers.insert(stream.to_owned(), Arc::downgrade(&sender));
            sender
        });
        Follower { head: sender.subscribe(), _sender: sender, stream: stream.to_owned(), hub: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Weak<watch::Sender<u64>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who follows a stream. The last one to leave takes the entry along.
pub struct Follower {
    head: watch::Receiver<u64>,
    _sender: Arc<watch::Sender<u64>>,
    stream: String,
    hub: Arc<Hub>,
}

impl Follower {
    /// Called before the store is read: what is committed from here on ends [`Follower::changed`].
    pub fn mark_unchanged(&mut self) {
        self.head.mark_unchanged();
    }

    pub async fn changed(&mut self) {
        // The sender lives as long as this does.
        let _ = self.head.changed().await;
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut followers = self.hub.lock();
        if followers.get(&self.stream).is_some_and(|sender| sender.strong_count() <= 1) {
            followers.remove(&self.stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wake(stream: &str, seq: u64) -> Wake {
        Wake::Stream { stream_id: stream.into(), seq }
    }

    #[tokio::test]
    async fn a_follower_is_woken_by_its_stream_only_and_leaves_nothing_behind() {
        let hub = Arc::new(Hub::default());
        let mut follower = hub.follow("a");
        let other = hub.follow("a");
        hub.wake(&[wake("b", 9)]);
        assert!(!follower.head.has_changed().expect("open"));
        hub.wake(&[wake("a", 3), wake("a", 2)]);
        follower.changed().await;
        follower.mark_unchanged();
        assert!(!follower.head.has_changed().expect("open"));
        drop(other);
        hub.wake(&[wake("a", 4)]);
        follower.changed().await;
        drop(follower);
        assert!(hub.lock().is_empty());
    }
}
