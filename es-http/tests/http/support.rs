//! A server on a free port, and a client that writes bytes as the test says.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::Router;
use es_http::{Drained, ServeOptions};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// The time in which everything that a test waits for must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Drained>,
}

impl Server {
    pub(crate) async fn start(router: Router, options: ServeOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(es_http::serve(listener, router, options, async { stopped.await.unwrap() }));
        Self { address, stop, served }
    }

    /// Sends a request on a connection of its own, and returns the response.
    pub(crate) async fn send(&self, request: &str) -> Answer {
        let mut client = self.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        Answer::read(&mut client).await
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Stops the server, and returns what it did and how long it took.
    pub(crate) async fn stop(self) -> (Drained, Duration) {
        let start = Instant::now();
        self.stop.send(()).unwrap();
        let drained = timeout(PATIENCE, self.served).await.unwrap().unwrap();
        (drained, start.elapsed())
    }
}

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Reads one response that has a `Content-Length` or no body.
    pub(crate) async fn read(client: &mut (impl AsyncRead + Unpin)) -> Self {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(b"\r\n\r\n") {
            let read = timeout(PATIENCE, client.read(&mut byte)).await.expect("a response in time").unwrap();
            assert!(read == 1, "the connection ended after {:?}", String::from_utf8_lossy(&bytes));
            bytes.extend(byte);
        }
        let head = String::from_utf8(bytes).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Self { status, head, body: String::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        timeout(PATIENCE, client.read_exact(&mut body)).await.expect("a body in time").unwrap();
        answer.body = String::from_utf8(body).unwrap();
        answer
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Returns the detail of a problem, after checks of its form and status.
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["status"], status, "{self:?}");
        assert!(problem["title"].is_string(), "{self:?}");
        problem["detail"].as_str().unwrap().to_owned()
    }
}

/// Waits until the server closes the connection, and returns the time that this took and the bytes before the end.
pub(crate) async fn closed(client: &mut TcpStream) -> (Duration, Vec<u8>) {
    let (start, mut bytes) = (Instant::now(), Vec::new());
    let ended = timeout(PATIENCE, client.read_to_end(&mut bytes)).await.expect("the server closes the connection");
    // A reset is an end, too.
    let _ = ended;
    (start.elapsed(), bytes)
}

/// Runs an ignored test of this program in a process of its own, with a limit of open files.
pub(crate) fn child(test: &str, open_files: u32) -> Child {
    let script = format!("ulimit -n {open_files} && exec \"$0\" --ignored --exact --nocapture {test}");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(std::env::current_exe().unwrap());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Returns the value of the first line `KEY VALUE` that a child prints.
pub(crate) fn printed(child: &mut Child, key: &str) -> String {
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        if let Some((_, value)) = line.split_once(key) {
            // A child whose output is closed fails when it prints its result.
            child.stdout = Some(output.into_inner());
            return value.trim().to_owned();
        }
        line.clear();
    }
    panic!("the child does not print {key}");
}
