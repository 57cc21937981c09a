//! Decides how the sandbox's first process gives everything up, before anything of the job runs.

use std::{collections::BTreeMap, fs, io, os::fd::OwnedFd, path::Path};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::{
    sched::{CloneFlags, unshare},
    sys::resource::{Resource, setrlimit},
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};
use rustix::{
    process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal},
    thread::{
        CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
        set_capabilities, set_no_new_privs,
    },
};

use super::{Failure, JOB, Maker, filter};
use crate::{Layer, Layers, Network, plan::Plan, sys};

/// What was given up for good.
pub(super) struct Locked {
    pub(super) layers: Layers,
    pub(super) missing: BTreeMap<Layer, String>,
    pub(super) landlock_abi: u32,
}

/// Before the root of the host is left.
pub(super) fn first(plan: &Plan) -> Result<(), Failure> {
    // Where memory ends, the host ends the job before anything of its own.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    nix::unistd::sethostname("sandbox").map_err(io::Error::from).map_err(Failure::of("the host name"))?;
    if plan.network == Network::Loopback {
        loopback().map_err(Failure::of("the loopback"))?;
    }
    Ok(())
}

/// Into a user namespace that owns nothing, as a user that owns nothing.
pub(super) fn identity(maker: Maker, ask: &OwnedFd, hear: &OwnedFd) -> Result<(), Failure> {
    if let Maker::Privileged { .. } = maker {
        setgroups(&[]).map_err(io::Error::from).map_err(Failure::of("setgroups"))?;
    }
    // With a mount namespace that belongs to it: every mount is locked there, even for who owns that namespace.
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(io::Error::from)
        .map_err(Failure::lacks(Layer::UserNamespace, "the job's user namespace"))?;
    rustix::io::write(ask, b"m").map_err(io::Error::from).map_err(Failure::of("the launcher"))?;
    hear_one(hear).map_err(Failure::of("the launcher"))?;
    let (user, group) = (Uid::from_raw(JOB), Gid::from_raw(JOB));
    setresgid(group, group, group).map_err(io::Error::from).map_err(Failure::of("setresgid"))?;
    setresuid(user, user, user).map_err(io::Error::from).map_err(Failure::of("setresuid"))?;
    // A change of user took both back.
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(io::Error::from)
        .map_err(Failure::of("prctl"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(io::Error::from)
        .map_err(Failure::of("set_dumpable"))
}

/// Reads one byte.
pub(super) fn hear_one(hear: &OwnedFd) -> io::Result<()> {
    let mut byte = [0];
    loop {
        match rustix::io::read(hear, &mut byte) {
            Ok(1) => return Ok(()),
            Ok(_) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The rest: limits, capabilities, files, system calls. From here on this process can do what a job can.
pub(super) fn down(plan: &Plan, has_proc: bool) -> Result<Locked, Failure> {
    limits(plan)?;
    let mut layers: Layers = plan.cgroups.iter().collect();
    let mut missing = BTreeMap::new();
    let gone = |what: &'static str| {
        move |error: rustix::io::Errno| Failure::lacks(Layer::NoCapabilities, what)(error.into())
    };
    for capability in CapabilitySet::all().iter() {
        match remove_capability_from_bounding_set(capability) {
            // A kernel older than this list does not know its last ones.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(gone("the bounding set")(error)),
        }
    }
    clear_ambient_capability_set().map_err(gone("the ambient set"))?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).map_err(gone("capset"))?;
    set_no_new_privs(true)
        .map_err(io::Error::from)
        .map_err(Failure::lacks(Layer::NoNewPrivileges, "no_new_privs"))?;
    let landlock_abi = match landlock(plan, has_proc) {
        Ok(abi) => {
            layers = layers.with(Layer::Landlock);
            abi
        }
        Err(why) if plan.minimum.has(Layer::Landlock) => {
            return Err(Failure { what: why, missing: Some(Layer::Landlock) });
        }
        Err(why) => {
            missing.insert(Layer::Landlock, why);
            0
        }
    };
    filter::apply(plan).map_err(|what| Failure { what, missing: Some(Layer::Seccomp) })?;
    // All of the core stands, or this line is not reached.
    layers = layers.iter().chain(Layers::core().iter()).collect();
    Ok(Locked { layers, missing, landlock_abi })
}

fn limits(plan: &Plan) -> Result<(), Failure> {
    let limits = &plan.limits;
    let counted = plan.cgroups.has(Layer::CgroupMemory);
    let mut all = vec![
        // This process, which is the same user, is one of them.
        (Resource::RLIMIT_NPROC, limits.processes.saturating_add(1)),
        (Resource::RLIMIT_NOFILE, limits.open_files.max(16)),
        (Resource::RLIMIT_FSIZE, limits.disk_bytes),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_MEMLOCK, 64 << 10),
        (Resource::RLIMIT_MSGQUEUE, 64 << 10),
        (Resource::RLIMIT_SIGPENDING, 1024),
        (Resource::RLIMIT_RTPRIO, 0),
        (Resource::RLIMIT_NICE, 0),
    ];
    if !counted {
        // No single process gets more between two looks of the watchdog.
        all.push((Resource::RLIMIT_DATA, limits.memory_bytes));
    }
    for (resource, value) in all {
        let set = setrlimit(resource, value, value).or_else(|_| {
            // The launcher itself may have been given less; that then holds.
            let (_, hard) = nix::sys::resource::getrlimit(resource)?;
            setrlimit(resource, value.min(hard), value.min(hard))
        });
        set.map_err(io::Error::from).map_err(Failure::of(&format!("{resource:?}")))?;
    }
    if !plan.cgroups.has(Layer::CgroupCpu) {
        processors(limits.cpus).map_err(Failure::of("the processors"))?;
    }
    Ok(())
}

/// As many processors as the job may use, and which ones differs from job to job.
fn processors(cpus: f64) -> io::Result<()> {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    let this = nix::unistd::Pid::from_raw(0);
    let have = sched_getaffinity(this)?;
    let usable: Vec<_> = (0..CpuSet::count()).filter(|cpu| have.is_set(*cpu).unwrap_or(false)).collect();
    let first = nix::unistd::getppid().as_raw().unsigned_abs() as usize;
    let mut set = CpuSet::new();
    let mut wanted = cpus.ceil();
    for place in 0..usable.len() {
        if wanted < 1.0 {
            break;
        }
        wanted -= 1.0;
        set.set(usable[(first + place) % usable.len()])?;
    }
    sched_setaffinity(this, &set)?;
    Ok(())
}

/// Reading and executing where something is shown, writing in the job's own places, and nothing else.
fn landlock(plan: &Plan, has_proc: bool) -> Result<u32, String> {
    let known = sys::landlock_abi();
    let abi = match known {
        0 => return Err("this kernel has no Landlock, or has it turned off".to_owned()),
        1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        _ => ABI::V6,
    };
    let read = AccessFs::from_read(abi);
    let wrong = |error: &dyn std::fmt::Display| format!("Landlock: {error}");
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))
        .map_err(|error| wrong(&error))?;
    if plan.network == Network::None && known >= 4 {
        ruleset = ruleset.handle_access(AccessNet::from_all(abi)).map_err(|error| wrong(&error))?;
    }
    if known >= 6 {
        ruleset = ruleset.scope(Scope::from_all(abi)).map_err(|error| wrong(&error))?;
    }
    let mut ruleset = ruleset.create().map_err(|error| wrong(&error))?;
    let mut places: Vec<(&Path, landlock::BitFlags<AccessFs>)> =
        // The names of the root may be listed; everything else in it has a line of its own.
        vec![
            (Path::new("/"), AccessFs::ReadDir.into()),
            (Path::new("/etc"), read),
            (Path::new("/dev"), read | AccessFs::WriteFile),
        ];
    if has_proc {
        places.push((Path::new("/proc"), read));
    }
    places.extend(plan.visible.iter().map(|(_, at)| (at.as_path(), read)));
    for path in [Path::new("/tmp"), Path::new("/dev/shm"), Path::new("/home/job"), plan.work_at.as_path()] {
        // No device nodes: they could not be used, and need not be.
        places.push((
            path,
            AccessFs::from_all(abi) & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev),
        ));
    }
    for (path, mut access) in places {
        let fd = PathFd::new(path).map_err(|error| wrong(&error))?;
        if !path.is_dir() {
            access &= AccessFs::from_file(abi);
        }
        ruleset = ruleset.add_rule(PathBeneath::new(fd, access)).map_err(|error| wrong(&error))?;
    }
    let status = ruleset.restrict_self().map_err(|error| wrong(&error))?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(known),
        other => Err(format!("Landlock: {other:?}")),
    }
}

/// Turns the loopback of the own network namespace on, by a message to the kernel.
fn loopback() -> io::Result<()> {
    use nix::sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
    };
    use std::os::fd::AsRawFd;

    const NEW_LINK: u16 = 16;
    const REQUEST_AND_ACK: u16 = 1 | 4;
    const UP: u32 = 1;
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    // nlmsghdr, then ifinfomsg: interface 1 is the loopback of every namespace.
    let mut message = Vec::new();
    message.extend(32_u32.to_ne_bytes());
    message.extend(NEW_LINK.to_ne_bytes());
    message.extend(REQUEST_AND_ACK.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend([0; 4]);
    message.extend(1_i32.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    sendto(socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0; 256];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // nlmsgerr: the error stands after the header.
    match answer.get(16..20).filter(|_| length >= 20).and_then(|bytes| bytes.try_into().ok()) {
        Some(code) => match i32::from_ne_bytes(code) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        },
        None => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}
