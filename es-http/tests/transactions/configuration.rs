//! What a client of a participant is created with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use es_http::TlsError;
use es_http::transactions::{HttpParticipant, HttpParticipantError, HttpParticipantOptions};
use es_transaction::Participant;

use crate::seats::Seats;
use crate::support::{RemoteSeats, Server, client, epoch, file};

fn refused(url: &str, options: HttpParticipantOptions) -> HttpParticipantError {
    let created: Result<RemoteSeats, _> = HttpParticipant::new("seats", url, options);
    created.unwrap_err()
}

#[test]
fn clear_text_to_another_machine_must_be_permitted() {
    let options = HttpParticipantOptions::new;
    for url in ["http://bank.example/transactions", "http://10.0.0.1:80"] {
        let error = refused(url, options().token("x"));
        assert!(matches!(&error, HttpParticipantError::ClearText { url: found, .. } if found == url), "{error}");
        let created: Result<RemoteSeats, _> = HttpParticipant::new("seats", url, options().allow_clear_text());
        created.unwrap();
    }
    let error = refused("https://bank.example", options());
    assert!(matches!(error, HttpParticipantError::NoAuthorities { .. }), "{error}");
    let error = refused("bank.example", options());
    assert!(matches!(error, HttpParticipantError::Url { .. }), "{error}");
    assert!(error.to_string().ends_with("found \"bank.example\""), "{error}");
}

#[test]
fn files_and_tokens_are_checked_when_the_client_is_created() {
    let url = "https://bank.example";
    let trusted = || HttpParticipantOptions::new().authorities(file("authority.pem"));
    for (options, expected) in [
        (HttpParticipantOptions::new().authorities(file("absent.pem")), "could not read certificates in PEM from "),
        (trusted().client_certificate(file("client.pem"), file("absent.pem")), "could not read a private key in PEM"),
        (trusted().client_certificate(file("client.pem"), file("client.pem")), "could not read a private key in PEM"),
        (trusted().client_certificate(file("client.pem"), file("server.key.pem")), "could not use the certificate or"),
        (trusted().token("a b"), "expected a token of visible ASCII characters"),
        (trusted().token(""), "expected a token of visible ASCII characters"),
        (trusted().token_file(file("absent")), "could not read the token in "),
    ] {
        let error = refused(url, options).to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let mismatch = refused(url, trusted().client_certificate(file("client.pem"), file("server.key.pem")));
    assert!(matches!(mismatch, HttpParticipantError::Tls(TlsError::Invalid { .. })), "{mismatch}");
}

#[test]
fn a_token_is_not_printed() {
    let options = HttpParticipantOptions::new().token("secret");
    assert!(!format!("{options:?}").contains("secret"));
    let created: RemoteSeats = HttpParticipant::new("seats", "http://127.0.0.1:1", options).unwrap();
    assert!(!format!("{created:?}").contains("secret"));
    let url = "http://a:secret@bank.example";
    let error = refused(url, HttpParticipantOptions::new()).to_string();
    assert!(!error.contains("secret"), "{error}");
}

#[tokio::test]
async fn a_renewed_token_is_used_without_a_restart() {
    let server = Server::of(&Arc::new(Seats::default())).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, "expired\n").unwrap();
    let client = client(&server.url(), HttpParticipantOptions::new().token_file(&path));
    client.in_doubt(&epoch("orders.7")).await.unwrap_err();
    std::fs::write(&path, "shop\n").unwrap();
    let start = Instant::now();
    while client.in_doubt(&epoch("orders.7")).await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(20), "the file is not read again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
