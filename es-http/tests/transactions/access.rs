//! Who may call a participant.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode, header};
use es_http::transactions::{HttpParticipantOptions, ParticipantRouter, ParticipantRouterError};
use es_http::{ServeOptions, Tls};
use es_transaction::{Participant, ParticipantError, ParticipantState, Vote};
use tower::ServiceExt;

use crate::log_lines::LogLines;
use crate::seats::{Seats, reserve, reserved};
use crate::support::{Server, chain, client, epoch, file, prepare, routes, tokens, transaction};

/// Checks that a call was refused, and returns its message.
fn refusal(error: &ParticipantError) -> String {
    assert!(matches!(error, ParticipantError::Refused { .. }), "{}", chain(error));
    chain(error)
}

#[tokio::test]
async fn a_client_without_a_valid_token_is_refused() {
    let seats = Arc::new(Seats::default());
    let server = Server::of(&seats).await;
    let id = transaction("orders.7");
    let clients = [server.client("other"), client(&server.url(), HttpParticipantOptions::new())];
    for client in clients {
        let text = refusal(&client.prepare(&prepare(&id), &reserve(2)).await.unwrap_err());
        let expected = format!("POST {}/prepare was answered with 401", server.url());
        assert!(text.contains(&expected) && text.contains("expected a valid token"), "{text}");
    }
    assert!(seats.state().transactions.is_empty());
}

#[tokio::test]
async fn a_client_for_reads_cannot_change_anything() {
    let server = Server::of(&Arc::default()).await;
    let (client, id) = (server.client("reader"), transaction("orders.7"));
    assert_eq!(client.status(&id).await.unwrap().state, ParticipantState::Unknown);
    let text = refusal(&client.in_doubt(&epoch("orders.9")).await.unwrap_err());
    assert!(text.contains("403") && text.contains("expected the role write"), "{text}");
    client.in_doubt(&epoch("orders.1")).await.unwrap_err();
    let writer = server.client("shop");
    assert_eq!(writer.in_doubt(&epoch("orders.1")).await.unwrap(), [], "nothing was fenced");
}

#[tokio::test(flavor = "current_thread")]
async fn a_client_acts_only_for_its_coordinator() {
    let lines = LogLines::collect();
    let seats = Arc::new(Seats::default());
    let server = Server::of(&seats).await;
    let (shop, bank, id) = (server.client("shop"), server.client("bank"), transaction("orders.7"));
    shop.prepare(&prepare(&id), &reserve(2)).await.unwrap();
    let errors = [
        bank.prepare(&prepare(&id), &reserve(2)).await.unwrap_err(),
        bank.pre_commit(&id, &reserved(2)).await.unwrap_err(),
        bank.commit(&id, &reserved(2)).await.unwrap_err(),
        bank.abort(&id, None).await.unwrap_err(),
        bank.status(&id).await.unwrap_err(),
        bank.forget(&id).await.unwrap_err(),
        bank.in_doubt(&epoch("orders.99")).await.unwrap_err(),
        shop.in_doubt(&epoch("unknown.1")).await.unwrap_err(),
    ];
    for error in &errors {
        let text = refusal(error);
        assert!(text.contains("403") && text.contains("must not act for coordinator"), "{text}");
    }
    assert_eq!(shop.status(&id).await.unwrap().state, ParticipantState::Prepared);
    assert!(seats.state().epochs.is_empty() && seats.state().forgotten.is_empty());
    let log = lines.text();
    let warnings = log.lines().filter(|line| line.contains("refused a call for a coordinator"));
    let warnings: Vec<serde_json::Value> = warnings.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(warnings.len(), errors.len(), "{log}");
    let first = &warnings[0];
    assert_eq!((&first["level"], &first["fields"]["client"]), (&"WARN".into(), &"bank".into()), "{first}");
    assert_eq!(first["fields"]["coordinator"], "orders", "{first}");
}

#[test]
fn routes_need_authentication_and_a_coordinator() {
    let router = || ParticipantRouter::new(Arc::new(Seats::default()));
    let error = router().coordinator("orders", "shop").build().unwrap_err();
    assert!(matches!(error, ParticipantRouterError::NoAuthentication { .. }), "{error}");
    let error = router().tokens(tokens()).build().unwrap_err();
    assert!(matches!(error, ParticipantRouterError::NoCoordinator { .. }), "{error}");
    let error = router().tokens(tokens()).coordinator("Orders", "shop").build().unwrap_err();
    assert!(matches!(error, ParticipantRouterError::Coordinator(_)), "{error}");
}

