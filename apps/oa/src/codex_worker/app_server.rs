//! Decides how the process `codex app-server` is started, spoken to line by line, and ended so that nothing of it stays behind.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::mpsc,
};

use super::left_behind;

/// No message of codex is longer; a longer one means that we do not understand each other.
const LONGEST_MESSAGE: usize = 64 * 1024 * 1024;
/// So many messages are read ahead.
const AHEAD: usize = 256;
/// How long codex may take to end by itself before it is ended.
const ENDING: Duration = Duration::from_secs(5);
/// How long what it said at the end may take to be read.
const LAST_BREATH: Duration = Duration::from_secs(2);
/// So many last lines of its stderr explain a death.
const LAST_WORDS: usize = 12;

/// How codex is started.
#[derive(Clone, Debug)]
pub struct Launch {
    pub program: PathBuf,
    pub workspace: PathBuf,
    /// `key=value` each, as codex's own `-c`.
    pub settings: Vec<String>,
    pub environment: Vec<(OsString, OsString)>,
    /// Pass on what it says on stderr.
    pub verbose: bool,
}

/// One message of codex: an answer, a notification, or a question of its own.
#[derive(Debug, Default, Deserialize)]
pub struct Message {
    #[serde(default)]
    pub id: Option<Value>,
    #[serde(default)]
    pub method: Option<String>,
    #[serde(default)]
    pub params: Option<Box<RawValue>>,
    #[serde(default)]
    pub result: Option<Box<RawValue>>,
    #[serde(default)]
    pub error: Option<RpcError>,
    /// When codex said it.
    #[serde(default, rename = "emittedAtMs")]
    pub emitted_at_ms: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct RpcError {
    #[serde(default)]
    pub code: i64,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub data: Option<Value>,
}

/// A running codex.
pub struct AppServer {
    child: Child,
    pid: i32,
    /// Closed when codex has closed its output. What is not read yet keeps codex waiting.
    pub said: mpsc::Receiver<Message>,
    say: Option<mpsc::UnboundedSender<Vec<u8>>>,
    last_words: Arc<Mutex<VecDeque<String>>>,
    next_id: u64,
    /// When it was first seen that the process has ended.
    gone: Option<Instant>,
}

impl AppServer {
    pub fn start(launch: &Launch) -> io::Result<Self> {
        let mut command = Command::new(&launch.program);
        command.arg("app-server");
        for setting in &launch.settings {
            command.arg("-c").arg(setting);
        }
        command
            .current_dir(&launch.workspace)
            .env_clear()
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // The keyboard's interrupt must not reach it: we end its turns in order.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("its pipes are missing"));
        };
        let (tell, said) = mpsc::channel(AHEAD);
        let (say, to_say) = mpsc::unbounded_channel();
        let last_words = Arc::new(Mutex::new(VecDeque::new()));
        tokio::spawn(write(stdin, to_say));
        tokio::spawn(read(stdout, tell));
        tokio::spawn(listen(stderr, last_words.clone(), launch.verbose));
        Ok(AppServer { child, pid, said, say: Some(say), last_words, next_id: 1, gone: None })
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Asks something; the answer comes with this id.
    pub fn ask(&mut self, method: &str, params: &Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&json!({"id": id, "method": method, "params": params}));
        id
    }

    pub fn notify(&mut self, method: &str) {
        self.send(&json!({"method": method}));
    }

    /// Answers a question of codex.
    pub fn answer(&mut self, id: &Value, answer: Result<Value, (i64, String)>) {
        match answer {
            Ok(result) => self.send(&json!({"id": id, "result": result})),
            Err((code, message)) => {
                self.send(&json!({"id": id, "error": {"code": code, "message": message}}));
            }
        }
    }

    fn send(&mut self, message: &impl Serialize) {
        if let (Some(say), Ok(mut line)) = (&self.say, serde_json::to_vec(message)) {
            line.push(b'\n');
            // A codex that does not listen any more is about to end, which its output tells.
            let _ = say.send(line);
        }
    }

