//! Decides which system calls a job may make.
//!
//! Two filters, both checked by the kernel at each call. The first is a list of what is allowed; anything else does
//! not exist (`ENOSYS`), which is what programs expect of a kernel that is older than they are. The second forbids
//! by name (`EPERM`) what would be a way out if it were there, so that a refusal looks like one.

use std::collections::BTreeMap;

use libc::*;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition as Condition,
    SeccompFilter, SeccompRule as Rule,
};

use crate::{Layer, plan::Plan};

pub(super) fn apply(plan: &Plan) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| format!("system call filter: {error}");
    let allow = SeccompFilter::new(
        allowed(plan).map_err(|error| text(&error))?,
        SeccompAction::Errno(ENOSYS as u32),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into().map_err(|error| text(&error))?,
    );
    let forbid = SeccompFilter::new(
        forbidden().into_iter().map(|call| (call, Vec::new())).collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(EPERM as u32),
        std::env::consts::ARCH.try_into().map_err(|error| text(&error))?,
    );
    // Of two refusals the younger filter's is given: the one that knows the call by name.
    for filter in [allow, forbid] {
        let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(|error| text(&error))?;
        seccompiler::apply_filter(&program).map_err(|error| text(&error))?;
    }
    Ok(())
}

type Rules = BTreeMap<i64, Vec<Rule>>;

fn allowed(plan: &Plan) -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = EVERYWHERE.iter().map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend(OLDER.iter().map(|call| (*call, Vec::new())));

    // New processes and threads, in no new namespace. clone3 hides its flags from a filter: it does not exist
    // here, and the C library then uses clone.
    let namespaces = (CLONE_NEWNS
        | CLONE_NEWUSER
        | CLONE_NEWPID
        | CLONE_NEWNET
        | CLONE_NEWIPC
        | CLONE_NEWUTS
        | CLONE_NEWCGROUP) as u64;
    rules.insert(SYS_clone, vec![all(&[(0, Len::Qword, Op::MaskedEq(namespaces), 0)])?]);

    // Sockets among the job's own, or on its own loopback. The other families reach the kernel, the hardware, or
    // the machine around this one.
    const KIND: u64 = 0xf;
    let mut sockets = Vec::new();
    for (family, kinds) in [
        (AF_UNIX, &[SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET][..]),
        (AF_INET, &[SOCK_STREAM, SOCK_DGRAM][..]),
        (AF_INET6, &[SOCK_STREAM, SOCK_DGRAM][..]),
    ] {
        for kind in kinds {
            sockets.push(all(&[
                (0, Len::Dword, Op::Eq, family as u64),
                (1, Len::Dword, Op::MaskedEq(KIND), *kind as u64),
            ])?);
        }
    }
    rules.insert(SYS_socket, sockets);
    rules.insert(SYS_socketpair, vec![all(&[(0, Len::Dword, Op::Eq, AF_UNIX as u64)])?]);

    // Everything but typing into a terminal for somebody else.
    rules.insert(
        SYS_ioctl,
        vec![all(&[(1, Len::Dword, Op::Ne, TIOCSTI), (1, Len::Dword, Op::Ne, TIOCLINUX)])?],
    );
    // Asking what it is, and asking for what it is.
    rules.insert(
        SYS_personality,
        vec![all(&[(0, Len::Dword, Op::Eq, 0)])?, all(&[(0, Len::Dword, Op::Eq, 0xffff_ffff)])?],
    );
    // Files and pipes and sockets; no devices.
    let kinds = |place: u8| -> Result<Vec<Rule>, seccompiler::BackendError> {
        [0, S_IFREG, S_IFIFO, S_IFSOCK]
            .into_iter()
            .map(|kind| all(&[(place, Len::Dword, Op::MaskedEq(u64::from(S_IFMT)), u64::from(kind))]))
            .collect()
    };
    rules.insert(SYS_mknodat, kinds(2)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(SYS_mknod, kinds(1)?);

    if plan.cgroups.has(Layer::CgroupMemory) {
        for call in [SYS_memfd_create, SYS_shmget, SYS_shmat, SYS_shmdt, SYS_shmctl] {
            rules.insert(call, Vec::new());
        }
        rules.insert(SYS_mmap, Vec::new());
    } else {
        // Shared memory without a file stays although no process holds it, and would escape who counts processes.
        let private = (MAP_PRIVATE | MAP_ANONYMOUS) as u64;
        let kind = (MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS) as u64;
        rules.insert(
            SYS_mmap,
            vec![
                all(&[(3, Len::Dword, Op::MaskedEq(kind), private)])?,
                all(&[(3, Len::Dword, Op::MaskedEq(MAP_ANONYMOUS as u64), 0)])?,
            ],
        );
    }
    // What one affinity is for, where it stands for a share of time.
    if plan.cgroups.has(Layer::CgroupCpu) {
        rules.insert(SYS_sched_setaffinity, Vec::new());
    }
    Ok(rules)
}

