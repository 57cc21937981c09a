//! Decides how a file of lines is read and taken up again: a line counts when its end was written.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt as _,
};

use serde::Serialize;

/// How much is read at once while looking for the end of a line.
pub const STEP: usize = 64 * 1024;

pub fn damaged(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the spool is damaged: {why}"))
}

pub fn line_of(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// The line that begins at `from`, with its end; `None` when it has none before `to`. None is longer than
/// `longest`.
pub fn line_at(file: &File, from: u64, to: u64, longest: usize) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let seen = line.len();
        let room = usize::try_from(to - from - seen as u64).unwrap_or(STEP).min(STEP);
        if room == 0 {
            return Ok(None);
        }
        if seen > longest {
            return Err(damaged("a line is too long"));
        }
        line.resize(seen + room, 0);
        file.read_exact_at(&mut line[seen..], from + seen as u64)?;
        if let Some(at) = line[seen..].iter().position(|byte| *byte == b'\n') {
            line.truncate(seen + at + 1);
            return Ok(Some(line));
        }
    }
}

/// Where the last whole line ends.
pub fn last_line_end(file: &File, head: u64, end: u64) -> io::Result<u64> {
    let mut to = end;
    let mut buffer = vec![0; STEP];
    while to > head {
        let from = to.saturating_sub(STEP as u64).max(head);
        let part = &mut buffer[..(to - from) as usize];
        file.read_exact_at(part, from)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + at as u64 + 1);
        }
        to = from;
    }
    Ok(head)
}
