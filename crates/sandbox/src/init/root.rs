//! Decides what a job sees: a root of its own, made of what it is shown, one bounded writable area, and little else.

use std::{
    ffi::{CString, OsString},
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{Mode, OFlags};

use super::{Failure, JOB, Maker, copy};
use crate::{
    Layer,
    plan::Plan,
    sys::{self, NO_DEV, NO_EXEC, NO_SUID, READ_ONLY},
};

/// Where the new root is put together. Only this process sees it there, and only until it is the root.
const BENCH: &str = "/tmp";
/// The writable area while its parts are put in place.
const AREA: &str = ".area";
const DEVICES: [&str; 5] = ["null", "full", "random", "urandom", "zero"];
/// Files of the process file system that speak of the whole machine.
const HIDDEN: [&str; 7] =
    ["kcore", "keys", "key-users", "kmsg", "sysrq-trigger", "timer_list", "sched_debug"];

pub(super) struct Made {
    pub(super) work: OwnedFd,
    /// Why there is no process file system, where there is none.
    pub(super) no_proc: Option<String>,
}

/// Makes the root and enters it.
pub(super) fn enter(plan: &Plan, maker: Maker) -> Result<Made, Failure> {
    let bench = Path::new(BENCH);
    // Everything is opened before the bench hides what lies under it.
    let mut shown = Vec::new();
    for (host, at) in &plan.visible {
        let real = host.canonicalize().and_then(|real| Ok((open(&real)?, real.is_dir())));
        let (fd, is_dir) = real.map_err(Failure::of(&format!("to show {}", host.display())))?;
        shown.push((at.clone(), fd, is_dir));
    }
    // Outer paths first, so that an inner one has a place to stand.
    shown.sort_by_key(|(at, ..)| at.components().count());
    let work_from = match &plan.work_from {
        Some(from) => Some(open(from).map_err(Failure::of(&format!("the content {}", from.display())))?),
        None => None,
    };
    let devices: Vec<_> = DEVICES
        .into_iter()
        // Memory shared through it belongs to no process: where the watchdog counts, it would go uncounted.
        .filter(|name| *name != "zero" || plan.cgroups.has(Layer::CgroupMemory))
        .filter_map(|name| Some((name, open(&Path::new("/dev").join(name)).ok()?)))
        .collect();

    let place = |at: &Path| bench.join(at.strip_prefix("/").unwrap_or(at));
    tmpfs(bench, "mode=0755,size=4m,nr_inodes=8192")?;
    for dir in ["dev", "etc", "home/job", "proc", "tmp", "dev/shm", AREA] {
        make_dir(&bench.join(dir))?;
    }
    names(bench).map_err(Failure::of("the names of users and hosts"))?;
    for (at, fd, is_dir) in &shown {
        let target = place(at);
        if *is_dir {
            make_dir(&target)?
        } else {
            make_file(&target)?
        }
        bind(fd, &target, true)?;
        attributes(&target, READ_ONLY | NO_SUID | NO_DEV, true)?;
    }
    for (name, fd) in &devices {
        let target = bench.join("dev").join(name);
        make_file(&target)?;
        bind(fd, &target, false)?;
        attributes(&target, READ_ONLY | NO_SUID | NO_EXEC, false)?;
    }
    for (name, to) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        symlink(to, bench.join("dev").join(name)).map_err(Failure::of("/dev"))?;
    }
    writable_area(plan, maker, bench, &place(&plan.work_at), work_from.as_ref())?;
    let no_proc = process_files(&bench.join("proc"))?;
    // What the job is shown and what it may write are mounts of their own: this changes the bare root only.
    attributes(bench, READ_ONLY | NO_SUID | NO_DEV, false)?;

    std::env::set_current_dir(bench).map_err(Failure::of("the new root"))?;
    let lacks = |error: nix::Error| Failure::lacks(Layer::ReadOnlyRoot, "pivot_root")(error.into());
    nix::unistd::pivot_root(".", ".").map_err(lacks)?;
    umount2(".", MntFlags::MNT_DETACH).map_err(lacks)?;
    std::env::set_current_dir("/").map_err(Failure::of("the new root"))?;
    let work =
        rustix::fs::open(&plan.work_at, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY, Mode::empty());
    Ok(Made { work: work.map_err(io::Error::from).map_err(Failure::of("the working directory"))?, no_proc })
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

fn tmpfs(at: &Path, options: &str) -> Result<(), Failure> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options))
        .map_err(io::Error::from)
        .map_err(Failure::lacks(Layer::MountNamespace, &format!("a file system at {}", at.display())))
}

