//! Decides what the first process of a sandbox does: makes it, locks itself in, and runs one command after another.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    os::unix::process::CommandExt,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        resource::{UsageWho, getrusage},
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, setsid},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Failure, Maker, lock, root, tell, watch};
use crate::{
    Command, Layer, Program,
    plan::{EndedBy, Event, Plan},
    sys,
};

/// How often memory is counted where no control group does, and how often the dead are buried otherwise.
const LOOK: Duration = Duration::from_millis(25);
const BURY: Duration = Duration::from_millis(200);

/// Never returns: its end is the end of the sandbox.
pub(super) fn first_process(plan: &Plan, maker: Maker, groups: Vec<File>, ask: &OwnedFd, hear: &OwnedFd) {
    match make(plan, maker, groups, ask, hear) {
        Ok(has_proc) => run_all(plan, has_proc),
        Err(Failure { what, missing }) => tell(&Event::Failed { what, missing }, &[]),
    }
    sys::exit_now(0)
}

fn make(
    plan: &Plan,
    maker: Maker,
    groups: Vec<File>,
    ask: &OwnedFd,
    hear: &OwnedFd,
) -> Result<bool, Failure> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(io::Error::from)
        .map_err(Failure::of("prctl"))?;
    for mut group in groups {
        group.write_all(b"0").map_err(Failure::of("joining a control group"))?;
    }
    // Hides where in the host's hierarchies that is; not every kernel can.
    let _ = unshare(CloneFlags::CLONE_NEWCGROUP);
    let lacks =
        |what: &'static str| move |error: Errno| Failure::lacks(Layer::MountNamespace, what)(error.into());
    unshare(CloneFlags::CLONE_NEWNS).map_err(lacks("a mount namespace"))?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(lacks("private mounts"))?;
    lock::first(plan)?;
    let made = root::enter(plan, maker)?;
    if let (Some(why), false) = (&made.no_proc, plan.cgroups.has(Layer::CgroupMemory)) {
        return Err(Failure {
            what: format!("memory can be counted neither by a control group nor by looking ({why})"),
            missing: Some(Layer::CgroupMemory),
        });
    }
    lock::identity(maker, ask, hear)?;
    let has_proc = made.no_proc.is_none();
    let lock::Locked { layers, missing, landlock_abi } = lock::down(plan, has_proc)?;
    tell(&Event::Ready { layers, missing, landlock_abi }, &[made.work.as_fd()]);
    // Not before the other side agrees with what stands.
    lock::hear_one(hear).map_err(Failure::of("the launcher"))?;
    Ok(has_proc)
}

fn run_all(plan: &Plan, has_proc: bool) {
    let mut peak = 0;
    let mut stopped = false;
    for (index, command) in plan.commands.iter().enumerate() {
        let Some(exit) = run_one(plan, index, command, has_proc, &mut peak) else { return };
        if !matches!(exit, EndedBy::Code(0)) && !command.continue_on_fail && index + 1 < plan.commands.len() {
            stopped = true;
            break;
        }
    }
    let cpu = getrusage(UsageWho::RUSAGE_CHILDREN).map_or(Duration::ZERO, |used| {
        let spent = |time: nix::sys::time::TimeVal| {
            Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or(0))
                + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
        };
        spent(used.user_time()) + spent(used.system_time())
    });
    tell(&Event::Done { stopped, cpu, memory_peak_bytes: peak }, &[]);
}

