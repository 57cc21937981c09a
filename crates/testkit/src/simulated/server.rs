//! A server that a test can kill and revive on the same port: one request a connection.

use std::{
    collections::HashMap,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: HashMap<String, String>,
    /// Lower-case names.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn segments(&self) -> Vec<String> {
        self.path.split('/').skip(1).map(|part| part.replace("%3A", ":").replace("%3a", ":")).collect()
    }
}

/// What is answered.
pub enum Said {
    Whole {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// The connection ends without a word.
    Cut,
    /// Nothing, for as long as the other side waits.
    Silence,
}

impl Said {
    pub fn json(status: u16, body: &Value) -> Self {
        Said::Whole { status, headers: Vec::new(), body: body.to_string().into_bytes() }
    }

    pub fn text(status: u16, body: &str) -> Self {
        Said::Whole { status, headers: Vec::new(), body: body.as_bytes().to_vec() }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        if let Said::Whole { headers, .. } = &mut self {
            headers.push((name.into(), value.into()));
        }
        self
    }
}

type Answering = Arc<dyn Fn(Asked) -> Pin<Box<dyn Future<Output = Said> + Send>> + Send + Sync>;

pub struct Server {
    address: SocketAddr,
    answering: Answering,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    pub async fn start<F>(answer: impl Fn(Asked) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Said> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let answering: Answering = Arc::new(move |asked| Box::pin(answer(asked)));
        let server = Server { address, answering, task: Mutex::default() };
        server.serve(listener);
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Dies: the port is closed and every connection is cut.
    pub fn kill(&self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }

    /// Comes back on the same port.
    pub async fn revive(&self) {
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        self.serve(listener);
    }

    fn serve(&self, listener: TcpListener) {
        let answering = self.answering.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(converse(socket, answering.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn converse(mut socket: TcpStream, answering: Answering) {
    let Some(asked) = read(&mut socket).await else { return };
    let head_only = asked.method == "HEAD";
    match answering(asked).await {
        Said::Cut => {}
        Said::Silence => std::future::pending().await,
        Said::Whole { status, headers, body } => {
            let mut head = format!(
                "HTTP/1.1 {status} Simulated\r\ncontent-length: {}\r\nconnection: close\r\n",
                body.len()
            );
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            head.push_str("\r\n");
            let body = if head_only { Vec::new() } else { body };
            let _ = socket.write_all(&[head.into_bytes(), body].concat()).await;
            let _ = socket.shutdown().await;
        }
    }
}

async fn read(socket: &mut TcpStream) -> Option<Asked> {
    let mut buffer = Vec::new();
    let head = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if socket.read_buf(&mut buffer).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&buffer[..head]).into_owned();
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    while buffer.len() < head + length {
        if socket.read_buf(&mut buffer).await.ok()? == 0 {
            return None;
        }
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let body = buffer[head..head + length].to_vec();
    Some(Asked { method, path: path.to_owned(), query, headers, body })
}