#[tokio::test]
async fn without_authentication_only_this_machine_is_answered() {
    let router = ParticipantRouter::new(Arc::new(Seats::default())).unauthenticated_on_loopback();
    let router = Router::new().nest("/transactions", router.coordinator("orders", "shop").build().unwrap());
    let request = || Request::get(format!("/transactions/status/{}", transaction("orders.7")));
    for peer in [None, Some("192.0.2.1:9")] {
        let mut request = request().body(Body::empty()).unwrap();
        if let Some(peer) = peer {
            request.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
        }
        assert_eq!(router.clone().oneshot(request).await.unwrap().status(), StatusCode::FORBIDDEN, "{peer:?}");
    }
    let mut request = request().header(header::HOST, "evil.example").body(Body::empty()).unwrap();
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 9))));
    assert_eq!(router.clone().oneshot(request).await.unwrap().status(), StatusCode::MISDIRECTED_REQUEST);
    let server = Server::start(router, ServeOptions::new()).await;
    let client = client(&server.url(), HttpParticipantOptions::new());
    assert_eq!(client.in_doubt(&epoch("orders.7")).await.unwrap(), []);
    refusal(&client.in_doubt(&epoch("payments.7")).await.unwrap_err());
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_call() {
    let request = Request::post("/transactions/in-doubt").header(header::AUTHORIZATION, "Bearer shop");
    let request =
        request.header(header::CONTENT_TYPE, "application/json").header(header::ORIGIN, "https://evil.example");
    let request = request.body(Body::from(r#"{"epoch": "orders.9"}"#)).unwrap();
    let response = routes(&Arc::default()).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
}

/// Starts a participant whose clients need a certificate of the test authority.
async fn mutual(seats: &Arc<Seats>) -> (Server, String) {
    let tls = Tls::load_mutual(file("server.pem"), file("server.key.pem"), file("authority.pem")).unwrap();
    let server = Server::start(routes(seats), ServeOptions::new().tls(tls)).await;
    let url = format!("https://localhost:{}/transactions", server.address.port());
    (server, url)
}

#[tokio::test]
async fn a_client_certificate_is_an_identity() {
    let seats = Arc::new(Seats::default());
    let (_server, url) = mutual(&seats).await;
    let options = HttpParticipantOptions::new().authorities(file("authority.pem"));
    let known = options.client_certificate(file("client.pem"), file("client.key.pem"));
    let (client, id) = (client(&url, known), transaction("orders.7"));
    assert_eq!(client.prepare(&prepare(&id), &reserve(2)).await.unwrap(), Vote::Prepared(reserved(2)));
    client.commit(&id, &reserved(2)).await.unwrap();
    assert_eq!(seats.state().reserved, 2);
    refusal(&client.in_doubt(&epoch("payments.1")).await.unwrap_err());
}

#[tokio::test]
async fn a_missing_or_foreign_certificate_is_refused() {
    let seats = Arc::new(Seats::default());
    let (_server, url) = mutual(&seats).await;
    let trusted = || HttpParticipantOptions::new().authorities(file("authority.pem")).token("shop");
    let cases = [
        ("no certificate", trusted()),
        ("a foreign one", trusted().client_certificate(file("foreign.pem"), file("foreign.key.pem"))),
        ("a server of another authority", HttpParticipantOptions::new().authorities(file("foreign.pem")).token("shop")),
    ];
    for (name, options) in cases {
        let (start, client) = (Instant::now(), client(&url, options));
        let error = client.in_doubt(&epoch("orders.7")).await.unwrap_err();
        let text = chain(&error);
        assert!(matches!(error, ParticipantError::Unavailable { .. }), "{name}: {text}");
        // The connection can be reset before the alert is read; then the call is repeated until its deadline.
        let reasons = [format!("could not call POST {url}/in-doubt"), "/in-doubt did not succeed within".to_owned()];
        assert!(reasons.iter().any(|reason| text.contains(reason)), "{name}: {text}");
        assert!(start.elapsed() < Duration::from_secs(30), "{name}: {:?}, {text}", start.elapsed());
    }
    assert!(seats.state().epochs.is_empty());
}
