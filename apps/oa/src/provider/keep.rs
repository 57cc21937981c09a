//! Decides what a provider remembers: answers by the key of their request, and output and artifacts by their digest; all of it
//! bounded in age and size. Output goes before answers do: whose answer is forgotten is run again.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use oa_contract::canonical::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What is new may be such a part of everything before the oldest goes.
const PARTS: u64 = 16;
/// How often what is too old is looked for.
const NOW_AND_THEN: Duration = Duration::from_secs(600);

/// The directories of one provider.
pub struct Keep {
    answers: PathBuf,
    blobs: PathBuf,
    coming: PathBuf,
    most_bytes: u64,
    most_age: Duration,
    next: AtomicU64,
    /// Bytes that came since it was last looked what may go, and when that was.
    since: Mutex<(u64, Instant)>,
}

/// An answer that was given once and is given again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The hash of the request that it answers.
    pub request: String,
    pub body: String,
}

impl Keep {
    /// What an earlier process was still writing is forgotten.
    pub fn open(directory: &Path, most_bytes: u64, most_age: Duration) -> io::Result<Self> {
        let keep = Keep {
            answers: directory.join("answers"),
            blobs: directory.join("blobs"),
            coming: directory.join("coming"),
            most_bytes,
            most_age,
            next: AtomicU64::new(0),
            since: Mutex::new((0, Instant::now())),
        };
        match fs::remove_dir_all(&keep.coming) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for directory in [&keep.answers, &keep.blobs, &keep.coming] {
            fs::create_dir_all(directory)?;
        }
        keep.purge()?;
        Ok(keep)
    }

    fn answer_path(&self, key: &str) -> PathBuf {
        self.answers.join(hex(&Sha256::digest(key.as_bytes())))
    }

    pub fn answer(&self, key: &str) -> io::Result<Option<Answer>> {
        match fs::read(self.answer_path(key)) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// On disk before anybody hears it.
    pub fn put_answer(&self, key: &str, answer: &Answer) -> io::Result<()> {
        let mut coming = self.coming()?;
        coming.file.write_all(&serde_json::to_vec(answer)?)?;
        self.came(&coming);
        coming.become_file(&self.answer_path(key))?;
        File::open(&self.answers)?.sync_all()
    }

    /// A file that is being written, under no name that is asked for.
    pub fn coming(&self) -> io::Result<Coming> {
        let path = self.coming.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Coming { path, file })
    }

    pub fn put_blob(&self, coming: Coming, digest: &str) -> io::Result<()> {
        self.came(&coming);
        coming.become_file(&self.blobs.join(digest))
    }

    /// What has this digest, 64 hex digits.
    pub fn blob(&self, digest: &str) -> Option<PathBuf> {
        let fits = digest.len() == 64 && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        Some(self.blobs.join(digest)).filter(|path| fits && path.is_file())
    }

    fn came(&self, coming: &Coming) {
        let bytes = coming.file.metadata().map_or(0, |metadata| metadata.len());
        self.since.lock().unwrap_or_else(PoisonError::into_inner).0 += bytes;
    }

    /// Forgets what is too much once a good part of it is new, and what is too old now and then: looking at every file
    /// after every job would take longer than small jobs do.
    pub fn purge_when_due(&self) -> io::Result<()> {
        let due = {
            let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
            let due = since.0 >= self.most_bytes / PARTS || since.1.elapsed() >= NOW_AND_THEN;
            if due {
                *since = (0, Instant::now());
            }
            due
        };
        if due { self.purge() } else { Ok(()) }
    }

    /// Forgets what is too old, and the oldest of what is too much: output first, and answers only when they are too
    /// much by themselves.
    pub fn purge(&self) -> io::Result<()> {
        let now = SystemTime::now();
        let mut kept = Vec::new();
        for (turn, directory) in [&self.blobs, &self.answers].into_iter().enumerate() {
            for entry in fs::read_dir(directory)?.flatten() {
                let Ok(metadata) = entry.metadata() else { continue };
                let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                if now.duration_since(written).is_ok_and(|age| age > self.most_age) {
                    let _ = fs::remove_file(entry.path());
                } else {
                    kept.push((turn, written, metadata.len(), entry.path()));
                }
            }
        }
        kept.sort();
        let mut bytes: u64 = kept.iter().map(|(_, _, length, _)| length).sum();
        for (_, _, length, path) in kept {
            if bytes <= self.most_bytes {
                break;
            }
            let _ = fs::remove_file(path);
            bytes -= length;
        }
        Ok(())
    }
}

