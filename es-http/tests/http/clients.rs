//! Clients that are refused or excluded, and what they are told.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::response::sse::{Event, Sse};
use axum::routing::get;
use es_http::{Edge, Revocation, ServeOptions, Tokens};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::edge::{READER, WRITER, protected, send};
use crate::log_lines::LogLines;
use crate::support::{Answer, PATIENCE, Server};

/// A client whose token was revoked received new events as long as it stayed connected.
#[tokio::test]
async fn a_response_without_an_end_ends_when_its_client_is_revoked() {
    let path = std::env::temp_dir().join(format!("es-http-revoked-{}", std::process::id()));
    std::fs::write(&path, format!("{READER}\n{WRITER}\n")).unwrap();
    let events = async |client: Revocation| {
        let pending = futures_util::stream::pending::<Result<Event, Infallible>>();
        Sse::new(pending.take_until(Box::pin(client.revoked())))
    };
    let router = Router::new().route("/", get(events)).layer(Edge::new().tokens(Tokens::load(&path).unwrap()));
    let server = Server::start(router, ServeOptions::new()).await;
    let open = async |token: &str| {
        let mut client = server.connect().await;
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(Answer::read(&mut client).await.status, 200);
        client
    };
    let (mut revoked, mut remaining) = (open("reader").await, open("writer").await);
    std::fs::write(&path, format!("{WRITER}\n")).unwrap();
    let mut end = [0; 5];
    timeout(PATIENCE, revoked.read_exact(&mut end)).await.expect("the stream ends").unwrap();
    assert_eq!(&end, b"0\r\n\r\n", "the last chunk");
    assert!(timeout(Duration::from_millis(2500), remaining.read_u8()).await.is_err(), "the other client remains");
    std::fs::remove_file(&path).unwrap();
}

/// An operator who deleted the file to exclude all clients was not told that all tokens remain valid.
#[tokio::test(flavor = "current_thread")]
async fn an_absent_file_of_tokens_is_logged_once_and_the_former_tokens_remain() {
    let lines = LogLines::collect();
    let path = std::env::temp_dir().join(format!("es-http-absent-{}", std::process::id()));
    std::fs::write(&path, READER).unwrap();
    let source = Tokens::load(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let server = Server::start(protected(source), ServeOptions::new()).await;
    let logged = || lines.text().lines().filter(|line| line.contains("could not find the files")).count();
    for failed_checks in [0, 0, 1, 1] {
        assert_eq!(send(&server, "GET", "/", &["Authorization: Bearer reader"]).await.status, 200);
        assert_eq!(logged(), failed_checks);
        sleep(Duration::from_millis(1100)).await;
    }
}
