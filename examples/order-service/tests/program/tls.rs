//! TLS at the public listener of the program: the roles of certificates, and renewed files.

use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::Agent;
use ureq::http::Request;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::edge::certificate;
use crate::serve::{Service, order};
use crate::support::TestDir;

/// The hash of the certificate of the test client.
const CLIENT: &str = "e2e61c8122ab27eb7e69a841dcc683b1ef46286a2939116c66306746f9cbeaa0";

fn read(name: &str) -> Vec<u8> {
    std::fs::read(certificate(name)).expect("the file of the test authority")
}

/// Returns a client that trusts the test authority.
fn client(has_certificate: bool) -> Agent {
    let authority = Certificate::from_pem(&read("authority")).expect("a certificate");
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[authority]));
    let certificate = has_certificate.then(|| {
        let key = PrivateKey::from_pem(&read("client.key")).expect("a key");
        ClientCert::new_with_certs(&[Certificate::from_pem(&read("client")).expect("a certificate")], key)
    });
    let config = Agent::config_builder().tls_config(tls.client_cert(certificate).build());
    config.http_status_as_error(false).build().into()
}

/// Sends a request on a connection of its own. Returns the status, or `None` if the handshake fails.
fn status(service: &Service, has_certificate: bool, method: &str, body: &str) -> Option<u16> {
    let url = format!("{}/orders/A-1", service.address.replace("127.0.0.1", "localhost"));
    let request = Request::builder().method(method).uri(url).header("content-type", "application/json");
    let sent = client(has_certificate).run(request.body(body.to_owned()).expect("a request"));
    sent.ok().map(|response| response.status().as_u16())
}

#[test]
fn a_certificate_has_a_role_and_a_renewed_file_needs_no_restart() {
    let dir = TestDir::new();
    let install = |name: &str| {
        dir.write("server.pem", read(name));
        dir.write("server.key.pem", read(&format!("{name}.key")));
    };
    let authorities = certificate("authority");
    install("server");
    dir.write("tokens", format!("certificate-sha256:{CLIENT} read reports\n"));
    let files = ["--tls-cert", "server.pem", "--tls-key", "server.key.pem", "--tls-client-ca", &authorities];
    let service = Service::with(&dir, &[&files[..], &["--tokens", "tokens"]].concat());
    assert!(service.address.starts_with("https://"), "{}", service.address);
    assert_eq!(status(&service, true, "GET", ""), Some(404));
    assert_eq!(status(&service, true, "PUT", &order().to_string()), Some(403));
    assert_eq!(status(&service, false, "GET", ""), None, "each client must have a certificate");
    dir.write("tokens", format!("certificate-sha256:{CLIENT} write shop\n"));
    let wait = |expected: Option<u16>, method: &str, body: &Value| {
        let start = Instant::now();
        while status(&service, true, method, &body.to_string()) != expected {
            assert!(start.elapsed() < Duration::from_secs(20), "expected {expected:?} to {method}");
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    wait(Some(201), "PUT", &order());
    // The client does not trust the certificate of another authority.
    install("foreign");
    wait(None, "PUT", &order());
    install("renewed");
    wait(Some(200), "PUT", &order());
}
