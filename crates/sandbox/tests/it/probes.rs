//! Each attempt works outside, as the test shows first, and is refused inside.

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    os::linux::net::SocketAddrExt,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    process::{Command as Process, Stdio},
};

use oa_sandbox::{Network, Spec, Visible};

use crate::host::{
    Host, SECRET, exists, probe, refused, refused_in, refused_inside, refused_where_it_exists, run, said,
};

/// A test for each line: its name, and the attempt.
macro_rules! refused {
    ($($(#[$attribute:meta])* $name:ident: $($word:expr),+;)+) => {
        $($(#[$attribute])* #[test] fn $name() { refused(&Host::new(), &[$($word),+]); })+
    };
}

/// The same, in mounts of its own outside, which it would otherwise break.
macro_rules! refused_in_own_mounts {
    ($($name:ident: $($word:expr),+;)+) => {
        $(#[test] fn $name() { refused_in(&Host::new(), &["unshare", "--mount"], &[$($word),+]); })+
    };
}

const NEW_USER: &str = "268435456"; // CLONE_NEWUSER
const NEW_MOUNTS: &str = "131072"; // CLONE_NEWNS
const NEW_NET: &str = "1073741824"; // CLONE_NEWNET

refused! {
    nothing_of_the_hosts_accounts_is_read: "read", "/etc/shadow";
    the_environment_of_what_started_it_is_not_read: "parent_environment";
    the_files_of_what_started_it_are_not_listed: "parent_files";
    the_memory_of_what_started_it_is_not_read: "parent_memory";
    the_program_of_what_started_it_is_not_overwritten: "parent_program";
    the_own_programs_are_not_written: "rewrite", "/etc/ld.so.conf";
    nothing_is_made_beside_the_own_programs: "write", "/usr/oa-probe-leaves-nothing";
    a_new_file_system_is_not_opened: "fsopen";
    a_tree_is_not_cloned: "open_tree";
    mount_attributes_are_not_changed: "mount_setattr";
    another_root_is_not_taken: "chroot";
    a_user_namespace_is_not_unshared: "unshare", NEW_USER;
    a_mount_namespace_is_not_unshared: "unshare", NEW_MOUNTS;
    a_user_namespace_is_not_cloned: "clone", NEW_USER;
    a_network_namespace_is_not_cloned: "clone", NEW_NET;
    a_user_namespace_is_not_cloned_the_new_way: "clone3", NEW_USER;
    a_namespace_is_not_entered: "setns";
    a_child_is_not_traced: "ptrace";
    the_memory_of_a_child_is_not_read: "process_vm_readv";
    the_memory_of_a_child_is_not_written: "process_vm_writev";
    descriptors_are_not_taken_from_a_process: "pidfd_getfd";
    kernel_objects_are_not_compared: "kcmp";
    raw_packets_are_not_sent: "raw_socket";
    packets_are_not_captured: "packet_socket";
    the_kernel_is_not_asked_through_netlink: "netlink_socket";
    the_clock_is_not_set: "clock_settime";
    the_time_of_day_is_not_set: "settimeofday";
    the_clock_is_not_tuned: "adjtimex";
    the_host_name_is_not_set: "sethostname";
    the_domain_name_is_not_set: "setdomainname";
    keyrings_are_not_asked: "keyctl";
    keys_are_not_added: "add_key";
    io_uring_is_not_set_up: "io_uring";
    bpf_is_not_used: "bpf";
    performance_events_are_not_opened: "perf_event_open";
    page_faults_are_not_handled: "userfaultfd";
    the_machine_is_not_told_to_reboot: "reboot";
    swap_is_not_added: "swapon";
    the_personality_is_not_changed: "personality";
    nobody_becomes_root: "set_setuid";
    nobody_is_root: "am_root";
    there_are_no_capabilities: "capabilities";
    nothing_is_typed_into_a_terminal: "type_for_others";
    typing_for_others_does_not_reach_the_kernel: "type_for_others_by_any_descriptor";
    the_kernels_log_is_not_read: "syslog";
    the_kernels_log_is_not_opened: "open", "/dev/kmsg";
    handles_of_files_are_not_made: "name_to_handle_at", "/etc";
    handles_of_files_are_not_opened: "open_by_handle_at", "/etc";
    file_events_are_not_watched: "fanotify";
    quotas_are_not_managed: "quotactl";
    accounting_is_not_turned_off: "acct";
    the_kernels_settings_are_not_written: "rewrite", "/proc/sys/kernel/hostname";
    the_kernels_settings_are_not_written_elsewhere: "rewrite", "/sys/kernel/mm/ksm/run";
    devices_are_not_made: "mknod";
    files_are_not_given_away: "chown_root";
    priority_is_not_raised: "nice";
    real_time_is_not_taken: "real_time";
    memory_is_not_locked: "lock_memory", "1000000";
}

refused_in_own_mounts! {
    nothing_is_mounted: "mount";
    the_root_is_not_made_writable: "remount_root";
    nothing_is_unmounted: "umount", "/proc";
    the_root_is_not_exchanged: "pivot_root";
}

#[test]
fn what_this_machine_may_lack_is_refused_where_it_is_there() {
    let host = Host::new();
    for attempt in ["vsock_socket", "alg_socket", "kexec", "init_module"] {
        refused_where_it_exists(&host, &[attempt]);
    }
    #[cfg(target_arch = "x86_64")]
    for attempt in ["iopl", "ioperm"] {
        refused_where_it_exists(&host, &[attempt]);
    }
    refused_where_it_exists(&host, &["more_files"]);
    refused_where_it_exists(&host, &["less_oom"]);
    refused_where_it_exists(&host, &["open", "/dev/vda"]);
}

#[test]
fn a_file_outside_is_not_read_written_listed_linked_or_removed() {
    let host = Host::new();
    let (secret, dir) = (host.text("secret"), host.text(""));
    refused(&host, &["read", &secret]);
    refused(&host, &["follow", &secret]);
    refused(&host, &["hard_link", &secret]);
    refused(&host, &["write", &secret]);
    refused(&host, &["list", &dir]);
    let expected = format!("{SECRET}x");
    assert_eq!(fs::read_to_string(host.path("secret")).expect("it is still there"), expected);
    for (_, sandbox) in host.sandboxes() {
        assert!(said(&run(&sandbox, &host.spec(&["remove", &secret]))).contains("refused"));
    }
    assert!(exists(host.path("secret")));
    assert!(host.outside(&["remove", &secret]).worked);
}

#[test]
fn what_is_shown_is_not_written_although_its_owner_could_outside() {
    let host = Host::new();
    let tools = host.path("tools");
    fs::create_dir(&tools).expect("a directory");
    fs::write(tools.join("tool"), "fine").expect("a file");
    fs::set_permissions(tools.join("tool"), fs::Permissions::from_mode(0o666)).expect("for everybody");
    fs::set_permissions(&tools, fs::Permissions::from_mode(0o777)).expect("for everybody");
    assert!(host.outside(&["rewrite", &host.text("tools/tool")]).worked);
    assert!(host.outside(&["write", &host.text("tools/new")]).worked);
    for words in
        [&["rewrite", "/opt/tools/tool"], &["write", "/opt/tools/newer"], &["remove", "/opt/tools/tool"]]
    {
        let mut spec = host.spec(words);
        spec.visible.push(Visible { host: tools.clone(), at: "/opt/tools".into() });
        refused_inside(&host, &spec);
    }
    let mut spec = host.spec(&["read", "/opt/tools/tool"]);
    spec.visible.push(Visible { host: tools, at: "/opt/tools".into() });
    for (kind, sandbox) in host.sandboxes() {
        assert!(said(&run(&sandbox, &spec)).contains("done fine"), "{kind}");
    }
}

#[test]
fn a_listener_of_the_host_is_not_reached_by_any_address() {
    let host = Host::new();
    let tcp = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = tcp.local_addr().expect("its address").port();
    refused(&host, &["tcp", &format!("127.0.0.1:{port}")]);
    refused(&host, &["tcp", &format!("0.0.0.0:{port}")]);
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = udp.local_addr().expect("its address").to_string();
    std::thread::spawn(move || {
        let mut bytes = [0; 8];
        while let Ok((length, from)) = udp.recv_from(&mut bytes) {
            let _ = udp.send_to(&bytes[..length], from);
        }
    });
    assert!(host.outside(&["udp", &address]).worked);
    for (kind, sandbox) in host.sandboxes() {
        let outcome = run(&sandbox, &host.spec(&["udp", &address]));
        assert!(said(&outcome).contains("refused"), "{kind}: {}", said(&outcome));
    }
}

#[test]
fn a_job_may_have_a_loopback_of_its_own_which_is_nobody_elses() {
    let host = Host::new();
    let port = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = port.local_addr().expect("its address").to_string();
    assert!(host.outside(&["own_loopback"]).worked);
    assert!(host.outside(&["tcp", &address]).worked);
    for (kind, sandbox) in host.sandboxes() {
        let with = |network, words: &[&str]| said(&run(&sandbox, &Spec { network, ..host.spec(words) }));
        assert!(with(Network::Loopback, &["own_loopback"]).contains("done"), "{kind}");
        assert!(with(Network::None, &["own_loopback"]).contains("refused"), "{kind}");
        assert!(with(Network::Loopback, &["tcp", &address]).contains("refused"), "{kind}");
    }
}

#[test]
fn sockets_of_the_host_are_not_reached_by_name() {
    let host = Host::new();
    let name = format!("oa-probe-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
    let _abstract = UnixListener::bind_addr(&address).expect("an abstract socket");
    refused(&host, &["abstract_socket", &name]);
    let _named = UnixListener::bind(host.path("socket")).expect("a socket");
    refused(&host, &["unix_socket", &host.text("socket")]);
}

#[test]
fn a_process_of_the_host_is_neither_signalled_nor_traced_nor_read() {
    let host = Host::new();
    let mut victim = Process::new("sleep").arg("1000").spawn().expect("a process");
    let pid = victim.id().to_string();
    refused(&host, &["ptrace_pid", &pid]);
    for (kind, sandbox) in host.sandboxes() {
        assert!(said(&run(&sandbox, &host.spec(&["kill", &pid]))).contains("refused"), "{kind}");
        assert!(victim.try_wait().expect("its state").is_none(), "{kind}");
    }
    assert!(host.outside(&["kill", &pid]).worked);
    assert!(!victim.wait().expect("its end").success());

    static MEMORY: [u8; 4] = *b"mine";
    let address = (MEMORY.as_ptr() as usize).to_string();
    refused(&host, &["memory_of", &std::process::id().to_string(), &address]);
}

#[test]
fn killing_everybody_kills_nobody_outside() {
    let host = Host::new();
    // Outside it works, in a process namespace made for it, where it can do no harm.
    let script = "sleep 1000 & victim=$!; \"$0\" kill_all; sleep 0.1; kill -0 $victim && exit 1; exit 0";
    let outside = Process::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "sh", "-c", script, env!("CARGO_BIN_EXE_oa-sandbox-probe")])
        .stderr(Stdio::null())
        .status();
    assert!(outside.expect("unshare").success() || !crate::host::is_root());
    let mut victim = Process::new("sleep").arg("1000").spawn().expect("a process");
    for (kind, sandbox) in host.sandboxes() {
        let mut spec = host.spec(&["kill_all"]);
        spec.commands.push(probe(&["variable", "STILL"]));
        spec.commands[0].continue_on_fail = true;
        let outcome = run(&sandbox, &spec.env("STILL", "here"));
        // Not even the sandbox's own first process: the next command runs.
        assert_eq!(outcome.runs.len(), 2, "{kind}: {outcome:?}");
        assert_eq!(outcome.runs[1].exit.code(), 0, "{kind}: {outcome:?}");
        assert!(victim.try_wait().expect("its state").is_none(), "{kind}");
    }
    victim.kill().expect("it lives");
    let _ = victim.wait();
}

#[test]
fn a_program_that_makes_root_of_its_caller_does_not() {
    let host = Host::new();
    if !crate::host::is_root() {
        return;
    }
    let program = host.path("becomes_root");
    fs::copy(env!("CARGO_BIN_EXE_oa-sandbox-probe"), &program).expect("a copy");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("the bit");
    let outside = Process::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args([program.as_os_str(), "am_root".as_ref()])
        .status();
    assert!(outside.expect("setpriv").success());
    let mut spec = host.spec(&[]);
    spec.visible.push(Visible { host: program, at: "/opt/becomes_root".into() });
    spec.commands = vec![oa_sandbox::Command::argv(["/opt/becomes_root", "am_root"])];
    refused_inside(&host, &spec);
}

#[test]
fn a_job_has_no_input_and_only_the_variables_that_it_was_given() {
    let host = Host::new();
    // SAFETY of the comparison: outside, the variable of this process is passed on.
    let outside = Process::new(env!("CARGO_BIN_EXE_oa-sandbox-probe"))
        .args(["variable", "CARGO_MANIFEST_DIR"])
        .status();
    assert!(outside.expect("the probe runs").success());
    refused_inside(&host, &host.spec(&["variable", "CARGO_MANIFEST_DIR"]));
    refused_inside(&host, &host.spec(&["stdin"]));
    let spec = host.spec(&["variable", "GIVEN"]).env("GIVEN", "yes");
    for (kind, sandbox) in host.sandboxes() {
        assert!(said(&run(&sandbox, &spec)).contains("done yes"), "{kind}");
    }
}
