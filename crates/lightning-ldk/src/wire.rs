//! Decides how two nodes of one process talk: through the same encrypted transport as over TCP, in memory.

use std::{
    hash::{Hash, Hasher},
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use lightning::ln::peer_handler::SocketDescriptor;

/// One end of a connection: what its node says gathers here until it may leave.
#[derive(Clone)]
pub struct Wire {
    id: u64,
    said: Arc<Mutex<Said>>,
}

#[derive(Default)]
struct Said {
    /// Said, but what it promises is not on disk.
    held: Vec<u8>,
    ready: Vec<u8>,
    closed: bool,
}

impl Wire {
    pub fn new(id: u64) -> Self {
        Wire { id, said: Arc::default() }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Said) -> T) -> T {
        f(&mut self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything said so far is covered by what is on disk.
    pub fn release(&self) {
        self.with(|said| {
            let held = mem::take(&mut said.held);
            said.ready.extend(held);
        });
    }

    /// What may be handed over.
    pub fn take(&self) -> Vec<u8> {
        self.with(|said| mem::take(&mut said.ready))
    }

    pub fn is_closed(&self) -> bool {
        self.with(|said| said.closed)
    }
}

impl SocketDescriptor for Wire {
    fn send_data(&mut self, data: &[u8], _continue_read: bool) -> usize {
        self.with(|said| said.held.extend_from_slice(data));
        data.len()
    }

    fn disconnect_socket(&mut self) {
        self.with(|said| said.closed = true);
    }
}

impl PartialEq for Wire {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Wire {}

impl Hash for Wire {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}
