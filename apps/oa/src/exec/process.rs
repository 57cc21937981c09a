//! Decides how the recorded process is run: its input is ours, its output passes through at once, our signals become its signals.

use std::{
    io::{self, IsTerminal as _},
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};

use super::recorder::{End, GATHER, Recorder, Stream};
use crate::failure::{NOT_EXECUTABLE, NOT_FOUND};

/// When the process has ended but a descendant keeps its output open, so much silence is enough.
const SILENCE: Duration = Duration::from_secs(2);

/// A recorder that both streams write to.
pub type Shared = Arc<Mutex<Recorder>>;

pub fn locked(recorder: &Shared) -> MutexGuard<'_, Recorder> {
    recorder.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The signals that are forwarded.
pub struct Signals {
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// From now on these signals do not end this process by themselves.
    pub fn catch() -> io::Result<Self> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::SIGHUP,
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.terminate.recv() => Signal::SIGTERM,
        }
    }
}

/// Runs the command to its end and records it. `out` and `err` are where its output goes on to.
pub async fn run<O, E>(
    argv: &[std::ffi::OsString],
    recorder: &Shared,
    signals: &mut Signals,
    out: O,
    err: E,
) -> io::Result<End>
where
    O: AsyncWrite + Unpin + Send + 'static,
    E: AsyncWrite + Unpin + Send + 'static,
{
    let Some((program, arguments)) = argv.split_first() else {
        return Ok(not_started(&io::Error::from(io::ErrorKind::NotFound)));
    };
    let spawned = Command::new(program)
        .args(arguments)
        .stdin(Stdio::inherit())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return Ok(not_started(&error)),
    };
    // A start that cannot be recorded counts as lost; the process runs and must be watched all the same.
    let unrecorded = locked(recorder).started(child.id()).err();
    let pumps = [
        child.stdout.take().map(|pipe| tokio::spawn(pump(Stream::Stdout, pipe, out, recorder.clone()))),
        child.stderr.take().map(|pipe| tokio::spawn(pump(Stream::Stderr, pipe, err, recorder.clone()))),
    ];
    let end = watch(&mut child, recorder, signals).await?;
    drain(pumps.into_iter().flatten().collect(), recorder, signals).await;
    match unrecorded {
        Some(error) => Ok(End { error: Some(format!("its start could not be recorded: {error}")), ..end }),
        None => Ok(end),
    }
}

fn not_started(error: &io::Error) -> End {
    let code = match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    };
    End { exit_code: i32::from(code), error: Some(error.to_string()), ..End::default() }
}

/// Waits for the end of the process; passes signals on and keeps the recorder's time meanwhile.
async fn watch(child: &mut Child, recorder: &Shared, signals: &mut Signals) -> io::Result<End> {
    let mut ticks = tokio::time::interval(GATHER / 2);
    let mut interrupted = false;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(End { interrupted, ..end_of(status?) }),
            signal = signals.next() => {
                interrupted = true;
                forward(child, signal);
            }
            _ = ticks.tick() => locked(recorder).tick(Instant::now()),
        }
    }
}

fn end_of(status: std::process::ExitStatus) -> End {
    use std::os::unix::process::ExitStatusExt as _;
    let signal = status.signal();
    let exit_code = status.code().or(signal.map(|signal| 128 + signal)).unwrap_or(1);
    End { exit_code, signal, ..End::default() }
}

/// The keyboard's interrupt and a terminal's hang-up reach the process without us: once is enough.
fn forward(child: &Child, signal: Signal) {
    let from_terminal = signal != Signal::SIGTERM && io::stdin().is_terminal();
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let (false, Some(pid)) = (from_terminal, pid) {
        // It fails only when the process has just ended, which the next turn of the loop sees.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Passes a stream on, byte for byte and at once, and shows it to the recorder. When nobody reads our output
/// any more, the pipe is closed, so that the process learns of it as it would without us.
async fn pump(
    stream: Stream,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    recorder: Shared,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        locked(&recorder).wrote(stream, &buffer[..length]);
        let passed = match to.write_all(&buffer[..length]).await {
            Ok(()) => to.flush().await,
            failed => failed,
        };
        if passed.is_err() {
            return;
        }
    }
}

/// Waits until both streams have ended, or nothing has come for a while, or we are told to stop.
async fn drain(mut pumps: Vec<JoinHandle<()>>, recorder: &Shared, signals: &mut Signals) {
    let bytes = || {
        let seen = locked(recorder).seen();
        seen.stdout_bytes + seen.stderr_bytes
    };
    let (mut seen, mut since) = (bytes(), Instant::now());
    let mut ticks = tokio::time::interval(GATHER / 2);
    while let Some(pump) = pumps.last_mut() {
        tokio::select! {
            _ = pump => {
                pumps.pop();
            }
            _ = signals.next() => break,
            _ = ticks.tick() => {
                locked(recorder).tick(Instant::now());
                let now = bytes();
                if now != seen {
                    (seen, since) = (now, Instant::now());
                }
                if since.elapsed() > SILENCE {
                    break;
                }
            }
        }
    }
    for pump in pumps {
        pump.abort();
    }
}
