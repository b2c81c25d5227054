//! Clients that are slow, idle or numerous, and the drain. The deadlines are short, the assertions generous: a busy
//! machine may be late, never early.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Request};
use axum::response::sse::{Event, Sse};
use axum::routing::{get, post};
use es_http::{Draining, ServeOptions};
use futures_util::{StreamExt, stream};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{Answer, PATIENCE, Server, child, closed, printed};

/// A short deadline.
const SHORT: Duration = Duration::from_millis(300);
/// Longer than the interval at which idle connections are closed for a new one.
const SLOT_PAUSES: Duration = Duration::from_millis(2500);
/// A deadline that a test does not reach.
const LONG: Duration = Duration::from_secs(60);

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn router() -> Router {
    Router::new()
        .route("/", get(async || "hello"))
        .route("/echo", post(async |body: Bytes| body.len().to_string()))
        .route("/slow", get(async || sleep(LONG).await))
        .route("/large", get(async || Body::from_stream(stream::repeat_with(|| Ok::<_, axum::Error>(vec![0; 65536])))))
        .route("/events", get(events))
        .route("/flood", get(flood))
        .route("/polite", get(polite))
}

async fn events() -> Sse<impl futures_util::Stream<Item = Result<Event, axum::Error>>> {
    Sse::new(stream::pending())
}

/// Server-sent events faster than any client reads.
async fn flood() -> Sse<impl futures_util::Stream<Item = Result<Event, axum::Error>>> {
    Sse::new(stream::repeat_with(|| Ok(Event::default().data("x".repeat(10_000)))))
}

async fn polite(draining: Draining) -> Sse<impl futures_util::Stream<Item = Result<Event, axum::Error>>> {
    Sse::new(stream::pending().take_until(Box::pin(draining.requested())))
}

fn patient() -> ServeOptions {
    ServeOptions::new()
        .header_deadline(LONG)
        .idle_deadline(LONG)
        .body_deadline(LONG)
        .stall_deadline(LONG)
        .drain_deadline(LONG)
}

fn head(length: usize) -> String {
    format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_used_one_is_not() {
    let server = Server::start(router(), patient().idle_deadline(SHORT * 10)).await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        client.write_all(GET).await.unwrap();
        assert_eq!(Answer::read(&mut client).await.body, "hello");
        sleep(SHORT).await;
    }
    let (waited, rest) = closed(&mut client).await;
    assert!(waited >= SHORT && rest.is_empty(), "{waited:?} {rest:?}");
}

#[tokio::test]
async fn a_connection_without_a_complete_head_is_closed() {
    let server = Server::start(router(), patient().header_deadline(SHORT)).await;
    let mut silent = server.connect().await;
    let (waited, rest) = closed(&mut silent).await;
    assert!(waited >= SHORT / 2 && rest.is_empty(), "{waited:?}");
    // A byte from time to time does not extend the deadline.
    let mut slow = server.connect().await;
    let start = Instant::now();
    for byte in GET.iter().cycle() {
        if slow.write_all(&[*byte]).await.is_err() || start.elapsed() > PATIENCE {
            break;
        }
        sleep(SHORT / 3).await;
    }
    assert!(start.elapsed() < PATIENCE, "the connection is still open after {:?}", start.elapsed());
    assert_eq!(server.send(std::str::from_utf8(GET).unwrap()).await.body, "hello");
}

