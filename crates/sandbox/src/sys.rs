//! The few system calls for which no safe wrapper exists: fork, recursive mount attributes, descriptors at exec.
//!
//! Every `unsafe` of this crate is in this file.

use std::{ffi::CStr, io, os::fd::RawFd};

use nix::unistd::Pid;

/// Runs `child` in a new process and returns its number; which ends with `child`.
///
/// Only for a process with one thread: the launcher makes sure of that by being a program of its own.
#[allow(unsafe_code)]
pub(crate) fn fork(child: impl FnOnce()) -> nix::Result<Pid> {
    debug_assert_eq!(threads(), 1);
    // SAFETY: fork is dangerous where another thread may hold a lock (of the allocator, say) at that moment. This
    // process has one thread, so that the child finds every lock as its own program order left it.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(child),
        nix::unistd::ForkResult::Child => {
            child();
            exit_now(70)
        }
    }
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// Ends this process at once: no destructor of the parent's copies runs, nothing that it buffered is written twice.
#[allow(unsafe_code)]
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// As `struct mount_attr` of the kernel.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

pub(crate) const READ_ONLY: u64 = 1;
pub(crate) const NO_SUID: u64 = 2;
pub(crate) const NO_DEV: u64 = 4;
pub(crate) const NO_EXEC: u64 = 8;

/// Adds attributes to the mount at `path`, and to all below it when `deep`.
#[allow(unsafe_code)]
pub(crate) fn mount_attributes(path: &CStr, attributes: u64, deep: bool) -> io::Result<()> {
    let attr = MountAttr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = if deep { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path ends in a zero byte and both pointers are good for the length of the call, which keeps none;
    // the structure has the layout and the size that are named.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Every descriptor from `first` on closes when a program is executed.
#[allow(unsafe_code)]
pub(crate) fn close_at_exec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: three numbers; nothing is closed now, so that no owner of a descriptor is deceived.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The version of Landlock that this kernel speaks; 0 where it is absent or turned off.
#[allow(unsafe_code)]
pub(crate) fn landlock_abi() -> u32 {
    const VERSION: u32 = 1;
    // SAFETY: with a null attribute of size 0 and this flag, the call only answers a number.
    let answer = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0usize, VERSION)
    };
    u32::try_from(answer).unwrap_or(0)
}
