//! Decides the order in which a sandbox is made: the launcher, a process of its own that stays outside.
//!
//! The launcher has one thread and reads one plan. It makes the namespaces, starts the first process inside them,
//! writes the user mapping for it, and then does one thing: when its input ends, or asks for it, it kills that
//! process, and the kernel every other of the namespace with it.

mod copy;
mod filter;
mod lock;
mod root;
mod supervise;
mod watch;

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::ExitCode,
};

use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    process::{PidfdFlags, Signal, kill_process, pidfd_open},
    thread::CapabilitySet,
};

use crate::{
    Layer,
    plan::{Event, Plan},
    sys,
};

/// The number of the job's user and group inside.
pub(crate) const JOB: u32 = 1000;
/// A privileged launcher maps that to a number that owns nothing on the host: this one and the launcher's own.
const UNUSED: u32 = 0x6000_0000;
/// The longest plan that is read.
const PLAN_BYTES: u64 = 64 << 20;

/// Why the sandbox cannot be made.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) missing: Option<Layer>,
}

impl Failure {
    pub(crate) fn of(what: &str) -> impl FnOnce(io::Error) -> Self {
        let what = what.to_owned();
        move |error| Self { what: format!("{what}: {error}"), missing: None }
    }

    pub(crate) fn lacks(layer: Layer, what: &str) -> impl FnOnce(io::Error) -> Self {
        let what = what.to_owned();
        move |error| Self { what: format!("{what}: {error}"), missing: Some(layer) }
    }
}

/// Who makes the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maker {
    /// One who may make namespaces: nothing of the sandbox then belongs to the job's user namespace.
    Privileged { user: u32 },
    /// Anybody: the sandbox belongs to a user namespace around the job's.
    Ordinary,
}

/// Becomes the sandbox of one job. The program must have one thread, its input must be the plan, and its output
/// the control socket: [`crate::Sandbox`] starts it so.
#[must_use]
pub fn main() -> ExitCode {
    match launch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let Failure { what, missing } = failure;
            tell(&Event::Failed { what, missing }, &[]);
            ExitCode::FAILURE
        }
    }
}

fn launch() -> Result<(), Failure> {
    if rustix::net::sockopt::socket_type(rustix::stdio::stdout()) != Ok(rustix::net::SocketType::SEQPACKET) {
        let what = "this command is started by the sandbox, not by hand".to_owned();
        eprintln!("{what}");
        return Err(Failure { what, missing: None });
    }
    let plan = read_plan().map_err(Failure::of("the plan"))?;
    sys::close_at_exec_from(3).map_err(Failure::of("close_range"))?;
    // Files to join the control groups with, and to leave nothing of them: opened while the host is still seen.
    let mut groups = Vec::new();
    for dir in &plan.cgroup_dirs {
        let file = fs::OpenOptions::new().write(true).open(dir.join("cgroup.procs"));
        groups.push(file.map_err(Failure::of("cgroup.procs"))?);
    }
    let maker = maker();
    if maker == Maker::Ordinary {
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        unshare(CloneFlags::CLONE_NEWUSER)
            .map_err(io::Error::from)
            .map_err(Failure::lacks(Layer::UserNamespace, "a user namespace"))?;
        map_ids("self", (0, user), (0, group))
            .map_err(Failure::lacks(Layer::UserNamespace, "its user mapping"))?;
    }
    let namespaces = [
        (Layer::PidNamespace, CloneFlags::CLONE_NEWPID),
        (Layer::NetNamespace, CloneFlags::CLONE_NEWNET),
        (Layer::IpcNamespace, CloneFlags::CLONE_NEWIPC),
        (Layer::UtsNamespace, CloneFlags::CLONE_NEWUTS),
    ];
    for (layer, flag) in namespaces {
        unshare(flag).map_err(io::Error::from).map_err(Failure::lacks(layer, layer.name()))?;
    }
    let pair = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from);
    let (asks, asked) = pair().map_err(Failure::of("a pipe"))?;
    let (hears, said) = pair().map_err(Failure::of("a pipe"))?;
    let first = {
        let plan = &plan;
        let parts = Some((asked, hears, groups));
        sys::fork(move || {
            let Some((asked, hears, groups)) = parts else { sys::exit_now(70) };
            supervise::first_process(plan, maker, groups, &asked, &hears)
        })
        .map_err(io::Error::from)
        .map_err(Failure::of("the first process"))?
    };
    let watched = watch_over(first, &asks, &said, maker);
    // Whatever happened, the first process ends, and with it every other.
    let _ = nix::sys::signal::kill(first, nix::sys::signal::Signal::SIGKILL);
    let _ = waitpid(first, None::<WaitPidFlag>);
    tell(&Event::Gone, &[]);
    wait_for_the_end_of_input();
    for dir in &plan.cgroup_dirs {
        let _ = fs::remove_dir(dir);
    }
    watched
}

