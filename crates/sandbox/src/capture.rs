//! Decides what is kept of a stream: its digest over every byte, its length, its beginning.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::{Artifact, Run};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Follows a job while it runs. What it is given has been counted: it never gets more than the limits allow.
pub trait Output {
    fn started(&mut self, _command: usize) {}
    fn chunk(&mut self, _command: usize, _stream: Stream, _bytes: &[u8]) {}
    fn ended(&mut self, _run: &Run) {}
    /// A piece of the artifact that comes next.
    fn artifact_chunk(&mut self, _bytes: &[u8]) {}
    /// All of the pieces since the last were this.
    fn artifact(&mut self, _artifact: &Artifact) {}
    /// The pieces since the last are no artifact after all.
    fn no_artifact(&mut self) {}
}

/// Keeps nothing beyond the outcome.
#[derive(Debug)]
pub struct Discard;

impl Output for Discard {}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    pub sha256: [u8; 32],
    pub bytes: u64,
    /// The beginning.
    pub preview: Vec<u8>,
}

impl Captured {
    #[must_use]
    pub fn sha256_hex(&self) -> String {
        hex(&self.sha256)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(crate) struct Capture {
    hash: Sha256,
    bytes: u64,
    preview: Vec<u8>,
    keep: usize,
}

impl Capture {
    pub(crate) fn new(keep: usize) -> Self {
        Self { hash: Sha256::new(), bytes: 0, preview: Vec::new(), keep }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn take(&mut self, chunk: &[u8]) {
        self.hash.update(chunk);
        self.bytes += chunk.len() as u64;
        let room = self.keep.saturating_sub(self.preview.len());
        self.preview.extend_from_slice(&chunk[..room.min(chunk.len())]);
    }

    pub(crate) fn end(self) -> Captured {
        Captured { sha256: self.hash.finalize().into(), bytes: self.bytes, preview: self.preview }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_over_every_byte_and_the_preview_over_the_first() {
        let mut capture = Capture::new(3);
        capture.take(b"he");
        capture.take(b"llo");
        let captured = capture.end();
        assert_eq!(captured.sha256_hex(), "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
        assert_eq!((captured.bytes, captured.preview.as_slice()), (5, &b"hel"[..]));
    }
}
