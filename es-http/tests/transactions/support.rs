//! Servers on free ports: a participant, and one that writes the bytes of a test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use es_core::model::{CoordinatorEpoch, ErrorChain, TransactionId};
use es_http::transactions::{HttpParticipant, HttpParticipantOptions, ParticipantRouter};
use es_http::{ServeOptions, Tokens};
use es_transaction::{ParticipantError, Prepare, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::seats::{Reserve, Reserved, Seats};

/// Clients whose tokens are their names, `reader` for reads only; and `reports` with a certificate.
pub(crate) const TOKENS: &str = "
    sha256:8d9001d32c6a703d95921a77115050f33dd823d3f1730bd35215dcbecad6dc20 write shop
    sha256:4381dc2ab14285160c808659aee005d51255add7264b318d07c7417292c7442c write bank
    sha256:3d0941964aa3ebdcb00ccef58b1bb399f9f898465e9886d5aec7f31090a0fb30 read reader
    certificate-sha256:e2e61c8122ab27eb7e69a841dcc683b1ef46286a2939116c66306746f9cbeaa0 write reports";

pub(crate) type RemoteSeats = HttpParticipant<Reserve, Reserved>;

/// A server that ends with the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    served: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.served.abort();
    }
}

impl Server {
    pub(crate) async fn start(router: Router, options: ServeOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            es_http::serve(listener, router, options, std::future::pending()).await;
        });
        Self { address, served }
    }

    /// Starts the service of a participant with its routes at `/transactions`.
    pub(crate) async fn of(seats: &Arc<Seats>) -> Self {
        Self::start(routes(seats), ServeOptions::new()).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/transactions", self.address)
    }

    /// Returns a client with a token.
    pub(crate) fn client(&self, token: &str) -> RemoteSeats {
        client(&self.url(), HttpParticipantOptions::new().token(token))
    }
}

/// Returns the routes of a participant: `shop` and `reports` act for `orders`, `bank` acts for `payments`.
pub(crate) fn routes(seats: &Arc<Seats>) -> Router {
    let routes = ParticipantRouter::new(Arc::clone(seats)).tokens(tokens());
    let routes = routes.coordinator("orders", "shop").coordinator("orders", "reports").coordinator("orders", "reader");
    Router::new().nest("/transactions", routes.coordinator("payments", "bank").build().unwrap())
}

pub(crate) fn tokens() -> Tokens {
    TOKENS.parse().unwrap()
}

pub(crate) fn client(url: &str, options: HttpParticipantOptions) -> RemoteSeats {
    HttpParticipant::new("seats", url, options.timeout(Duration::from_secs(5))).unwrap()
}

/// A response of a [`Scripted`] server.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Writes bytes, and closes the connection.
    Answer(Vec<u8>),
    /// Closes the connection.
    Close,
    /// Keeps the connection and writes nothing.
    Hang,
}

/// A server that answers each request with the next step, and the last one again and again.
pub(crate) struct Scripted {
    pub(crate) server: Server,
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    pub(crate) async fn start(steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let received = Arc::clone(&requests);
        let served = tokio::spawn(async move {
            let mut open = Vec::new();
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read_request(&mut stream).await;
                received.lock().unwrap().push(request);
                match steps.get(number).or(steps.last()).unwrap() {
                    Step::Answer(bytes) => drop(stream.write_all(bytes).await),
                    Step::Close => {}
                    Step::Hang => open.push(stream),
                }
            }
        });
        Self { server: Server { address, served }, requests }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer).await.unwrap_or(0);
        bytes.extend(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(read > 0, "a request ended early: {text}");
            continue;
        };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if read == 0 || body.len() >= length.unwrap_or(0) {
            return text;
        }
    }
}

/// Returns the bytes of a response.
pub(crate) fn response(status: &str, content_type: &str, body: &str) -> Step {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n");
    Step::Answer(format!("{head}Connection: close\r\n\r\n{body}").into_bytes())
}

pub(crate) fn transaction(text: &str) -> TransactionId {
    format!("{text}.01983c2f-7a51-7b3e-9c55-0f6f2c9b1d11").parse().unwrap()
}

pub(crate) fn epoch(text: &str) -> CoordinatorEpoch {
    text.parse().unwrap()
}

pub(crate) fn prepare(transaction: &TransactionId) -> Prepare {
    Prepare {
        transaction: transaction.clone(),
        protocol: Protocol::TwoPhase,
        participants: vec!["seats".to_owned()],
        timeout_ms: 5000,
    }
}

/// Returns a file of the certificates of the tests of TLS.
pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http/tls").join(name)
}

/// Returns the text of an error with its sources.
pub(crate) fn chain(error: &ParticipantError) -> String {
    ErrorChain(error).to_string()
}
