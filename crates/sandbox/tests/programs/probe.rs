//! Makes one attempt at something that a job must not be able to do, and says whether it worked: exit code 0 with
//! `done`, or 1 with the refusal. The tests run it outside first, where each attempt works.
#![allow(unsafe_code)] // It is here to make system calls that no library makes.
#![allow(clippy::unwrap_used)] // An attempt that cannot even be made should stop where it stands.

use std::{
    ffi::CString,
    fs, io,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::{
        fd::AsRawFd,
        linux::net::SocketAddrExt,
        unix::{fs::FileExt, net::UnixStream},
    },
    ptr::null_mut,
    time::Duration,
};

use libc::*;

type Answer = io::Result<String>;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match attempt(&words) {
        Ok(what) => println!("done {what}"),
        Err(error) => {
            println!("refused: {error}");
            std::process::exit(1);
        }
    }
}

fn check(answer: c_long) -> Answer {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(answer.to_string()) }
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

/// A child that waits until it is killed.
fn waiting_child() -> pid_t {
    match unsafe { fork() } {
        0 => loop {
            unsafe { pause() };
        },
        child => child,
    }
}

fn with_child(act: impl FnOnce(pid_t) -> Answer) -> Answer {
    let child = waiting_child();
    let answer = act(child);
    unsafe { kill(child, SIGKILL) };
    unsafe { waitpid(child, null_mut(), 0) };
    answer
}

/// Runs in a child that may be left changed.
fn in_child(act: impl FnOnce() -> Answer) -> Answer {
    match unsafe { fork() } {
        0 => {
            let code = match act() {
                Ok(_) => 0,
                Err(error) => error.raw_os_error().unwrap_or(255),
            };
            unsafe { _exit(code) }
        }
        child => {
            let mut status = 0;
            unsafe { waitpid(child, &raw mut status, 0) };
            match (WIFEXITED(status), WEXITSTATUS(status)) {
                (true, 0) => Ok(String::new()),
                (true, code) => Err(io::Error::from_raw_os_error(code)),
                _ => Err(io::Error::other("ended by a signal")),
            }
        }
    }
}

fn socket_of(family: c_int, kind: c_int, protocol: c_int) -> Answer {
    check(unsafe { socket(family, kind, protocol) }.into())
}

fn many(word: &str) -> usize {
    word.parse().unwrap()
}

fn touch(address: *mut c_void, bytes: usize) {
    for at in (0..bytes).step_by(4096) {
        unsafe { address.cast::<u8>().add(at).write_volatile(1) };
    }
}

fn mapped(bytes: usize, kind: c_int) -> Answer {
    let address = unsafe { mmap(null_mut(), bytes, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0) };
    if address == MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    touch(address, bytes);
    Ok(bytes.to_string())
}

#[repr(C)]
struct PerfAttr {
    kind: u32,
    size: u32,
    config: u64,
    rest: [u64; 14],
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    space: [u8; 128],
}

fn handle_of(path: &str) -> io::Result<Handle> {
    let mut handle = Handle { bytes: 128, kind: 0, space: [0; 128] };
    let mut mount_id = 0_i32;
    let answer = unsafe {
        syscall(SYS_name_to_handle_at, AT_FDCWD, c(path).as_ptr(), &raw mut handle, &raw mut mount_id, 0)
    };
    check(answer).map(|_| handle)
}

