//! [`Credentials`]: what a client sends to prove its identity.

use axum::http::HeaderValue;

/// The certificate by which a client proved its identity in TLS. The server has verified it. It is an extension of each
/// request of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The SHA-256 hash of the certificate in DER.
    pub sha256: [u8; 32],
}

/// What a client sends to prove its identity.
#[derive(Clone, Copy)]
pub(crate) enum Credentials<'a> {
    /// The value of the header `Authorization`.
    Authorization(&'a HeaderValue),
    Certificate(ClientCertificate),
}

impl Credentials<'_> {
    pub(crate) const fn is_certificate(&self) -> bool {
        matches!(self, Self::Certificate(_))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Authorization(value) => value.as_bytes(),
            Self::Certificate(ClientCertificate { sha256 }) => sha256,
        }
    }
}