/// Follows the first process until it ends, or until its end is asked for.
fn watch_over(first: Pid, asks: &OwnedFd, said: &OwnedFd, maker: Maker) -> Result<(), Failure> {
    let pid = rustix::process::Pid::from_raw(first.as_raw());
    let Some(pid) = pid else { return Ok(()) };
    let ends =
        pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from).map_err(Failure::of("pidfd_open"))?;
    let mut asking = true;
    loop {
        let input = rustix::stdio::stdin();
        let mut watched =
            vec![PollFd::new(&ends, PollFlags::IN), PollFd::from_borrowed_fd(input, PollFlags::IN)];
        if asking {
            watched.push(PollFd::new(asks, PollFlags::IN));
        }
        match poll(&mut watched, None) {
            Err(Errno::INTR) => continue,
            Err(error) => return Err(Failure::of("poll")(error.into())),
            Ok(_) => {}
        }
        let ready: Vec<_> = watched.iter().map(|one| !one.revents().is_empty()).collect();
        drop(watched);
        if ready[0] {
            return Ok(());
        }
        if ready[1] {
            let mut byte = [0];
            match rustix::io::read(rustix::stdio::stdin(), &mut byte) {
                Ok(1) if byte == *b"g" => {
                    let _ = rustix::io::write(said, b"g");
                }
                Err(Errno::INTR) => {}
                // The end was asked for, or whoever could ask is gone.
                _ => {
                    let _ = kill_process(pid, Signal::KILL);
                    return Ok(());
                }
            }
        }
        if asking && ready[2] {
            let mut byte = [0];
            match rustix::io::read(asks, &mut byte) {
                Ok(1) => {
                    let outer = match maker {
                        Maker::Privileged { user } => user,
                        Maker::Ordinary => 0,
                    };
                    let mapped = map_ids(&first.to_string(), (JOB, outer), (JOB, outer));
                    mapped.map_err(Failure::lacks(Layer::UserNamespace, "the job's user mapping"))?;
                    let _ = rustix::io::write(said, b"m");
                }
                Err(Errno::INTR) => {}
                _ => asking = false,
            }
        }
    }
}

/// Until the other side has read what it wants of the control groups, or is gone.
fn wait_for_the_end_of_input() {
    let mut bytes = [0; 64];
    while matches!(rustix::io::read(rustix::stdio::stdin(), &mut bytes), Ok(1..) | Err(Errno::INTR)) {}
}

fn map_ids(process: &str, user: (u32, u32), group: (u32, u32)) -> io::Result<()> {
    let dir = Path::new("/proc").join(process);
    let write = |file: &str, text: String| {
        // One write: the kernel takes a map only whole.
        fs::OpenOptions::new().write(true).open(dir.join(file))?.write_all(text.as_bytes())
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("{} {} 1", user.0, user.1))?;
    write("gid_map", format!("{} {} 1", group.0, group.1))
}

/// Privileged is who may make namespaces, files for others, and become others.
fn maker() -> Maker {
    let wanted = CapabilitySet::SYS_ADMIN
        | CapabilitySet::SETUID
        | CapabilitySet::SETGID
        | CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::SYS_CHROOT;
    match rustix::thread::capabilities(None) {
        Ok(have) if have.effective.contains(wanted) => {
            Maker::Privileged { user: UNUSED + (std::process::id() & 0x0fff_ffff) }
        }
        _ => Maker::Ordinary,
    }
}

fn read_plan() -> io::Result<Plan> {
    // Not through a buffer: what follows the plan is read elsewhere.
    let mut input = File::from(rustix::stdio::stdin().try_clone_to_owned()?);
    let mut length = [0; 8];
    input.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > PLAN_BYTES {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut text = Vec::new();
    input.take(length).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::from)
}

/// Says something to the program that runs the job. Nobody listening is no error: the end comes by itself.
pub(crate) fn tell(event: &Event, fds: &[std::os::fd::BorrowedFd<'_>]) {
    let Ok(text) = serde_json::to_vec(event) else { return };
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    let parts = [io::IoSlice::new(&text)];
    while matches!(
        sendmsg(rustix::stdio::stdout().as_fd(), &parts, &mut ancillary, SendFlags::NOSIGNAL),
        Err(Errno::INTR)
    ) {}
}