/// Gone again unless it becomes something.
pub struct Coming {
    path: PathBuf,
    pub file: File,
}

impl Coming {
    fn become_file(self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, path)
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::tests::scratch;

    fn put(keep: &Keep, text: &[u8]) -> String {
        let digest = hex(&Sha256::digest(text));
        let mut coming = keep.coming().expect("a file");
        coming.file.write_all(text).expect("written");
        keep.put_blob(coming, &digest).expect("kept");
        digest
    }

    #[test]
    fn an_answer_outlives_the_process_and_a_half_written_one_does_not_count() {
        let place = scratch();
        let open = || Keep::open(place.path(), 1 << 20, Duration::from_secs(60)).expect("a keep");
        let answer = Answer { request: "r".to_owned(), body: "{}".to_owned() };
        let keep = open();
        assert_eq!(keep.answer("../k").expect("read"), None);
        keep.put_answer("../k", &answer).expect("kept");
        std::mem::forget(keep.coming().expect("begun"));
        let keep = open();
        assert_eq!(keep.answer("../k").expect("read"), Some(answer));
        assert_eq!(fs::read_dir(place.path().join("coming")).expect("it").count(), 0);
    }

    #[test]
    fn the_oldest_goes_when_there_is_too_much_and_no_name_leads_elsewhere() {
        let place = scratch();
        let keep = Keep::open(place.path(), 25, Duration::from_secs(60)).expect("a keep");
        let digests: Vec<_> =
            [b"0123456789", b"1123456789", b"2123456789"].map(|text| put(&keep, text)).into();
        for (age, digest) in [30, 20, 10].into_iter().zip(&digests) {
            let file = File::open(keep.blob(digest).expect("kept")).expect("open");
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).expect("aged");
        }
        keep.purge().expect("purged");
        assert!(keep.blob(&digests[0]).is_none());
        assert!(keep.blob(&digests[1]).is_some() && keep.blob(&digests[2]).is_some());
        for name in ["", "../answers", &digests[1].to_uppercase(), "x"] {
            assert!(keep.blob(name).is_none(), "{name}");
        }
    }

    #[test]
    fn output_goes_before_any_answer_does_however_old_that_is() {
        let place = scratch();
        let keep = Keep::open(place.path(), 200, Duration::from_secs(600)).expect("a keep");
        let answer = Answer { request: "r".to_owned(), body: "{}".to_owned() };
        keep.put_answer("old", &answer).expect("kept");
        let old = File::open(keep.answer_path("old")).expect("open");
        old.set_modified(SystemTime::now() - Duration::from_secs(60)).expect("aged");
        let digests: Vec<_> = [b'a', b'b', b'c'].map(|letter| put(&keep, &[letter; 100])).into();
        keep.purge_when_due().expect("purged");
        assert_eq!(keep.answer("old").expect("read"), Some(answer.clone()));
        assert_eq!(digests.iter().filter(|digest| keep.blob(digest).is_some()).count(), 1);
        // Little that is new is no reason to look at everything.
        put(&keep, b"small");
        keep.purge_when_due().expect("nothing to do");
        for n in 0..20 {
            keep.put_answer(&n.to_string(), &answer).expect("kept");
        }
        keep.purge_when_due().expect("purged");
        assert_eq!(fs::read_dir(&keep.blobs).expect("it").count(), 0);
        let bytes: u64 = fs::read_dir(&keep.answers)
            .expect("it")
            .map(|entry| entry.and_then(|entry| entry.metadata()).expect("a file").len())
            .sum();
        assert!(bytes <= 200, "{bytes}");
        assert_eq!(keep.answer("old").expect("read"), None, "the oldest answer goes first");
    }
}
