//! Decides how a job that runs is ended from elsewhere.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::event::{EventfdFlags, eventfd};

/// Ends the job that was given it; clones are the same.
#[derive(Clone, Debug)]
pub struct Cancel(Option<Arc<OwnedFd>>);

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

impl Cancel {
    /// One that nobody has used. Where the host has no descriptor left, the job it is given to is refused.
    #[must_use]
    pub fn new() -> Self {
        Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok().map(Arc::new))
    }

    /// Ends the job, now or when it starts. Again changes nothing.
    pub fn cancel(&self) {
        if let Some(fd) = &self.0 {
            let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
        }
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }
}