/// The one place that a job writes to: its working directory, `/tmp`, `/dev/shm` and its home share one bound.
fn writable_area(
    plan: &Plan,
    maker: Maker,
    bench: &Path,
    work: &Path,
    work_from: Option<&OwnedFd>,
) -> Result<(), Failure> {
    let area = bench.join(AREA);
    let limits = &plan.limits;
    tmpfs(&area, &format!("mode=0755,size={},nr_inodes={}", limits.disk_bytes, limits.files))?;
    let owner = match maker {
        Maker::Privileged { user } => Some(user),
        Maker::Ordinary => None,
    };
    make_dir(work)?;
    for (name, target, mode) in [
        ("work", work.to_owned(), 0o755),
        ("tmp", bench.join("tmp"), 0o1777),
        ("shm", bench.join("dev/shm"), 0o1777),
        ("home", bench.join("home/job"), 0o755),
    ] {
        let dir = area.join(name);
        make_dir(&dir)?;
        if let ("work", Some(from)) = (name, work_from) {
            copy::tree(&through(from), &dir, owner).map_err(|error| Failure {
                what: match error.raw_os_error() {
                    Some(libc::ENOSPC) => {
                        "the working directory does not fit the limits on disk and files".to_owned()
                    }
                    _ => format!("the working directory: {error}"),
                },
                missing: None,
            })?;
        }
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).map_err(Failure::of(name))?;
        chown(&dir, owner, owner).map_err(Failure::of(name))?;
        bind(&open(&dir).map_err(Failure::of(name))?, &target, false)?;
    }
    umount2(&area, MntFlags::MNT_DETACH)
        .map_err(io::Error::from)
        .map_err(Failure::of("the writable area"))?;
    fs::remove_dir(&area).map_err(Failure::of("the writable area"))
}

/// The processes of the job, read-only. A host whose own is partly covered gives none: jobs then do without.
fn process_files(at: &Path) -> Result<Option<String>, Failure> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if let Err(error) = mount(Some("proc"), at, Some("proc"), flags, None::<&str>) {
        return Ok(Some(format!("no process file system: {}", io::Error::from(error))));
    }
    for name in HIDDEN {
        let file = at.join(name);
        if file.exists() {
            let null = open(Path::new(BENCH).join("dev/null").as_path()).map_err(Failure::of("/dev/null"))?;
            bind(&null, &file, false)?;
        }
    }
    attributes(at, READ_ONLY | NO_SUID | NO_EXEC, true)?;
    Ok(None)
}

/// Enough that programs find out who they are and where `localhost` is.
fn names(bench: &Path) -> io::Result<()> {
    let etc = bench.join("etc");
    for (file, text) in [
        ("passwd", format!("job:x:{JOB}:{JOB}:job:/home/job:/bin/sh\n")),
        ("group", format!("job:x:{JOB}:\n")),
        ("hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n".to_owned()),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n".to_owned()),
    ] {
        fs::write(etc.join(file), text)?;
    }
    Ok(())
}

fn make_dir(path: &Path) -> Result<(), Failure> {
    let mut at = PathBuf::new();
    for part in path.components() {
        at.push(part);
        match fs::create_dir(&at) {
            Ok(()) => {
                // Whatever mask the launcher was started with.
                fs::set_permissions(&at, fs::Permissions::from_mode(0o755))
                    .map_err(Failure::of("a directory"))?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) if at.is_dir() => {}
            Err(error) => return Err(Failure::of(&format!("a place for {}", shown_as(path)))(error)),
        }
    }
    Ok(())
}

fn make_file(path: &Path) -> Result<(), Failure> {
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    if path.exists() {
        return Ok(());
    }
    fs::write(path, "").map_err(Failure::of(&format!("a place for {}", shown_as(path))))
}

/// As the job would call it.
fn shown_as(path: &Path) -> String {
    Path::new("/").join(path.strip_prefix(BENCH).unwrap_or(path)).display().to_string()
}

/// The way to something that is held open, whatever hides its name by now.
fn through(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn bind(from: &OwnedFd, to: &Path, deep: bool) -> Result<(), Failure> {
    let flags = if deep { MsFlags::MS_BIND | MsFlags::MS_REC } else { MsFlags::MS_BIND };
    mount(Some(&through(from)), to, None::<&str>, flags, None::<&str>)
        .map_err(io::Error::from)
        .map_err(Failure::of(&format!("to show {}", shown_as(to))))
}

fn attributes(path: &Path, attributes: u64, deep: bool) -> Result<(), Failure> {
    let name =
        CString::new(OsString::from(path).as_bytes()).map_err(|error| Failure::of("a path")(error.into()))?;
    sys::mount_attributes(&name, attributes, deep)
        .map_err(Failure::lacks(Layer::ReadOnlyRoot, &format!("to protect {}", shown_as(path))))
}