fn all(conditions: &[(u8, Len, Op, u64)]) -> Result<Rule, seccompiler::BackendError> {
    let conditions: Result<Vec<_>, _> = conditions
        .iter()
        .map(|(place, length, op, value)| Condition::new(*place, length.clone(), op.clone(), *value))
        .collect();
    Rule::new(conditions?)
}

/// Ways out, by name.
fn forbidden() -> Vec<i64> {
    #[allow(unused_mut)]
    let mut calls = vec![
        SYS_acct,
        SYS_add_key,
        SYS_adjtimex,
        SYS_bpf,
        SYS_chroot,
        SYS_clock_adjtime,
        SYS_clock_settime,
        SYS_delete_module,
        SYS_fanotify_init,
        SYS_fanotify_mark,
        SYS_finit_module,
        SYS_fsconfig,
        SYS_fsmount,
        SYS_fsopen,
        SYS_fspick,
        SYS_init_module,
        SYS_io_uring_enter,
        SYS_io_uring_register,
        SYS_io_uring_setup,
        SYS_kcmp,
        SYS_kexec_load,
        SYS_keyctl,
        SYS_lookup_dcookie,
        SYS_mount,
        SYS_mount_setattr,
        SYS_move_mount,
        SYS_name_to_handle_at,
        SYS_open_by_handle_at,
        SYS_open_tree,
        SYS_perf_event_open,
        SYS_pidfd_getfd,
        SYS_pivot_root,
        SYS_process_madvise,
        SYS_process_vm_readv,
        SYS_process_vm_writev,
        SYS_ptrace,
        SYS_quotactl,
        SYS_quotactl_fd,
        SYS_reboot,
        SYS_request_key,
        SYS_setdomainname,
        SYS_sethostname,
        SYS_setns,
        SYS_settimeofday,
        SYS_swapoff,
        SYS_swapon,
        SYS_syslog,
        SYS_umount2,
        SYS_unshare,
        SYS_userfaultfd,
        SYS_vhangup,
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([
        SYS_iopl,
        SYS_ioperm,
        SYS_kexec_file_load,
        SYS_modify_ldt,
        SYS_uselib,
        SYS_ustat,
        SYS_sysfs,
    ]);
    calls
}

/// What programs are made of.
const EVERYWHERE: &[i64] = &[
    SYS_accept,
    SYS_accept4,
    SYS_bind,
    SYS_brk,
    SYS_capget,
    SYS_chdir,
    SYS_clock_getres,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_close,
    SYS_close_range,
    SYS_connect,
    SYS_copy_file_range,
    SYS_dup,
    SYS_dup3,
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_epoll_pwait2,
    SYS_eventfd2,
    SYS_execve,
    SYS_execveat,
    SYS_exit,
    SYS_exit_group,
    SYS_faccessat,
    SYS_faccessat2,
    SYS_fadvise64,
    SYS_fallocate,
    SYS_fchdir,
    SYS_fchmod,
    SYS_fchmodat,
    SYS_fchown,
    SYS_fchownat,
    SYS_fcntl,
    SYS_fdatasync,
    SYS_fgetxattr,
    SYS_flistxattr,
    SYS_flock,
    SYS_fremovexattr,
    SYS_fsetxattr,
    SYS_fstat,
    SYS_fstatfs,
    SYS_fsync,
    SYS_ftruncate,
    SYS_futex,
    SYS_futex_waitv,
    SYS_get_mempolicy,
    SYS_get_robust_list,
    SYS_getcpu,
    SYS_getcwd,
    SYS_getdents64,
    SYS_getegid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getgroups,
    SYS_getitimer,
    SYS_getpeername,
    SYS_getpgid,
    SYS_getpid,
    SYS_getppid,
    SYS_getpriority,
    SYS_getrandom,
    SYS_getresgid,
    SYS_getresuid,
    SYS_getrlimit,
    SYS_getrusage,
    SYS_getsid,
    SYS_getsockname,
    SYS_getsockopt,
    SYS_gettid,
    SYS_gettimeofday,
    SYS_getuid,
    SYS_getxattr,
    SYS_inotify_add_watch,
    SYS_inotify_init1,
    SYS_inotify_rm_watch,
    SYS_ioprio_get,
    SYS_kill,
    SYS_landlock_add_rule,
    SYS_landlock_create_ruleset,
    SYS_landlock_restrict_self,
    SYS_lgetxattr,
    SYS_linkat,
    SYS_listen,
    SYS_listxattr,
    SYS_llistxattr,
    SYS_lremovexattr,
    SYS_lseek,
    SYS_lsetxattr,
    SYS_madvise,
    SYS_membarrier,
    SYS_mincore,
    SYS_mkdirat,
    SYS_mlock,
    SYS_mlock2,
    SYS_mprotect,
    SYS_mremap,
    SYS_msgctl,
    SYS_msgget,
    SYS_msgrcv,
    SYS_msgsnd,
    SYS_msync,
    SYS_munlock,
    SYS_munmap,
    SYS_nanosleep,
    SYS_newfstatat,
    SYS_openat,
    SYS_openat2,
    SYS_pidfd_open,
    SYS_pidfd_send_signal,
    SYS_pipe2,
    SYS_pkey_alloc,
    SYS_pkey_free,
    SYS_pkey_mprotect,
    SYS_ppoll,
    SYS_prctl,
    SYS_pread64,
    SYS_preadv,
    SYS_preadv2,
    SYS_prlimit64,
    SYS_pselect6,
    SYS_pwrite64,
    SYS_pwritev,
    SYS_pwritev2,
    SYS_read,
    SYS_readahead,
    SYS_readlinkat,
    SYS_readv,
    SYS_recvfrom,
    SYS_recvmmsg,
    SYS_recvmsg,
    SYS_removexattr,
    SYS_renameat,
    SYS_renameat2,
    SYS_restart_syscall,
    SYS_rseq,
    SYS_rt_sigaction,
    SYS_rt_sigpending,
    SYS_rt_sigprocmask,
    SYS_rt_sigqueueinfo,
    SYS_rt_sigreturn,
    SYS_rt_sigsuspend,
    SYS_rt_sigtimedwait,
    SYS_rt_tgsigqueueinfo,
    SYS_sched_get_priority_max,
    SYS_sched_get_priority_min,
    SYS_sched_getaffinity,
    SYS_sched_getattr,
    SYS_sched_getparam,
    SYS_sched_getscheduler,
    SYS_sched_rr_get_interval,
    SYS_sched_setparam,
    SYS_sched_setscheduler,
    SYS_sched_yield,
    SYS_seccomp,
    SYS_semctl,
    SYS_semget,
    SYS_semop,
    SYS_semtimedop,
    SYS_sendfile,
    SYS_sendmmsg,
    SYS_sendmsg,
    SYS_sendto,
    SYS_set_robust_list,
    SYS_set_tid_address,
    SYS_setfsgid,
    SYS_setfsuid,
    SYS_setgid,
    SYS_setgroups,
    SYS_setitimer,
    SYS_setpgid,
    SYS_setpriority,
    SYS_setregid,
    SYS_setresgid,
    SYS_setresuid,
    SYS_setreuid,
    SYS_setrlimit,
    SYS_setsid,
    SYS_setsockopt,
    SYS_setuid,
    SYS_setxattr,
    SYS_shutdown,
    SYS_sigaltstack,
    SYS_signalfd4,
    SYS_splice,
    SYS_statfs,
    SYS_statx,
    SYS_symlinkat,
    SYS_sync_file_range,
    SYS_sysinfo,
    SYS_tee,
    SYS_tgkill,
    SYS_timer_create,
    SYS_timer_delete,
    SYS_timer_getoverrun,
    SYS_timer_gettime,
    SYS_timer_settime,
    SYS_timerfd_create,
    SYS_timerfd_gettime,
    SYS_timerfd_settime,
    SYS_times,
    SYS_tkill,
    SYS_truncate,
    SYS_umask,
    SYS_uname,
    SYS_unlinkat,
    SYS_utimensat,
    SYS_wait4,
    SYS_waitid,
    SYS_write,
    SYS_writev,
];

/// The same under their older names, which only this architecture has.
#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = &[
    SYS_access,
    SYS_alarm,
    SYS_arch_prctl,
    SYS_chmod,
    SYS_chown,
    SYS_creat,
    SYS_dup2,
    SYS_epoll_create,
    SYS_epoll_wait,
    SYS_eventfd,
    SYS_fork,
    SYS_futimesat,
    SYS_getdents,
    SYS_getpgrp,
    SYS_inotify_init,
    SYS_lchown,
    SYS_link,
    SYS_lstat,
    SYS_mkdir,
    SYS_open,
    SYS_pause,
    SYS_pipe,
    SYS_poll,
    SYS_readlink,
    SYS_rename,
    SYS_rmdir,
    SYS_select,
    SYS_signalfd,
    SYS_stat,
    SYS_symlink,
    SYS_time,
    SYS_unlink,
    SYS_utime,
    SYS_utimes,
    SYS_vfork,
];