fn attempt(words: &[&str]) -> Answer {
    match words {
        ["read", path] => fs::read_to_string(path),
        ["write", path] => fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)?
            .write_all(b"x")
            .map(|()| String::new()),
        ["rewrite", path] => {
            // What it says already, so that nothing changes where it works.
            let text = fs::read_to_string(path)?;
            fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes()).map(|()| text)
        }
        ["remove", path] => fs::remove_file(path).map(|()| String::new()),
        ["list", path] => Ok(format!("{}", fs::read_dir(path)?.count())),
        ["open", path] => fs::File::open(path).map(|_| String::new()),
        ["hard_link", path] => {
            let _ = fs::remove_file("linked");
            fs::hard_link(path, "linked")?;
            let text = fs::read_to_string("linked");
            fs::remove_file("linked")?;
            text
        }
        ["follow", path] => {
            let _ = fs::remove_file("led");
            std::os::unix::fs::symlink(path, "led")?;
            let text = fs::read_to_string("led");
            fs::remove_file("led")?;
            text
        }
        ["chown_root"] => {
            fs::write("owned", "x")?;
            let answer = std::os::unix::fs::chown("owned", Some(0), Some(0));
            fs::remove_file("owned")?;
            answer.map(|()| String::new())
        }
        ["mknod"] => {
            let answer = check(unsafe { mknod(c("node").as_ptr(), S_IFCHR | 0o600, makedev(1, 3)) }.into());
            let _ = fs::remove_file("node");
            answer
        }
        ["mount"] => {
            fs::create_dir_all("mounted")?;
            let at = c("mounted");
            check(
                unsafe { mount(c("tmpfs").as_ptr(), at.as_ptr(), c("tmpfs").as_ptr(), 0, null_mut()) }.into(),
            )
        }
        ["remount_root"] => {
            let flags = MS_REMOUNT | MS_BIND;
            check(unsafe { mount(c("none").as_ptr(), c("/").as_ptr(), null_mut(), flags, null_mut()) }.into())
        }
        ["umount", path] => check(unsafe { umount2(c(path).as_ptr(), MNT_DETACH) }.into()),
        ["pivot_root"] => {
            fs::create_dir_all("root")?;
            let root = c("root");
            unsafe { mount(root.as_ptr(), root.as_ptr(), null_mut(), MS_BIND, null_mut()) };
            check(unsafe { syscall(SYS_pivot_root, root.as_ptr(), root.as_ptr()) })
        }
        ["fsopen"] => check(unsafe { syscall(SYS_fsopen, c("tmpfs").as_ptr(), 0) }),
        ["open_tree"] => check(unsafe { syscall(SYS_open_tree, AT_FDCWD, c("/").as_ptr(), 1) }),
        ["mount_setattr"] => {
            let attr = [0_u64; 4];
            check(unsafe { syscall(SYS_mount_setattr, AT_FDCWD, c("/").as_ptr(), 0, attr.as_ptr(), 32) })
        }
        ["chroot"] => in_child(|| check(unsafe { chroot(c("/tmp").as_ptr()) }.into())),
        ["unshare", flags] => {
            let flags = many(flags) as c_int;
            in_child(|| check(unsafe { unshare(flags) }.into()))
        }
        ["clone", flags] => {
            let flags = many(flags) as c_long | c_long::from(SIGCHLD);
            let answer = unsafe { syscall(SYS_clone, flags, 0, 0, 0, 0) };
            if answer == 0 {
                unsafe { _exit(0) }
            }
            check(answer)
        }
        ["clone3", flags] => {
            let args =
                CloneArgs { flags: many(flags) as u64, exit_signal: SIGCHLD as u64, ..CloneArgs::default() };
            let answer = unsafe { syscall(SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
            if answer == 0 {
                unsafe { _exit(0) }
            }
            check(answer)
        }
        ["setns"] => {
            let file = fs::File::open("/proc/self/ns/uts")?;
            in_child(|| check(unsafe { setns(file.as_raw_fd(), CLONE_NEWUTS) }.into()))
        }
        ["ptrace"] => with_child(|child| check(unsafe { ptrace(PTRACE_SEIZE, child, 0, 0) })),
        ["ptrace_pid", pid] => {
            let pid = many(pid) as pid_t;
            let answer = check(unsafe { ptrace(PTRACE_SEIZE, pid, 0, 0) });
            unsafe { ptrace(PTRACE_DETACH, pid, 0, 0) };
            answer
        }
        ["process_vm_readv"] => {
            let secret = [7_u8; 8];
            with_child(|child| {
                let mut found = [0_u8; 8];
                let here = iovec { iov_base: found.as_mut_ptr().cast(), iov_len: 8 };
                let there = iovec { iov_base: secret.as_ptr().cast_mut().cast(), iov_len: 8 };
                check(unsafe { process_vm_readv(child, &raw const here, 1, &raw const there, 1, 0) } as c_long)
            })
        }
        ["process_vm_writev"] => {
            let mut target = [7_u8; 8];
            with_child(|child| {
                let words = [0_u8; 8];
                let here = iovec { iov_base: words.as_ptr().cast_mut().cast(), iov_len: 8 };
                let there = iovec { iov_base: target.as_mut_ptr().cast(), iov_len: 8 };
                check(
                    unsafe { process_vm_writev(child, &raw const here, 1, &raw const there, 1, 0) } as c_long
                )
            })
        }
        ["parent_memory"] => {
            // Whoever started this: outside the test, inside the sandbox's first process.
            let parent = std::os::unix::process::parent_id();
            let maps = fs::read_to_string(format!("/proc/{parent}/maps"))?;
            let line =
                maps.lines().find(|line| line.contains(" r")).ok_or_else(|| io::Error::other("empty"))?;
            let start = u64::from_str_radix(line.split('-').next().unwrap_or_default(), 16)
                .map_err(io::Error::other)?;
            let mut bytes = [0; 16];
            fs::File::open(format!("/proc/{parent}/mem"))?.read_at(&mut bytes, start)?;
            Ok(String::new())
        }
        ["parent_environment"] => {
            fs::read(format!("/proc/{}/environ", std::os::unix::process::parent_id())).map(|_| String::new())
        }
        ["parent_files"] => {
            Ok(fs::read_dir(format!("/proc/{}/fd", std::os::unix::process::parent_id()))?.count().to_string())
        }
        ["parent_program"] => {
            fs::OpenOptions::new()
                .append(true)
                .open(format!("/proc/{}/exe", std::os::unix::process::parent_id()))
                .map(|_| String::new())
                .or_else(|error| match error.raw_os_error() {
                    // It would have been opened, were it not running.
                    Some(ETXTBSY) => Ok(String::new()),
                    _ => Err(error),
                })
        }
        ["memory_of", pid, address] => {
            let mut bytes = [0; 4];
            let address = address.parse().map_err(io::Error::other)?;
            fs::File::open(format!("/proc/{pid}/mem"))?.read_at(&mut bytes, address)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        ["pidfd_getfd"] => with_child(|child| {
            let pidfd = unsafe { syscall(SYS_pidfd_open, child, 0) };
            check(unsafe { syscall(SYS_pidfd_getfd, pidfd, 1, 0) })
        }),
        ["kcmp"] => {
            let own = unsafe { getpid() };
            check(unsafe { syscall(SYS_kcmp, own, own, 0, 0, 0) })
        }
        ["kill", pid] => check(unsafe { kill(many(pid) as pid_t, SIGTERM) }.into()),
        ["kill_all"] => check(unsafe { kill(-1, SIGKILL) }.into()),
        ["raw_socket"] => socket_of(AF_INET, SOCK_RAW, IPPROTO_ICMP),
        ["packet_socket"] => socket_of(AF_PACKET, SOCK_RAW, 0),
        ["netlink_socket"] => socket_of(AF_NETLINK, SOCK_RAW, 0),
        ["vsock_socket"] => socket_of(AF_VSOCK, SOCK_STREAM, 0),
        ["alg_socket"] => socket_of(AF_ALG, SOCK_SEQPACKET, 0),
        ["tcp", address] => {
            let address: SocketAddr = address.parse().map_err(io::Error::other)?;
            TcpStream::connect_timeout(&address, Duration::from_secs(5)).map(|_| String::new())
        }
        ["udp", address] => {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            socket.send_to(b"ping", address)?;
            let mut answer = [0; 8];
            socket.recv(&mut answer).map(|_| String::new())
        }
        ["own_loopback"] => {
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            TcpStream::connect(listener.local_addr()?).map(|_| String::new())
        }
        ["abstract_socket", name] => {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            UnixStream::connect_addr(&address).map(|_| String::new())
        }
        ["unix_socket", path] => UnixStream::connect(path).map(|_| String::new()),
        ["forks", count] => {
            let mut children = Vec::new();
            for _ in 0..many(count) {
                match unsafe { fork() } {
                    0 => loop {
                        unsafe { pause() };
                    },
                    -1 => break,
                    child => children.push(child),
                }
            }
            let error = io::Error::last_os_error();
            for child in &children {
                unsafe { kill(*child, SIGKILL) };
                unsafe { waitpid(*child, null_mut(), 0) };
            }
            match children.len() == many(count) {
                true => Ok(children.len().to_string()),
                false => Err(io::Error::other(format!("{} and then {error}", children.len()))),
            }
        }
        ["threads", count] => {
            let mut made = 0;
            for _ in 0..many(count) {
                let thread = std::thread::Builder::new().stack_size(64 << 10).spawn(|| {
                    loop {
                        std::thread::park();
                    }
                });
                match thread {
                    Ok(_) => made += 1,
                    Err(error) => return Err(io::Error::other(format!("{made} and then {error}"))),
                }
            }
            Ok(made.to_string())
        }
        ["fork_bomb"] => loop {
            // Only ever inside: every process doubles.
            unsafe { fork() };
        },
        ["memory", bytes] => mapped(many(bytes), MAP_PRIVATE),
        ["shared_memory", bytes] => mapped(many(bytes), MAP_SHARED),
        ["memory_of_many", count, bytes] => {
            let mut children = Vec::new();
            for _ in 0..many(count) {
                match unsafe { fork() } {
                    0 => {
                        let _ = mapped(many(bytes), MAP_PRIVATE);
                        loop {
                            unsafe { pause() };
                        }
                    }
                    -1 => return Err(io::Error::last_os_error()),
                    child => children.push(child),
                }
            }
            std::thread::sleep(Duration::from_millis(700));
            let mut lost = 0;
            for child in children {
                lost += usize::from(unsafe { waitpid(child, null_mut(), WNOHANG) } == child);
                unsafe { kill(child, SIGKILL) };
                unsafe { waitpid(child, null_mut(), 0) };
            }
            if lost == 0 { Ok(String::new()) } else { Err(io::Error::other(format!("{lost} were ended"))) }
        }
        ["memfd", bytes] => {
            let fd = unsafe { memfd_create(c("x").as_ptr(), 0) };
            check(fd.into())?;
            let piece = vec![1; 1 << 20];
            for _ in 0..many(bytes) >> 20 {
                check(unsafe { write(fd, piece.as_ptr().cast(), piece.len()) } as c_long)?;
            }
            Ok(String::new())
        }
        ["shmget", bytes] => {
            let id = unsafe { shmget(IPC_PRIVATE, many(bytes), IPC_CREAT | 0o600) };
            check(id.into())?;
            let address = unsafe { shmat(id, null_mut(), 0) };
            touch(address, many(bytes));
            check(unsafe { shmctl(id, IPC_RMID, null_mut()) }.into())
        }
        ["disk", path, bytes] => {
            let write = || -> io::Result<()> {
                let mut file = fs::File::create(path)?;
                let piece = vec![1; 1 << 20];
                for _ in 0..many(bytes) >> 20 {
                    file.write_all(&piece)?;
                }
                Ok(())
            };
            let answer = write();
            fs::remove_file(path)?;
            answer.map(|()| String::new())
        }
        ["disk_in_pieces", bytes] => {
            let piece = vec![1; 1 << 20];
            let pieces = many(bytes) >> 20;
            let answer = (0..pieces).try_for_each(|at| fs::write(format!("piece{at}"), &piece));
            for at in 0..pieces {
                let _ = fs::remove_file(format!("piece{at}"));
            }
            answer.map(|()| String::new())
        }
        ["files", count] => {
            fs::create_dir("many")?;
            let answer = (0..many(count)).try_for_each(|at| fs::write(format!("many/{at}"), ""));
            fs::remove_dir_all("many")?;
            answer.map(|()| String::new())
        }
        ["output", bytes] => {
            let piece = vec![b'x'; 64 << 10];
            let mut out = io::stdout().lock();
            for _ in 0..many(bytes) / piece.len() {
                out.write_all(&piece)?;
            }
            Ok(String::new())
        }
        ["spin", milliseconds] => {
            let begun = std::time::Instant::now();
            while begun.elapsed() < Duration::from_millis(many(milliseconds) as u64) {
                std::hint::spin_loop();
            }
            Ok(String::new())
        }
        ["stay", marker] => {
            // Twice forked, in a session of its own, deaf to hang-ups: as a daemon does.
            if unsafe { fork() } == 0 {
                unsafe { setsid() };
                if unsafe { fork() } == 0 {
                    // As a daemon does; and whoever reads this program's output shall not wait for it.
                    for fd in 0..3 {
                        unsafe { close(fd) };
                    }
                    unsafe { signal(SIGHUP, SIG_IGN) };
                    unsafe { signal(SIGTERM, SIG_IGN) };
                    let words = [c("sleep"), c(marker)];
                    let words = [words[0].as_ptr(), words[1].as_ptr(), std::ptr::null()];
                    unsafe { execv(c("/bin/sleep").as_ptr(), words.as_ptr()) };
                    unsafe { _exit(1) }
                }
                unsafe { _exit(0) }
            }
            unsafe { waitpid(-1, null_mut(), 0) };
            // Until it is there.
            std::thread::sleep(Duration::from_millis(100));
            Ok(String::new())
        }
        ["flip", path] => {
            // Something that is now a file and now a link that leads out, for whoever looks at the wrong moment.
            loop {
                let _ = fs::remove_file("flip");
                let _ = std::os::unix::fs::symlink(path, "flip");
                let _ = fs::remove_file("flip");
                let _ = fs::write("flip", "harmless");
            }
        }
        ["clock_settime"] => {
            let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
            unsafe { clock_gettime(CLOCK_REALTIME, &raw mut now) };
            check(unsafe { clock_settime(CLOCK_REALTIME, &raw const now) }.into())
        }
        ["settimeofday"] => {
            let mut now = timeval { tv_sec: 0, tv_usec: 0 };
            unsafe { gettimeofday(&raw mut now, null_mut()) };
            check(unsafe { settimeofday(&raw const now, std::ptr::null()) }.into())
        }
        ["adjtimex"] => {
            let mut state: timex = unsafe { std::mem::zeroed() };
            unsafe { adjtimex(&raw mut state) };
            state.modes = ADJ_FREQUENCY;
            check(unsafe { adjtimex(&raw mut state) }.into())
        }
        ["sethostname"] => {
            let name =
                fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "sandbox".to_owned());
            check(unsafe { sethostname(name.trim().as_ptr().cast(), name.trim().len()) }.into())
        }
        ["setdomainname"] => {
            let name = fs::read_to_string("/proc/sys/kernel/domainname").unwrap_or_default();
            check(unsafe { setdomainname(name.trim().as_ptr().cast(), name.trim().len()) }.into())
        }
        ["keyctl"] => check(unsafe { syscall(SYS_keyctl, 0, -3, 1) }),
        ["add_key"] => check(unsafe {
            syscall(SYS_add_key, c("user").as_ptr(), c("oa-probe").as_ptr(), c("x").as_ptr(), 1, -1)
        }),
        ["io_uring"] => {
            let mut params = [0_u8; 120];
            check(unsafe { syscall(SYS_io_uring_setup, 4, params.as_mut_ptr()) })
        }
        ["bpf"] => {
            // An array of one element.
            let mut attr = [0_u32; 32];
            attr[..4].copy_from_slice(&[2, 4, 4, 1]);
            check(unsafe { syscall(SYS_bpf, 0, attr.as_ptr(), size_of_val(&attr)) })
        }
        ["perf_event_open"] => {
            let attr = PerfAttr { kind: 1, size: 128, config: 0, rest: [0; 14] };
            check(unsafe { syscall(SYS_perf_event_open, &raw const attr, 0, -1, -1, 0) })
        }
        ["userfaultfd"] => check(unsafe { syscall(SYS_userfaultfd, O_CLOEXEC) }),
        ["reboot"] => check(unsafe { reboot(RB_DISABLE_CAD) }.into()),
        ["kexec"] => check(unsafe { syscall(SYS_kexec_load, 0, 0, 0, 0) }),
        ["init_module"] => check(unsafe { syscall(SYS_init_module, c("").as_ptr(), 0, c("").as_ptr()) }),
        ["swapon"] => {
            // The smallest swap file there is; off again at once where it worked.
            let mut file = vec![0_u8; 64 << 10];
            file[1024..1028].copy_from_slice(&1_u32.to_ne_bytes());
            file[1028..1032].copy_from_slice(&15_u32.to_ne_bytes());
            file[4086..4096].copy_from_slice(b"SWAPSPACE2");
            fs::write("swap", file)?;
            fs::set_permissions("swap", std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
            fs::File::open("swap")?.sync_all()?;
            let answer = check(unsafe { swapon(c("swap").as_ptr(), 0) }.into());
            unsafe { swapoff(c("swap").as_ptr()) };
            fs::remove_file("swap")?;
            answer
        }
        ["personality"] => in_child(|| check(unsafe { personality(0x0040_0000) }.into())),
        ["set_setuid"] => check(unsafe { setuid(0) }.into()),
        ["am_root"] => match unsafe { geteuid() } {
            0 => Ok(String::new()),
            other => Err(io::Error::other(format!("user {other}"))),
        },
        ["capabilities"] => {
            let status = fs::read_to_string("/proc/self/status")?;
            let line = status.lines().find(|line| line.starts_with("CapPrm:")).unwrap_or_default();
            match line.trim_end().ends_with("0000000000000000") {
                true => Err(io::Error::other("none")),
                false => Ok(line.to_owned()),
            }
        }
        ["type_for_others"] => {
            let terminal = fs::OpenOptions::new().read(true).write(true).open("/dev/ptmx")?;
            let byte = b'x';
            check(unsafe { ioctl(terminal.as_raw_fd(), TIOCSTI, &raw const byte) }.into())
        }
        ["type_for_others_by_any_descriptor"] => {
            // Not a terminal: the kernel would say so (ENOTTY), were the call let through to it.
            let byte = b'x';
            match check(unsafe { ioctl(1, TIOCSTI, &raw const byte) }.into()) {
                Err(error) if error.raw_os_error() == Some(ENOTTY) => Ok(String::new()),
                other => other,
            }
        }
        ["syslog"] => check(unsafe { syscall(SYS_syslog, 10, 0, 0) }),
        ["name_to_handle_at", path] => handle_of(path).map(|_| String::new()),
        ["open_by_handle_at", path] => {
            let handle = handle_of(path)?;
            let root = fs::File::open(path)?;
            check(unsafe { syscall(SYS_open_by_handle_at, root.as_raw_fd(), &raw const handle, O_RDONLY) })
        }
        ["fanotify"] => check(unsafe { syscall(SYS_fanotify_init, 0, O_RDONLY) }),
        ["quotactl"] => check(unsafe { syscall(SYS_quotactl, 0x8000_0100_u32, 0, 0, 0) }),
        ["acct"] => check(unsafe { acct(null_mut()) }.into()),
        #[cfg(target_arch = "x86_64")]
        ["iopl"] => in_child(|| check(unsafe { iopl(3) }.into())),
        #[cfg(target_arch = "x86_64")]
        ["ioperm"] => in_child(|| check(unsafe { ioperm(0x80, 1, 1) }.into())),
        ["nice"] => in_child(|| check(unsafe { setpriority(PRIO_PROCESS as _, 0, -20) }.into())),
        ["real_time"] => in_child(|| {
            let parameters = sched_param { sched_priority: 1 };
            check(unsafe { sched_setscheduler(0, SCHED_FIFO, &raw const parameters) }.into())
        }),
        ["more_files"] => in_child(|| {
            let mut have = rlimit { rlim_cur: 0, rlim_max: 0 };
            unsafe { getrlimit(RLIMIT_NOFILE, &raw mut have) };
            have.rlim_max += 1;
            check(unsafe { setrlimit(RLIMIT_NOFILE, &raw const have) }.into())
        }),
        ["lock_memory", bytes] => {
            let pages = vec![0_u8; many(bytes)];
            check(unsafe { mlock(pages.as_ptr().cast(), pages.len()) }.into())
        }
        ["less_oom"] => fs::OpenOptions::new()
            .write(true)
            .open("/proc/self/oom_score_adj")?
            .write_all(b"-500")
            .map(|()| String::new()),
        ["leave_cgroup", path] => {
            fs::OpenOptions::new().write(true).open(path)?.write_all(b"0").map(|()| String::new())
        }
        ["stdin"] => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text)?;
            if text.is_empty() { Err(io::Error::other("nothing")) } else { Ok(text) }
        }
        ["variable", name] => std::env::var(name).map_err(io::Error::other),
        _ => Err(io::Error::other(format!("no such attempt: {words:?}"))),
    }
}