/// A head that began before the response to the former request had the deadline of idle connections, so that a client
/// with a part of a head kept its connection for longer.
#[tokio::test]
async fn a_head_that_begins_before_the_response_has_the_deadline_of_heads() {
    let late = async |_: Bytes| sleep(SHORT).await;
    let router = router().route("/late", get(async || sleep(SHORT).await).post(late));
    let server = Server::start(router, patient().header_deadline(SHORT * 3)).await;
    let (get, chunks) =
        ("GET /late HTTP/1.1\r\nHost: a\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
    let post = "POST /late HTTP/1.1\r\nHost: a\r\n";
    let requests = [get.to_owned(), format!("{post}Content-Length: 4\r\n\r\nbody"), format!("{post}{chunks}")];
    let expect_deadlines = async |request: &String| {
        // The next request begins in the same segment as the present one, or while its handler runs.
        for pause in [Duration::ZERO, SHORT / 4] {
            let mut slow = server.connect().await;
            let (in_segment, later) = if pause.is_zero() { ("GET /late HT", "") } else { ("", "GET /late HT") };
            slow.write_all(format!("{request}{in_segment}").as_bytes()).await.unwrap();
            sleep(pause).await;
            slow.write_all(later.as_bytes()).await.unwrap();
            assert_eq!(Answer::read(&mut slow).await.status, 200, "{request:?}");
            let (waited, rest) = closed(&mut slow).await;
            assert!(waited >= SHORT && rest.is_empty(), "{request:?}: {waited:?} {rest:?}");
        }
        let mut idle = server.connect().await;
        for _ in 0..2 {
            idle.write_all(request.as_bytes()).await.unwrap();
            assert_eq!(Answer::read(&mut idle).await.status, 200, "{request:?}");
            let read = tokio::io::AsyncReadExt::read_u8(&mut idle);
            assert!(timeout(SHORT * 4, read).await.is_err(), "an idle connection is closed: {request:?}");
        }
    };
    futures_util::future::join_all(requests.iter().map(expect_deadlines)).await;
}

#[tokio::test]
async fn a_body_that_stalls_is_408() {
    let server = Server::start(router(), patient().stall_deadline(SHORT * 4).minimum_rate(100)).await;
    let answer = server.send(&format!("{}half", head(100))).await;
    assert_eq!(answer.problem(408), "the body of the request did not arrive in time");
    assert_eq!(answer.header("connection"), Some("close"));
    // A body that makes progress may take longer than the period.
    let mut steady = server.connect().await;
    steady.write_all(head(5000).as_bytes()).await.unwrap();
    for _ in 0..10 {
        steady.write_all(&[b'x'; 500]).await.unwrap();
        sleep(SHORT).await;
    }
    assert_eq!(Answer::read(&mut steady).await.body, "5000");
}

#[tokio::test]
async fn a_body_that_trickles_is_408_at_its_deadline() {
    let server =
        Server::start(router(), patient().body_deadline(SHORT * 2).stall_deadline(SHORT).minimum_rate(1)).await;
    let mut client = server.connect().await;
    client.write_all(head(1000).as_bytes()).await.unwrap();
    let start = Instant::now();
    while start.elapsed() < SHORT * 4 && client.write_all(b"xxxx").await.is_ok() {
        sleep(SHORT / 5).await;
    }
    Answer::read(&mut client).await.problem(408);
}

#[tokio::test]
async fn a_body_that_is_too_long_is_413() {
    let server = Server::start(router(), patient().max_body_bytes(10)).await;
    assert_eq!(server.send(&format!("{}0123456789", head(10))).await.body, "10");
    let declared = server.send(&head(11)).await;
    assert_eq!(declared.problem(413), "the body of a request must have at most 10 bytes");
    let chunked = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n6\r\n012345\r\n";
    server.send(chunked).await.problem(413);
}

#[tokio::test]
async fn bodies_that_exceed_the_memory_for_all_bodies_are_503() {
    let server = Server::start(router(), patient().max_body_bytes_in_flight(1500)).await;
    let mut first = server.connect().await;
    first.write_all(format!("{}{}", head(900), "x".repeat(800)).as_bytes()).await.unwrap();
    sleep(SHORT * 3).await;
    let refused = server.send(&format!("{}{}", head(900), "x".repeat(800))).await;
    assert!(refused.problem(503).contains("too many bodies"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    first.write_all("x".repeat(100).as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&mut first).await.body, "900");
    // The memory is returned with the answer.
    assert_eq!(server.send(&format!("{}{}", head(900), "x".repeat(900))).await.body, "900");
}

/// A body in frames of one byte uses far more memory than its length, which alone was counted.
#[tokio::test]
async fn each_frame_of_a_body_counts() {
    let server = Server::start(router(), patient().max_body_bytes_in_flight(1000)).await;
    let chunked = |frames: usize| {
        let frames = "1\r\nx\r\n".repeat(frames);
        format!("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{frames}0\r\n\r\n")
    };
    assert_eq!(server.send(&chunked(10)).await.body, "10");
    server.send(&chunked(20)).await.problem(503);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected() {
    let server = Server::start(router(), patient().stall_deadline(SHORT).minimum_rate(1_000_000)).await;
    for path in ["/large", "/flood"] {
        let mut client = server.connect().await;
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        sleep(SHORT * 6).await;
        let (_, received) = closed(&mut client).await;
        assert!(!received.is_empty(), "{path}");
    }
    // A client that reads receives far more than the buffers of the sockets hold.
    let mut reader = server.connect().await;
    reader.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let (start, mut total, mut buffer) = (Instant::now(), 0, vec![0; 65536]);
    while start.elapsed() < SHORT * 6 {
        let read = tokio::io::AsyncReadExt::read(&mut reader, &mut buffer).await.unwrap();
        assert!(read > 0, "disconnected after {total} bytes");
        total += read;
    }
}

#[tokio::test]
async fn a_handler_ends_when_its_client_leaves() {
    let (started, mut ends) = mpsc::unbounded_channel();
    let handler = async move || {
        let (running, ended) = oneshot::channel::<()>();
        started.send(ended).unwrap();
        sleep(LONG).await;
        drop(running);
    };
    let router = Router::new().route("/", get(handler.clone()).post(async move |_: Bytes| handler().await));
    let server = Server::start(router, patient()).await;
    for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"] {
        let mut client = server.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        let end_of_handler = timeout(PATIENCE, ends.recv()).await.unwrap().unwrap();
        drop(client);
        assert!(timeout(PATIENCE, end_of_handler).await.expect("the handler ends").is_err(), "it has no result");
    }
}

#[tokio::test]
async fn requests_that_are_sent_before_the_response_are_answered_in_turn() {
    let slow = async |Path(number): Path<String>| {
        sleep(SHORT / 4).await;
        number
    };
    let server = Server::start(Router::new().route("/{number}", get(slow)), patient()).await;
    let mut client = server.connect().await;
    for burst in [1, 2, 3] {
        for number in 0..burst {
            // Each request arrives while the handler of the first one runs.
            client.write_all(format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
            sleep(SHORT / 20).await;
        }
        for number in 0..burst {
            assert_eq!(Answer::read(&mut client).await.body, number.to_string());
        }
    }
}

#[tokio::test]
async fn a_body_that_arrives_before_it_is_read_is_complete() {
    let late = async |request: Request| {
        sleep(SHORT).await;
        String::from_utf8(to_bytes(request.into_body(), 100).await.unwrap().to_vec()).unwrap()
    };
    let server = Server::start(Router::new().route("/echo", post(late)), patient()).await;
    let mut client = server.connect().await;
    for _ in 0..2 {
        client.write_all(head(6).as_bytes()).await.unwrap();
        sleep(SHORT / 4).await;
        client.write_all(b"abcdef").await.unwrap();
        assert_eq!(Answer::read(&mut client).await.body, "abcdef");
    }
}

#[tokio::test]
async fn a_long_body_is_received() {
    let server = Server::start(router(), patient()).await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        client.write_all(head(1024 * 1024).as_bytes()).await.unwrap();
        client.write_all(&vec![b'x'; 1024 * 1024]).await.unwrap();
        assert_eq!(Answer::read(&mut client).await.body, "1048576");
    }
}

/// The limit of the server applies, and not the 2 MiB that the extractors of axum accept by default.
#[tokio::test]
async fn the_maximum_of_the_server_replaces_that_of_axum() {
    let server = Server::start(router(), patient().max_body_bytes(4 * 1024 * 1024)).await;
    let mut client = server.connect().await;
    client.write_all(head(3 * 1024 * 1024).as_bytes()).await.unwrap();
    client.write_all(&vec![b'x'; 3 * 1024 * 1024]).await.unwrap();
    assert_eq!(Answer::read(&mut client).await.body, "3145728");
}

#[tokio::test]
async fn further_connections_wait_until_one_ends() {
    let server = Server::start(router(), patient().max_connections(2)).await;
    let (mut first, _second) = (server.connect().await, server.connect().await);
    first.write_all(GET).await.unwrap();
    assert_eq!(Answer::read(&mut first).await.body, "hello");
    let mut third = server.connect().await;
    third.write_all(GET).await.unwrap();
    assert!(timeout(SHORT, third.readable()).await.is_err(), "answered beyond the maximum");
    drop(first);
    assert_eq!(Answer::read(&mut third).await.body, "hello");
}

/// Idle connections at the maximum kept all others from being answered until their deadline, also probes.
#[tokio::test]
async fn an_idle_connection_is_closed_for_a_new_one_at_the_maximum() {
    let server = Server::start(router(), patient().max_connections(2)).await;
    let mut idle = [server.connect().await, server.connect().await];
    for client in &mut idle {
        client.write_all(GET).await.unwrap();
        assert_eq!(Answer::read(client).await.body, "hello");
    }
    sleep(SLOT_PAUSES).await;
    idle[0].write_all(GET).await.unwrap();
    assert_eq!(Answer::read(&mut idle[0]).await.body, "hello", "nobody waits for a connection");
    assert_eq!(server.send(std::str::from_utf8(GET).unwrap()).await.body, "hello");
}

/// A client that read many times faster than the minimum rate was disconnected: the operating systems report what it
/// reads in steps of 100 KiB.
#[tokio::test]
async fn a_client_that_reads_slowly_but_fast_enough_is_not_disconnected() {
    let server = Server::start(router(), patient().stall_deadline(SHORT).minimum_rate(20_000)).await;
    let mut client = server.connect().await;
    client.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut buffer = vec![0; 4000];
    for _ in 0..80 {
        sleep(Duration::from_millis(100)).await;
        tokio::io::AsyncReadExt::read_exact(&mut client, &mut buffer).await.expect("the client remains connected");
    }
}

/// A deadline of `Duration::MAX` panicked in the first request with a body, and in the drain.
#[tokio::test]
async fn the_longest_deadlines_are_none() {
    let longest = Duration::MAX;
    let options = ServeOptions::new().header_deadline(longest).idle_deadline(longest).body_deadline(longest);
    let server = Server::start(router(), options.stall_deadline(longest).drain_deadline(longest)).await;
    let mut client = server.connect().await;
    client.write_all(head(1).as_bytes()).await.unwrap();
    sleep(SHORT).await;
    client.write_all(b"x").await.unwrap();
    assert_eq!(Answer::read(&mut client).await.body, "1");
    let mut reader = server.connect().await;
    reader.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    sleep(SHORT).await;
    drop((client, reader));
    assert_eq!(server.stop().await.0.aborted, 0);
}

/// Fault: a slow client kept the service from stopping.
#[tokio::test]
async fn a_drain_takes_no_longer_than_its_deadline() {
    let server = Server::start(router(), patient().drain_deadline(SHORT)).await;
    let mut clients = Vec::new();
    for request in
        ["GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", "GET /events HTTP/1.1\r\nHost: a\r\n\r\n", "GET /", &head(9)]
    {
        let mut client = server.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        clients.push(client);
    }
    sleep(SHORT).await;
    let (drained, elapsed) = server.stop().await;
    assert!(drained.aborted >= 3, "{drained:?}");
    assert!(drained.complete().is_err_and(|error| error.aborted == drained.aborted));
    assert!((SHORT..PATIENCE).contains(&elapsed), "{elapsed:?}");
}

#[tokio::test]
async fn a_drain_ends_idle_connections_and_polite_streams_at_once() {
    let server = Server::start(router(), patient()).await;
    let (mut idle, mut stream) = (server.connect().await, server.connect().await);
    idle.write_all(GET).await.unwrap();
    Answer::read(&mut idle).await;
    stream.write_all(b"GET /polite HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    Answer::read(&mut stream).await;
    let (drained, elapsed) = server.stop().await;
    assert_eq!(drained.complete(), Ok(()));
    assert!(elapsed < PATIENCE, "{elapsed:?}");
    closed(&mut idle).await;
}

#[tokio::test]
#[ignore = "runs in a process of its own"]
async fn server_with_few_descriptors() {
    let server = Server::start(router(), patient()).await;
    println!("address {}", server.address);
    // The parent ends the process by closing its standard input.
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await.unwrap().unwrap();
    let (drained, _) = server.stop().await;
    assert_eq!(drained.aborted, 0);
}

/// Fault: without a free descriptor a server ended, or used a whole processor (case 14 is of the same kind). Idle
/// clients kept all others from being answered.
#[tokio::test]
async fn a_server_without_descriptors_neither_ends_nor_spins() {
    let mut process = child("limits::server_with_few_descriptors", 40);
    let address: std::net::SocketAddr = printed(&mut process, "address").parse().unwrap();
    let clients: Vec<TcpStream> =
        stream::iter(0..60).then(|_| async { TcpStream::connect(address).await.unwrap() }).collect().await;
    sleep(SHORT).await;
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
        let fields: Vec<u64> = stat.split(' ').skip(13).take(2).map(|field| field.parse().unwrap()).collect();
        fields[0] + fields[1]
    };
    let before = ticks();
    sleep(Duration::from_secs(1)).await;
    assert!(ticks() - before < 50, "the server used {} of 100 ticks while it waited", ticks() - before);
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(GET).await.unwrap();
    assert_eq!(Answer::read(&mut client).await.body, "hello", "idle connections are closed for it");
    drop((client, clients));
    drop(process.stdin.take());
    assert!(process.wait().unwrap().success());
}

#[tokio::test]
#[ignore = "runs in a process of its own"]
async fn thousand_half_sent_bodies() {
    let server = Server::start(router(), ServeOptions::new()).await;
    let part = vec![b'x'; 200_000];
    let mut clients = Vec::new();
    for _ in 0..1000 {
        let mut client = server.connect().await;
        client.write_all(head(400_000).as_bytes()).await.unwrap();
        // The server may have refused the body and closed the connection.
        let _ = timeout(SHORT, client.write_all(&part)).await;
        clients.push(client);
    }
    sleep(SHORT).await;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("peak {}", peak.trim().trim_end_matches(" kB"));
}

#[tokio::test]
async fn a_thousand_half_sent_bodies_use_less_than_100_megabytes() {
    let mut process = child("limits::thousand_half_sent_bodies", 4000);
    let peak: u64 = printed(&mut process, "peak").parse().unwrap();
    assert!(process.wait().unwrap().success());
    assert!(peak < 100_000, "{peak} kB");
}