    /// A process that has ended says nothing more, even if something that it left behind holds its output open.
    pub fn look_whether_it_lives(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait()
            && self.gone.get_or_insert_with(Instant::now).elapsed() > LAST_BREATH
        {
            self.said.close();
        }
    }

    /// Ends it at once; that it has ended is seen as if it had done so itself.
    pub fn kill(&mut self) {
        let _ = self.child.start_kill();
    }

    /// The last lines of its stderr.
    pub fn last_words(&self) -> String {
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        words.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    /// Ends it: its input is closed, at which it ends by itself and takes its commands with it; what does not
    /// is killed.
    pub async fn end(mut self) -> Option<ExitStatus> {
        self.say = None;
        // What it still says must not keep it waiting.
        self.said.close();
        let status = match tokio::time::timeout(ENDING, self.child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => {
                self.signal(Signal::SIGTERM);
                match tokio::time::timeout(ENDING, self.child.wait()).await {
                    Ok(status) => status.ok(),
                    Err(_) => {
                        let _ = self.child.start_kill();
                        self.child.wait().await.ok()
                    }
                }
            }
        };
        self.signal(Signal::SIGKILL);
        left_behind::end_all();
        status
    }

    fn signal(&self, signal: Signal) {
        if self.pid > 0 {
            // It fails only when nothing of the group is left.
            let _ = killpg(Pid::from_raw(self.pid), signal);
        }
    }
}

async fn write(mut stdin: ChildStdin, mut lines: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(line) = lines.recv().await {
        if stdin.write_all(&line).await.is_err() {
            return;
        }
    }
}

/// Reads messages until codex closes its output or says something that is none.
async fn read(stdout: impl AsyncRead + Unpin, tell: mpsc::Sender<Message>) {
    let mut stdout = BufReader::with_capacity(64 * 1024, stdout);
    let mut line = Vec::new();
    while let Ok(true) = next_line(&mut stdout, &mut line).await {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let Ok(message) = serde_json::from_slice(&line) else { return };
        if tell.send(message).await.is_err() {
            // Nobody listens any more; codex may still finish what it is saying.
            let _ = tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await;
            return;
        }
    }
}

/// The next whole line; `false` at the end.
async fn next_line(
    from: &mut (impl tokio::io::AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> io::Result<bool> {
    line.clear();
    loop {
        let chunk = from.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(false);
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(chunk.len(), |at| at + 1);
        line.extend_from_slice(&chunk[..length]);
        from.consume(length);
        if end.is_some() {
            return Ok(true);
        }
        if line.len() > LONGEST_MESSAGE {
            return Err(io::Error::other("a message is too long"));
        }
    }
}

async fn listen(stderr: impl AsyncRead + Unpin, words: Arc<Mutex<VecDeque<String>>>, verbose: bool) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while let Ok(true) = next_line(&mut stderr, &mut line).await {
        let text = crate::output::plain(String::from_utf8_lossy(&line).trim_end());
        if verbose {
            eprintln!("codex: {text}");
        }
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.len() == LAST_WORDS {
            words.pop_front();
        }
        words.push_back(crate::output::shortened(&text, 400));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_are_read_one_by_one_and_what_is_none_ends_the_conversation() {
        let (tell, mut said) = mpsc::channel(8);
        let text = b"{\"id\":1,\"result\":{}}\n\n{\"method\":\"x/y\",\"params\":{\"a\":1.50}}\n{\"id\":\"q\",\"method\":\"ask\"}\nhello\n{\"id\":2}\n";
        read(&text[..], tell).await;
        let answer = said.recv().await.expect("an answer");
        assert_eq!((answer.id, answer.method), (Some(json!(1)), None));
        let notification = said.recv().await.expect("a notification");
        assert_eq!(notification.params.expect("params").get(), "{\"a\":1.50}");
        let question = said.recv().await.expect("a question");
        assert_eq!((question.id, question.method.as_deref()), (Some(json!("q")), Some("ask")));
        assert!(said.recv().await.is_none());
    }
}
