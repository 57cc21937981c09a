//! Decides what of a directory is a skill: every regular file below it, none through a link, within the limits of a
//! bundle; and how a bundle becomes a directory again.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Read as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;
use oa_contract::bundle::{File, MAX_FILE_BYTES, MAX_FILES, check_path};

use super::RECORD;
use crate::{data_dir::write_atomically, failure::Failure};

/// How deep directories may lie in each other; paths of a bundle are shorter than this.
const MAX_DEPTH: usize = 64;

/// The files of a directory, ascending by path.
pub fn read(directory: &Path) -> Result<Vec<File>, Failure> {
    let mut files = Vec::new();
    let mut left = MAX_FILE_BYTES;
    visit(directory, directory, MAX_DEPTH, &mut left, &mut files)?;
    files.sort_by(|a: &File, b| a.path.cmp(&b.path));
    Ok(files)
}

fn visit(
    root: &Path,
    directory: &Path,
    depth: usize,
    left: &mut usize,
    files: &mut Vec<File>,
) -> Result<(), Failure> {
    let entries = fs::read_dir(directory).map_err(|error| Failure::file(directory, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| Failure::file(directory, &error))?;
        let path = entry.path();
        // Ours, and what a checkout keeps of itself.
        if directory == root && (entry.file_name() == RECORD || entry.file_name() == ".git") {
            continue;
        }
        let kind = entry.file_type().map_err(|error| Failure::file(&path, &error))?;
        if kind.is_dir() && depth > 0 {
            visit(root, &path, depth - 1, left, files)?;
        } else if kind.is_file() {
            files.push(file(root, &path, left)?);
            if files.len() > MAX_FILES {
                return Err(Failure::wrong(format!("{}: more than {MAX_FILES} files", root.display())));
            }
        } else {
            let what = if kind.is_symlink() { "a link" } else { "no regular file" };
            return Err(Failure::wrong(format!("{} is {what}; a skill holds regular files", path.display())));
        }
    }
    Ok(())
}

fn file(root: &Path, path: &Path, left: &mut usize) -> Result<File, Failure> {
    let named = relative(root, path)
        .ok_or_else(|| Failure::wrong(format!("{} is not a path of UTF-8 text", path.display())))?;
    check_path(&named).map_err(Failure::wrong)?;
    let wrong = |error| Failure::file(path, &error);
    // A link that has taken the file's place meanwhile is not followed, and a pipe is not waited for.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).map_err(wrong)?;
    let about = opened.metadata().map_err(wrong)?;
    if !about.is_file() {
        return Err(Failure::wrong(format!("{} is no regular file", path.display())));
    }
    let mut bytes = Vec::new();
    opened.take(*left as u64 + 1).read_to_end(&mut bytes).map_err(wrong)?;
    *left = left.checked_sub(bytes.len()).ok_or_else(|| {
        Failure::wrong(format!("{}: the files hold more than {MAX_FILE_BYTES} bytes", root.display()))
    })?;
    Ok(File { path: named, bytes, executable: about.permissions().mode() & 0o111 != 0 })
}

fn relative(root: &Path, path: &Path) -> Option<String> {
    let parts = path.strip_prefix(root).ok()?.components();
    let parts: Option<Vec<&str>> = parts.map(|part| part.as_os_str().to_str()).collect();
    parts.map(|parts| parts.join("/"))
}

/// Refuses a place that holds something already.
pub fn must_be_free(directory: &Path) -> Result<(), Failure> {
    match fs::read_dir(directory).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::wrong(format!(
            "{} holds something already; --force overwrites the files of the skill",
            directory.display()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::file(directory, &error)),
    }
}

/// Writes the files and, last, the record of the release. No file is written through a link.
pub fn write(directory: &Path, files: &[File], record: &str) -> Result<(), Failure> {
    fs::create_dir_all(directory).map_err(|error| Failure::file(directory, &error))?;
    for file in files {
        check_path(&file.path).map_err(Failure::wrong)?;
        let path = prepare(directory, &file.path)?;
        write_atomically(&path, &file.bytes)?;
        let mode = if file.executable { 0o755 } else { 0o644 };
        fs::set_permissions(&path, Permissions::from_mode(mode))
            .map_err(|error| Failure::file(&path, &error))?;
    }
    let path = directory.join(RECORD);
    write_atomically(&path, record.as_bytes())?;
    fs::set_permissions(&path, Permissions::from_mode(0o644)).map_err(|error| Failure::file(&path, &error))
}

/// Makes the directories above a file, each a real one.
fn prepare(directory: &Path, path: &str) -> Result<PathBuf, Failure> {
    let mut place = directory.to_owned();
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        place.push(part);
        if parts.peek().is_none() {
            break;
        }
        match fs::symlink_metadata(&place) {
            Ok(about) if about.is_dir() => {}
            Ok(_) => return Err(Failure::wrong(format!("{} is no directory", place.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&place).map_err(|error| Failure::file(&place, &error))?;
            }
            Err(error) => return Err(Failure::file(&place, &error)),
        }
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::data_dir::tests::scratch;

    fn one(path: &str, bytes: &[u8], executable: bool) -> File {
        File { path: path.into(), bytes: bytes.to_vec(), executable }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let place = scratch();
        let files = [one("SKILL.md", b"x", false), one("scripts/deep/run", &[0xff, 0], true)];
        write(place.path(), &files, "{}").expect("written");
        assert_eq!(read(place.path()).expect("read"), files);
        assert!(must_be_free(place.path()).is_err());
        assert!(must_be_free(&place.path().join("new")).is_ok());
    }

    #[test]
    fn no_link_is_followed_in_either_direction() {
        let (place, other) = (scratch(), scratch());
        symlink(other.path(), place.path().join("scripts")).expect("a link");
        let refused = read(place.path()).expect_err("refused");
        assert!(refused.sentence.contains("a link"), "{refused}");
        assert!(write(place.path(), &[one("scripts/x", b"x", false)], "{}").is_err());
        assert!(write(place.path(), &[one("../x", b"x", false)], "{}").is_err());
        assert_eq!(fs::read_dir(other.path()).expect("there").count(), 0);
        fs::write(other.path().join("secret"), "s").expect("written");
        symlink(other.path().join("secret"), place.path().join("file")).expect("a link");
        write(place.path(), &[one("file", b"new", false)], "{}").expect("the link is replaced");
        assert_eq!(fs::read(other.path().join("secret")).expect("there"), b"s");
    }

    #[test]
    fn more_than_a_bundle_holds_is_refused() {
        let place = scratch();
        fs::write(place.path().join("large"), vec![0; MAX_FILE_BYTES + 1]).expect("written");
        assert!(read(place.path()).expect_err("too large").sentence.contains("bytes"));
        let place = scratch();
        for n in 0..=MAX_FILES {
            fs::write(place.path().join(n.to_string()), "").expect("written");
        }
        assert!(read(place.path()).expect_err("too many").sentence.contains("files"));
    }
}