/// Nothing when the job is at its end.
fn run_one(plan: &Plan, index: usize, command: &Command, has_proc: bool, peak: &mut u64) -> Option<EndedBy> {
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).ok();
    let (out_read, out) = pipe()?;
    let (err_read, err) = pipe()?;
    let (status_read, status) = pipe()?;
    tell(&Event::Started { index }, &[out_read.as_fd(), err_read.as_fd()]);
    drop((out_read, err_read));
    let begun = Instant::now();
    let mut parts = Some((out, err, status));
    let started = {
        let parts = parts.take();
        sys::fork(move || {
            let Some((out, err, status)) = parts else { sys::exit_now(127) };
            become_command(plan, command, out, err, status)
        })
    };
    let exit = match started {
        Ok(child) => {
            let exit = wait_for(plan, child, has_proc, peak);
            // A command ends when its process does: what it left behind ends with it, before the next begins.
            end_all();
            exit?
        }
        Err(error) => EndedBy::NotStarted(error.desc().to_owned()),
    };
    let mut why = String::new();
    let _ = File::from(status_read).take(1000).read_to_string(&mut why);
    let exit = if why.is_empty() { exit } else { EndedBy::NotStarted(why) };
    tell(&Event::Ended { index, exit: exit.clone(), wall: begun.elapsed() }, &[]);
    Some(exit)
}

/// In the new process: becomes the command, or says why not.
fn become_command(plan: &Plan, command: &Command, out: OwnedFd, err: OwnedFd, status: OwnedFd) {
    let _ = setsid();
    let mut program = match &command.program {
        Program::Shell(line) => {
            let mut shell = std::process::Command::new("/bin/sh");
            shell.arg("-c").arg(line);
            shell
        }
        Program::Argv(words) => {
            let (first, rest) =
                words.split_first().map_or(("", [].as_slice()), |(first, rest)| (first, rest));
            let mut program = std::process::Command::new(first);
            program.args(rest);
            program
        }
    };
    let dir = match &command.workdir {
        Some(inside) => plan.work_at.join(inside),
        None => plan.work_at.clone(),
    };
    // Where a command starts is the job's own doing, as if its first word were `cd`: it fails as that would.
    if let Err(error) = enter(&plan.work_at, &dir) {
        let _ = rustix::io::write(&err, format!("{}: {error}\n", dir.display()).as_bytes());
        sys::exit_now(127)
    }
    program.env_clear().envs(&plan.env);
    program.stdin(Stdio::null()).stdout(out).stderr(err);
    let _ = sys::close_at_exec_from(3);
    let error = program.exec();
    let _ = rustix::io::write(&status, error.to_string().as_bytes());
    sys::exit_now(127)
}

/// A link may have been put in the way by an earlier command; it leads nowhere else.
fn enter(work: &Path, dir: &Path) -> io::Result<()> {
    let real = dir.canonicalize()?;
    match real.starts_with(work.canonicalize()?) {
        true => std::env::set_current_dir(real),
        false => Err(io::Error::other("its directory is not in the working directory")),
    }
}

/// Buries whoever dies until the command does. Nothing when memory ran out.
fn wait_for(plan: &Plan, child: Pid, has_proc: bool, peak: &mut u64) -> Option<EndedBy> {
    let ends = rustix::process::Pid::from_raw(child.as_raw())
        .and_then(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok());
    let watches = has_proc && !plan.cgroups.has(Layer::CgroupMemory);
    let mut over = 0;
    loop {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == child => return Some(EndedBy::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                    return Some(EndedBy::Signal(signal as i32));
                }
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(_) => {}
            }
        }
        if watches {
            let held = watch::held();
            *peak = (*peak).max(held);
            // Twice: a process that is just being made counts what it shares with its parent a second time.
            over = if held > plan.limits.memory_bytes { over + 1 } else { 0 };
            if over == 2 {
                tell(&Event::OutOfMemory, &[]);
                end_all();
                return None;
            }
        }
        let pause = if watches { LOOK } else { BURY };
        let pause = Timespec::try_from(pause).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 25_000_000 });
        let mut watched: Vec<_> = ends.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        let _ = poll(&mut watched, Some(&pause));
    }
}

/// Ends every other process of this namespace, and buries it.
fn end_all() {
    loop {
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        if waitpid(None, None::<WaitPidFlag>) == Err(Errno::ECHILD) {
            return;
        }
    }
}
