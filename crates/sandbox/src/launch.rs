//! Decides how one job is run: its control groups, its launcher, its clock, and that nothing of it is left.

use std::{
    ffi::OsString,
    io::{self, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    process::{Child, ChildStdin, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
        recvmsg, socketpair,
    },
};

use crate::{
    Cancel, Discard, Ended, Exit, Isolation, Layer, Layers, Limit, Limits, Outcome, Output, Refused, Run,
    Spec, Stream, Usage, artifacts,
    capture::Capture,
    cgroup::Groups,
    plan::{EndedBy, Event, Plan},
};

/// How long making the sandbox may take: its working directory is copied in this time.
const SETUP: Duration = Duration::from_secs(120);

/// The program that becomes the sandbox: it must call [`crate::init::main`] and do nothing else, before any thread
/// is started.
#[derive(Clone, Debug)]
pub struct Launcher {
    pub program: PathBuf,
    pub args: Vec<OsString>,
}

impl Launcher {
    /// The program that is running now, called with these arguments.
    #[must_use]
    pub fn this_program<T: Into<OsString>>(args: impl IntoIterator<Item = T>) -> Self {
        Self { program: PathBuf::from("/proc/self/exe"), args: args.into_iter().map(Into::into).collect() }
    }

    #[must_use]
    pub fn program(path: impl Into<PathBuf>) -> Self {
        Self { program: path.into(), args: Vec::new() }
    }
}

/// Runs jobs.
#[derive(Clone, Debug)]
pub struct Sandbox {
    launcher: Launcher,
    /// Whether control groups are used where they can be.
    groups: bool,
}

impl Sandbox {
    #[must_use]
    pub fn new(launcher: Launcher) -> Self {
        Self { launcher, groups: true }
    }

    /// Does without control groups, as on a host that gives none.
    #[must_use]
    pub fn without_cgroups(mut self) -> Self {
        self.groups = false;
        self
    }

    /// What this host really offers: a sandbox without a command is made, and looked at.
    #[must_use]
    pub fn isolation(&self) -> Isolation {
        let mut spec = Spec::new(Vec::new());
        spec.minimum = Layers::core();
        match self.run(&spec, &mut Discard, &Cancel::new()) {
            Ok(outcome) => outcome.isolation,
            Err(refused) => {
                let missing = Layer::ALL.into_iter().map(|layer| (layer, refused.to_string())).collect();
                Isolation { missing, ..Isolation::default() }
            }
        }
    }

    /// Runs one job to its end. Blocks: call it from a thread that may.
    ///
    /// # Errors
    /// When nothing was run, because the host lacks a demanded layer, the job makes no sense, or the sandbox could
    /// not be made. Whatever happens once a command was started is an outcome.
    pub fn run(&self, spec: &Spec, output: &mut dyn Output, cancel: &Cancel) -> Result<Outcome, Refused> {
        spec.check()?;
        let Some(cancelled) = cancel.fd() else {
            return Err(Refused::Setup("no file descriptor is left".to_owned()));
        };
        let groups = if self.groups { Groups::make(&spec.limits) } else { Groups::none() };
        let plan = spec.plan(&groups);
        let absent = spec.minimum.beyond(&groups.layers().chain_non_cgroup());
        if !absent.is_empty() {
            return Err(Refused::Isolation { missing: absent, why: groups.why() });
        }
        let begun = Instant::now();
        let mut job = Job::start(&self.launcher, &plan)?;
        let followed = job.follow(spec, output, cancelled);
        job.kill();
        job.wait_until_gone();
        let (runs, mut ended, mut isolation, done, work) = followed?;
        let mut used = Usage { wall: begun.elapsed(), ..Usage::default() };
        if let Some((cpu, memory)) = done {
            (used.cpu, used.memory_peak_bytes) = (cpu, memory);
        }
        if let Some(cpu) = groups.cpu() {
            used.cpu = cpu;
        }
        if let Some(peak) = groups.memory_peak() {
            used.memory_peak_bytes = peak;
        }
        if groups.ran_out_of_memory() && !matches!(ended, Ended::Cancelled | Ended::Limit(_)) {
            ended = Ended::Limit(Limit::Memory);
        }
        for (layer, why) in groups.missing() {
            isolation.missing.insert(layer, why);
        }
        job.let_go();
        drop(groups);
        used.disk_bytes = artifacts::disk_bytes(&work);
        let (kept, left_out) = artifacts::collect(&work, &spec.artifacts, &spec.limits, output);
        Ok(Outcome { runs, ended, artifacts: kept, left_out, used, isolation })
    }
}

impl Layers {
    /// These, and every layer that the launcher answers for itself.
    fn chain_non_cgroup(&self) -> Self {
        self.iter().chain(Self::standard().iter()).collect()
    }
}

/// What following a job to its end yields.
type Followed = (Vec<Run>, Ended, Isolation, Option<(Duration, u64)>, OwnedFd);

/// A launcher that was started. Dropping it ends the job.
struct Job {
    child: Child,
    /// While this is open and nothing is written to it, the job may live.
    leash: Option<ChildStdin>,
    control: OwnedFd,
}

impl Job {
    fn start(launcher: &Launcher, plan: &Plan) -> Result<Self, Refused> {
        let (control, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(io::Error::from)?;
        let mut command = std::process::Command::new(&launcher.program);
        command.args(&launcher.args).env_clear().current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::from(theirs)).stderr(Stdio::piped());
        // What a terminal sends to the programs in front is not for the job.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .spawn()
            .map_err(|error| Refused::Setup(format!("{}: {error}", launcher.program.display())))?;
        // The command holds our copy of their end of the control socket; without it, silence is the job's end.
        drop(command);
        let leash = child.stdin.take();
        let mut job = Self { child, leash, control };
        let text = serde_json::to_vec(plan).map_err(io::Error::from)?;
        let written = job.leash.as_mut().map(|leash| {
            leash.write_all(&(text.len() as u64).to_le_bytes())?;
            leash.write_all(&text)
        });
        match written {
            Some(Ok(())) => Ok(job),
            Some(Err(error)) => Err(Refused::Setup(format!("{error}{}", job.last_words()))),
            None => Err(Refused::Setup("the launcher has no input".to_owned())),
        }
    }

    /// Asks for the end of every process of the job. Again changes nothing.
    fn kill(&mut self) {
        if let Some(leash) = &mut self.leash {
            let _ = leash.write_all(b"k");
        }
    }

    /// Waits until the launcher says that the job's first process, and with it every other, has been reaped.
    fn wait_until_gone(&mut self) {
        while let Ok(Some((event, _))) = self.receive() {
            if matches!(event, Event::Gone) {
                break;
            }
        }
    }

    /// Lets the launcher remove the control groups, and waits for its end.
    fn let_go(&mut self) {
        self.leash = None;
        let _ = self.child.wait();
    }

    fn last_words(&mut self) -> String {
        self.leash = None;
        let mut text = Vec::new();
        if let Some(stderr) = self.child.stderr.take() {
            let _ = stderr.take(4096).read_to_end(&mut text);
        }
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        if text.is_empty() { text } else { format!(" ({text})") }
    }

    /// The next event, and what came with it; nothing at the end.
    fn receive(&self) -> io::Result<Option<(Event, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; 128 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let message = loop {
            let parts = &mut [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.control, parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?,
            }
        };
        let mut fds = Vec::new();
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(sent) = part {
                fds.extend(sent);
            }
        }
        match message.bytes {
            0 => Ok(None),
            length => Ok(Some((serde_json::from_slice(&bytes[..length]).map_err(io::Error::from)?, fds))),
        }
    }

    /// Waits for an event until then.
    fn receive_until(&self, until: Instant, cancelled: BorrowedFd<'_>) -> io::Result<Next> {
        let mut watched =
            [PollFd::new(&self.control, PollFlags::IN), PollFd::from_borrowed_fd(cancelled, PollFlags::IN)];
        wait(&mut watched, until)?;
        if !watched[1].revents().is_empty() {
            return Ok(Next::Cancelled);
        }
        if !watched[0].revents().is_empty() {
            return Ok(match self.receive()? {
                Some((event, fds)) => Next::Event(event, fds),
                None => Next::End,
            });
        }
        Ok(Next::Late)
    }

    fn follow(
        &mut self,
        spec: &Spec,
        output: &mut dyn Output,
        cancelled: BorrowedFd<'_>,
    ) -> Result<Followed, Refused> {
        let (isolation, work) = match self.receive_until(Instant::now() + SETUP, cancelled)? {
            Next::Event(Event::Ready { layers, missing, landlock_abi }, mut fds) => {
                let Some(work) = fds.pop() else {
                    return Err(Refused::Setup("the launcher gave no working directory".to_owned()));
                };
                (Isolation { layers, missing, landlock_abi }, work)
            }
            Next::Event(Event::Failed { what, missing: Some(layer) }, _) => {
                return Err(Refused::Isolation { missing: std::iter::once(layer).collect(), why: what });
            }
            Next::Event(Event::Failed { what, missing: None }, _) => return Err(Refused::Setup(what)),
            Next::Event(..) | Next::End => {
                return Err(Refused::Setup(format!(
                    "the launcher ended without a word{}",
                    self.last_words()
                )));
            }
            Next::Cancelled => return Err(Refused::Cancelled),
            Next::Late => return Err(Refused::Setup("making it took too long".to_owned())),
        };
        let absent = spec.minimum.beyond(&isolation.layers);
        if !absent.is_empty() {
            let why = isolation.missing.values().next().cloned().unwrap_or_default();
            return Err(Refused::Isolation { missing: absent, why });
        }
        // Only now may it start the first command.
        if let Some(leash) = &mut self.leash {
            let _ = leash.write_all(b"g");
        }
        let deadline = Instant::now() + spec.limits.wall;
        let mut runs = Vec::new();
        loop {
            match self.receive_until(deadline, cancelled)? {
                Next::Event(Event::Started { index }, fds) => {
                    output.started(index);
                    let until = spec
                        .commands
                        .get(index)
                        .and_then(|command| command.wall)
                        .map_or(deadline, |wall| deadline.min(Instant::now() + wall));
                    let (run, ended) =
                        self.follow_command(index, fds, &spec.limits, until, output, cancelled)?;
                    output.ended(&run);
                    runs.push(run);
                    if let Some(ended) = ended {
                        return Ok((runs, ended, isolation, None, work));
                    }
                }
                Next::Event(Event::Done { stopped, cpu, memory_peak_bytes }, _) => {
                    let ended = if stopped { Ended::Stopped } else { Ended::Complete };
                    return Ok((runs, ended, isolation, Some((cpu, memory_peak_bytes)), work));
                }
                Next::Event(..) => {}
                Next::End => {
                    let ended =
                        Ended::Broken(format!("the sandbox ended without a word{}", self.last_words()));
                    return Ok((runs, ended, isolation, None, work));
                }
                Next::Cancelled => return Ok((runs, Ended::Cancelled, isolation, None, work)),
                Next::Late => return Ok((runs, Ended::Limit(Limit::Wall), isolation, None, work)),
            }
        }
    }

    fn follow_command(
        &mut self,
        index: usize,
        fds: Vec<OwnedFd>,
        limits: &Limits,
        until: Instant,
        output: &mut dyn Output,
        cancelled: BorrowedFd<'_>,
    ) -> Result<(Run, Option<Ended>), Refused> {
        let begun = Instant::now();
        let mut pipes = Pipes::new(index, fds, limits);
        let (exit, wall, ended) = loop {
            let next = {
                let mut watched = vec![
                    PollFd::new(&self.control, PollFlags::IN),
                    PollFd::from_borrowed_fd(cancelled, PollFlags::IN),
                ];
                watched.extend(pipes.open().map(|(_, fd)| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
                wait(&mut watched, until)?;
                let ready: Vec<_> = watched.iter().map(|one| !one.revents().is_empty()).collect();
                drop(watched);
                if ready[1] {
                    Next::Cancelled
                } else if Instant::now() >= until {
                    Next::Late
                } else {
                    if pipes.read_ready(&ready[2..], output) {
                        break (Exit::Ended, begun.elapsed(), Some(Ended::Limit(Limit::Output)));
                    }
                    if !ready[0] {
                        continue;
                    }
                    match self.receive()? {
                        Some((event, fds)) => Next::Event(event, fds),
                        None => Next::End,
                    }
                }
            };
            let ended = match next {
                Next::Event(Event::Ended { exit, wall, .. }, _) => {
                    let exit = match exit {
                        EndedBy::Code(code) => Exit::Code(code),
                        EndedBy::Signal(signal) => Exit::Signal(signal),
                        EndedBy::NotStarted(why) => Exit::NotStarted(why),
                    };
                    // Whoever could write is dead: what the pipes still hold is all there is.
                    let over = pipes.read_rest(output);
                    break (exit, wall, over.then_some(Ended::Limit(Limit::Output)));
                }
                Next::Event(Event::OutOfMemory, _) => Ended::Limit(Limit::Memory),
                Next::Event(..) => continue,
                Next::End => Ended::Broken(format!("the sandbox ended without a word{}", self.last_words())),
                Next::Cancelled => Ended::Cancelled,
                Next::Late => Ended::Limit(Limit::Wall),
            };
            self.kill();
            break (Exit::Ended, begun.elapsed(), Some(ended));
        };
        let (stdout, stderr) = pipes.end();
        Ok((Run { index, exit, wall, stdout, stderr }, ended))
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.let_go();
    }
}

enum Next {
    Event(Event, Vec<OwnedFd>),
    End,
    Cancelled,
    Late,
}

/// Waits until one of them is ready, or then.
fn wait(watched: &mut [PollFd<'_>], until: Instant) -> io::Result<()> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // A millisecond more, so that the time is really up when nothing was ready.
        let left = left.saturating_add(Duration::from_millis(1));
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
        match poll(watched, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(drop).map_err(io::Error::from),
        }
    }
}

/// The two streams of one command.
struct Pipes {
    index: usize,
    limit: u64,
    both: [(Stream, Option<OwnedFd>, Capture); 2],
}

impl Pipes {
    fn new(index: usize, fds: Vec<OwnedFd>, limits: &Limits) -> Self {
        let mut fds = fds.into_iter();
        let mut one = |stream| (stream, fds.next(), Capture::new(limits.preview_bytes));
        Self { index, limit: limits.output_bytes, both: [one(Stream::Stdout), one(Stream::Stderr)] }
    }

    fn open(&self) -> impl Iterator<Item = (Stream, BorrowedFd<'_>)> {
        self.both.iter().filter_map(|(stream, fd, _)| Some((*stream, fd.as_ref()?.as_fd())))
    }

    /// Reads once from each that is ready, in the order of [`Self::open`]; whether one has become too long.
    fn read_ready(&mut self, ready: &[bool], output: &mut dyn Output) -> bool {
        let mut ready = ready.iter();
        let mut over = false;
        for place in 0..self.both.len() {
            if self.both[place].1.is_some() && ready.next().is_some_and(|ready| *ready) {
                over |= self.read(place, output);
            }
        }
        over
    }

    fn read_rest(&mut self, output: &mut dyn Output) -> bool {
        for place in 0..self.both.len() {
            while self.both[place].1.is_some() {
                if self.read(place, output) {
                    return true;
                }
            }
        }
        false
    }

    fn read(&mut self, place: usize, output: &mut dyn Output) -> bool {
        let (stream, fd, capture) = &mut self.both[place];
        let mut bytes = [0; 32 << 10];
        match fd.as_ref().map(|fd| rustix::io::read(fd, &mut bytes)) {
            Some(Ok(length)) if length > 0 => {
                let room = self.limit.saturating_sub(capture.bytes());
                let fits = length.min(usize::try_from(room).unwrap_or(usize::MAX));
                capture.take(&bytes[..fits]);
                output.chunk(self.index, *stream, &bytes[..fits]);
                fits < length
            }
            Some(Err(rustix::io::Errno::INTR)) => false,
            _ => {
                *fd = None;
                false
            }
        }
    }

    fn end(self) -> (crate::Captured, crate::Captured) {
        let [(_, _, stdout), (_, _, stderr)] = self.both;
        (stdout.end(), stderr.end())
    }
}
