//! Decides what of a working directory is an artifact: regular files inside it, reached without a link.
//!
//! It looks when every process of the job is dead, so that nothing moves; and it opens each step beneath the
//! directory it holds, so that no name leads out even so.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
};
use rustix::fs::{AtFlags, Dir, FileType, statat};
use sha2::{Digest, Sha256};

use crate::{Artifact, LeftOut, Limits, Output};

/// How deep a directory of artifacts may be.
const DEPTH: usize = 32;
/// How many directory entries are looked at in all.
const ENTRIES: usize = 100_000;

/// What lies in the writable area.
pub(crate) fn disk_bytes(work: &OwnedFd) -> u64 {
    rustix::fs::fstatfs(work).map_or(0, |stat| {
        let size = u64::try_from(stat.f_bsize).unwrap_or(0);
        size.saturating_mul(stat.f_blocks.saturating_sub(stat.f_bfree))
    })
}

pub(crate) fn collect(
    work: &OwnedFd,
    wanted: &[PathBuf],
    limits: &Limits,
    output: &mut dyn Output,
) -> (Vec<Artifact>, Vec<LeftOut>) {
    let mut all =
        Collector { work, limits, output, kept: Vec::new(), left_out: Vec::new(), bytes: 0, seen: 0 };
    for path in wanted {
        all.take(path, DEPTH);
    }
    (all.kept, all.left_out)
}

struct Collector<'a> {
    work: &'a OwnedFd,
    limits: &'a Limits,
    output: &'a mut dyn Output,
    kept: Vec<Artifact>,
    left_out: Vec<LeftOut>,
    bytes: u64,
    seen: usize,
}

impl Collector<'_> {
    fn leave(&mut self, path: &Path, why: impl Into<String>) {
        if self.left_out.len() < 1000 {
            self.left_out.push(LeftOut { path: path.to_string_lossy().into_owned(), why: why.into() });
        }
    }

    fn open(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let beneath = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW).resolve(beneath);
        openat2(self.work.as_fd(), path, how)
    }

    fn take(&mut self, path: &Path, depth: usize) {
        self.seen += 1;
        if self.seen > ENTRIES || depth == 0 {
            return self.leave(path, "too deep, or too many entries");
        }
        // A look that opens nothing: devices and pipes are left alone.
        let found = match self.open(path, OFlag::O_PATH) {
            Ok(fd) => {
                statat(&fd, "", AtFlags::EMPTY_PATH).map_err(|error| Errno::from_raw(error.raw_os_error()))
            }
            Err(error) => Err(error),
        };
        match found.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::RegularFile) => self.keep(path),
            Ok(FileType::Directory) => match self.names(path) {
                Ok(names) => {
                    for name in names {
                        self.take(&path.join(name), depth - 1);
                    }
                }
                Err(error) => self.leave(path, error.to_string()),
            },
            Ok(FileType::Symlink) | Err(Errno::ELOOP) => self.leave(path, "a symbolic link is not followed"),
            Ok(_) => self.leave(path, "neither a file nor a directory"),
            Err(Errno::ENOENT) => self.leave(path, "there is none"),
            Err(error) => self.leave(path, error.to_string()),
        }
    }

    fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::new(self.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
            if names.len() > ENTRIES {
                break;
            }
        }
        names.sort();
        Ok(names)
    }

    fn keep(&mut self, path: &Path) {
        let Some(name) = path.to_str() else { return self.leave(path, "its name is no text") };
        if self.kept.len() >= self.limits.artifacts {
            return self.leave(path, "there are more artifacts than allowed");
        }
        let mut file = match self.open(path, OFlag::O_RDONLY) {
            Ok(fd) => File::from(fd),
            Err(error) => return self.leave(path, error.to_string()),
        };
        let (mut hash, mut bytes, mut piece) = (Sha256::new(), 0_u64, vec![0; 64 << 10]);
        loop {
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => {
                    bytes += length as u64;
                    if self.bytes + bytes > self.limits.artifact_bytes {
                        self.output.no_artifact();
                        return self.leave(path, "the artifacts are larger than allowed");
                    }
                    hash.update(&piece[..length]);
                    self.output.artifact_chunk(&piece[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.output.no_artifact();
                    return self.leave(path, error.to_string());
                }
            }
        }
        self.bytes += bytes;
        let artifact = Artifact { path: name.to_owned(), sha256: hash.finalize().into(), bytes };
        self.output.artifact(&artifact);
        self.kept.push(artifact);
    }
}
