//! Decides how a working directory starts as somebody else's: files, directories and links, and nothing else.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, lchown, symlink},
    path::Path,
};

/// Copies what is in `from` into `to`, which exists. `owner` owns the copies, where it can be said.
pub(super) fn tree(from: &Path, to: &Path, owner: Option<u32>) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else if kind.is_dir() {
            fs::create_dir(&target)?;
            tree(&source, &target, owner)?;
            let mode = entry.metadata()?.permissions().mode() & 0o777 | 0o700;
            fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
        } else if kind.is_file() {
            let mut read = fs::File::open(&source)?;
            let mut write = fs::OpenOptions::new().write(true).create_new(true).open(&target)?;
            io::copy(&mut read, &mut write)?;
            let metadata = read.metadata()?;
            // Whoever the copy is for may change it; no bit that changes identity comes along.
            write
                .set_permissions(fs::Permissions::from_mode(metadata.permissions().mode() & 0o777 | 0o600))?;
            // Builds look at ages.
            if let Ok(modified) = metadata.modified() {
                write.set_modified(modified)?;
            }
        } else {
            continue;
        }
        if let Some(owner) = owner {
            lchown(&target, Some(owner), Some(owner))?;
        }
    }
    Ok(())
}
