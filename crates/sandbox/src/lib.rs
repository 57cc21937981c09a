//! Runs the commands of somebody who is not trusted, and says truthfully what they did.
//!
//! A job gets its own user, process, mount, network, IPC and host-name namespaces; a root made of nothing but the
//! read-only paths it is shown; one writable area of bounded size; no capability; a Landlock domain; a list of
//! allowed system calls; limits on memory, processes, processor, disk, output and time. When it ends, whatever way,
//! nothing of it is left: its processes die with the first of their namespace, its mounts with their namespace,
//! and it never had a directory on the host.
//!
//! The program that runs jobs starts a second, single-threaded process for each ([`Launcher`]), which must call
//! [`init::main`]. `oa` does so in its hidden `sandbox-init` command.
//!
//! ```no_run
//! # fn main() -> Result<(), oa_sandbox::Refused> {
//! use oa_sandbox::{Cancel, Command, Discard, Launcher, Sandbox, Spec};
//!
//! let sandbox = Sandbox::new(Launcher::this_program(["sandbox-init"]));
//! let spec = Spec::new(vec![Command::shell("echo hi")]).system_paths();
//! let outcome = sandbox.run(&spec, &mut Discard, &Cancel::new())?;
//! assert_eq!(outcome.runs[0].stdout.sha256_hex().len(), 64);
//! # Ok(()) }
//! ```
#![cfg(target_os = "linux")]

mod artifacts;
mod cancel;
mod capture;
mod cgroup;
pub mod init;
mod isolation;
mod launch;
mod outcome;
mod plan;
mod spec;
mod sys;

pub use cancel::Cancel;
pub use capture::{Captured, Discard, Output, Stream};
pub use isolation::{Isolation, Layer, Layers};
pub use launch::{Launcher, Sandbox};
pub use outcome::{Artifact, Ended, Exit, LeftOut, Limit, Outcome, Refused, Run, Usage};
pub use spec::{Command, Limits, Network, Program, Spec, Visible, Work};
