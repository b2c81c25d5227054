//! A client that sends any bytes.

use std::path::Path;
use std::sync::Arc;

use es_replication::{NodeFiles, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::nodes::within;

pub(crate) const HELLO: u8 = 1;
pub(crate) const PULL: u8 = 3;
pub(crate) const PAGE: u8 = 4;
pub(crate) const HEARTBEAT: u8 = 8;
pub(crate) const COMMAND: u8 = 9;
pub(crate) const COMMAND_ANSWER: u8 = 10;
pub(crate) const ASK_KEY: u8 = 13;
pub(crate) const KEY: u8 = 14;

/// Returns a frame with a valid checksum.
pub(crate) fn frame(version: u16, kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = b"ESRP".to_vec();
    frame.extend(version.to_le_bytes());
    frame.extend([kind, 0]);
    frame.extend(u32::try_from(payload.len()).expect("a short payload").to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame), payload);
    frame.extend(checksum.to_le_bytes());
    frame.extend(payload);
    frame
}

/// Returns the first frame of a client.
pub(crate) fn hello(node: &str) -> Vec<u8> {
    let length = u8::try_from(node.len()).expect("a short name");
    frame(4, HELLO, &[&[0x0a, length], node.as_bytes()].concat())
}

/// A TLS connection without the protocol.
pub(crate) struct RawClient(pub(crate) TlsStream<TcpStream>);

impl RawClient {
    pub(crate) async fn connect(server: &Server, files: &NodeFiles) -> Self {
        let certificates = |path: &Path| -> Vec<_> {
            let certificates = CertificateDer::pem_file_iter(path).expect("a file");
            certificates.collect::<Result<_, _>>().expect("certificates")
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(&files.authorities));
        let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(&files.certificates), key)
            .expect("a certificate");
        let stream = TcpStream::connect(server.local_addr()).await.expect("connects");
        let name = ServerName::try_from("a").expect("a name");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        Self(stream.expect("the handshake succeeds"))
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("writes");
        self.0.flush().await.expect("writes");
    }

    /// Sends bytes. The server may have closed the connection.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok() && self.0.flush().await.is_ok()
    }

    /// Returns everything that the server sends until it closes the connection.
    pub(crate) async fn read_to_end(&mut self) -> Vec<u8> {
        let mut received = Vec::new();
        // An error closes the connection as well.
        let _ = within(self.0.read_to_end(&mut received)).await;
        received
    }
}
