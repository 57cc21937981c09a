//! Decides how a measured server is started, waited for, watched and stopped.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

/// The unit of the times in `/proc`, which Linux fixed for user space.
const TICKS_PER_SECOND: f64 = 100.0;

/// When a server counts as ready.
pub enum Ready {
    /// It accepts connections.
    Listening,
    /// It answers 200 here.
    Answering(&'static str),
}

/// A child that does not outlive the bench.
pub struct Server {
    child: Child,
    pub port: u16,
    /// From the start of the process until it was ready.
    pub took: Duration,
}

impl Server {
    pub fn start(mut command: Command, port: u16, ready: &Ready, log: &Path) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let began = Instant::now();
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let mut server = Server { child, port, took: Duration::ZERO };
        while !is_ready(port, ready) {
            if let Some(status) = server.child.try_wait()? {
                bail!("{command:?} ended with {status} before it was ready:\n{}", tail(log));
            }
            if began.elapsed() > Duration::from_secs(120) {
                bail!("{command:?} was not ready within two minutes:\n{}", tail(log));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        server.took = began.elapsed();
        Ok(server)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// As a power cut would: no chance to tidy up.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks with SIGTERM, and insists after ten seconds.
    pub fn stop(mut self) -> Result<()> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        let asked = Instant::now();
        while self.child.try_wait()?.is_none() {
            if asked.elapsed() > Duration::from_secs(10) {
                return self.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after `stop` and `kill`; this is for the ways out through an error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_ready(port: u16, ready: &Ready) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return false };
    let Ready::Answering(path) = ready else { return true };
    let ask = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
    let mut answer = [0; 12];
    stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok()
        && stream.write_all(ask.as_bytes()).is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer.ends_with(b" 200")
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Runs a command to its end, silent unless it fails.
pub fn finish(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed with {}:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Empties what earlier stretches left for the disk, so that the next one does not pay for it.
pub fn settle(dir: &Path) -> Result<()> {
    finish(Command::new("sync").arg("-f").arg(dir))
}

/// What the machine and one process had used at a moment.
#[derive(Clone, Copy)]
pub struct Usage {
    at: Instant,
    server_cpu: f64,
    written: Option<f64>,
    own_cpu: f64,
    machine_cpu: f64,
}

/// What was used between two moments.
pub struct Used {
    /// Seconds of CPU of the server.
    pub server_cpu: f64,
    /// Seconds of CPU of the load.
    pub load_cpu: f64,
    /// Bytes the server caused to be written, if the kernel tells.
    pub written: Option<f64>,
    /// How many cores were busy with neither.
    pub foreign_cores: f64,
    pub seconds: f64,
}

impl Usage {
    pub fn now(server: Option<u32>) -> Result<Self> {
        Ok(Usage { written: server.and_then(written_bytes), ..Self::of(server.as_slice())? })
    }

    /// Of several processes together.
    pub fn of(servers: &[u32]) -> Result<Self> {
        Ok(Usage {
            at: Instant::now(),
            server_cpu: servers.iter().map(|id| cpu(&id.to_string())).sum::<Result<f64>>()?,
            written: None,
            own_cpu: cpu("self")?,
            machine_cpu: machine_cpu()?,
        })
    }

    pub fn until(self, later: Usage) -> Used {
        let seconds = (later.at - self.at).as_secs_f64();
        let server_cpu = later.server_cpu - self.server_cpu;
        let load_cpu = later.own_cpu - self.own_cpu;
        let machine = later.machine_cpu - self.machine_cpu;
        Used {
            server_cpu,
            load_cpu,
            written: self.written.zip(later.written).map(|(before, after)| after - before),
            foreign_cores: ((machine - server_cpu - load_cpu) / seconds).max(0.0),
            seconds,
        }
    }
}

/// Seconds of CPU a process has taken so far.
pub fn cpu(id: &str) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name of the process may hold blanks, so count from behind its bracket.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut ticks = fields.split_ascii_whitespace().skip(11).take(2).map(str::parse::<f64>);
    match (ticks.next(), ticks.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok((user + system) / TICKS_PER_SECOND),
        _ => bail!("/proc/{id}/stat reads differently here"),
    }
}

/// A process and its children.
pub fn family(id: u32) -> Result<Vec<u32>> {
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
    let mut all = vec![id];
    for child in children.split_ascii_whitespace() {
        all.push(child.parse()?);
    }
    Ok(all)
}

fn written_bytes(id: u32) -> Option<f64> {
    let io = fs::read_to_string(format!("/proc/{id}/io")).ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes:"))?.trim().parse().ok()
}

fn machine_cpu() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let fields: Vec<f64> =
        line.split_ascii_whitespace().skip(1).take(8).map(str::parse).collect::<Result<_, _>>()?;
    // Everything but idle (3) and waiting for the disk (4).
    let busy =
        fields.iter().enumerate().filter(|(n, _)| !matches!(n, 3 | 4)).map(|(_, ticks)| ticks).sum::<f64>();
    Ok(busy / TICKS_PER_SECOND)
}

/// A directory that is empty at first and gone at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(parent: &Path) -> Result<Self> {
        let dir = parent.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        Ok(Scratch(dir.canonicalize()?))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("bench: {} stays behind: {error}", self.0.display());
        }
    }
}
