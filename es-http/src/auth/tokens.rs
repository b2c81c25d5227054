//! [`Tokens`]: the tokens of a service, from a file that is read again when it changes.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::sleep;

use crate::Tenant;
use crate::client::{Authenticated, ClientCertificate, Credentials, KnownClient, Role, WatchRevocation};
use crate::reloaded::Reloaded;
use crate::server::ConnectionScope;

/// The clients of a service: bearer tokens and TLS certificates, by their SHA-256 hashes.
///
/// A file has one client on each line: the hash, the role, the name of the client, and optionally a tenant. A line that
/// begins with `#` is a comment.
///
/// ```
/// use es_http::Tokens;
///
/// let text = "
/// ## printf %s \"$TOKEN\" | sha256sum
/// sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 write shop acme
/// ## openssl x509 -in client.pem -outform der | sha256sum
/// certificate-sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752 read reports
/// ";
/// let tokens: Tokens = text.parse()?;
/// # Ok::<(), es_http::TokensError>(())
/// ```
///
/// Generate tokens at random, with at least 128 bits: the hash of a guessable token can be reversed. The time of a
/// comparison does not depend on the tokens. Clones share the tokens.
#[derive(Debug, Clone)]
pub struct Tokens(Reloaded<Vec<ClientEntry>, TokensError>);

#[derive(Debug)]
struct ClientEntry {
    proof: ProofKind,
    hash: HashWords,
    /// Shared with requests under another server than [`serve`](crate::serve).
    client: Arc<Authenticated>,
}

/// A SHA-256 hash. Words, because the comparison in constant time takes as long for a word as for a byte.
type HashWords = [u64; 4];

fn words(hash: [u8; 32]) -> HashWords {
    let (words, _) = hash.as_chunks();
    std::array::from_fn(|index| u64::from_be_bytes(words[index]))
}

/// What a client proves its identity by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProofKind {
    Token,
    Certificate,
}

/// Tokens could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The file could not be read.
    #[error("could not read the tokens in {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The failure.
        source: std::io::Error,
    },
    /// A line is invalid. Correct it. The message has no part of the line, which can be a secret.
    #[error("line {line} of the tokens: expected {expected}")]
    Line {
        /// The number of the line, from 1.
        line: usize,
        /// What the line should have.
        expected: &'static str,
    },
}

impl FromStr for Tokens {
    type Err = TokensError;

    /// Parses tokens that do not change.
    fn from_str(text: &str) -> Result<Self, TokensError> {
        let text = text.to_owned();
        Reloaded::load(Vec::new(), move || parse(&text)).map(Self)
    }
}

impl Tokens {
    /// Loads the tokens of a file. Later, requests read the file again when its time or length changes, at most once a
    /// second. If it has become invalid or cannot be read, the error is logged and the former tokens remain. A response
    /// without an end lasts until [`Revocation`](crate::Revocation) ends it.
    ///
    /// # Errors
    /// [`TokensError`] if the file cannot be read or has an invalid line.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, TokensError> {
        let path = path.into();
        Reloaded::load(vec![path.clone()], move || read(&path)).map(Self)
    }

    /// Returns a check of the file if one is due. Await it before the client of a request is determined.
    pub(crate) fn check(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.0.check()
    }

    /// Returns the client with these credentials.
    pub(super) fn client(&self, credentials: Credentials<'_>) -> Option<Arc<Authenticated>> {
        let version = self.0.version();
        let known = ConnectionScope::with_client(|known| known.as_ref()?.with(version, credentials).cloned());
        known.flatten().or_else(|| self.find(credentials))
    }

    /// Looks credentials up, and remembers the client for the further requests of the connection.
    fn find(&self, credentials: Credentials<'_>) -> Option<Arc<Authenticated>> {
        let (entries, version) = self.0.value();
        let proof = proof(credentials)?;
        let client = owner(&entries, proof)?;
        let remembered = ConnectionScope::with_client(|known| {
            let watch = self.watch(proof, client);
            Arc::clone(known.insert(KnownClient::new(version, credentials, client, watch)).client())
        });
        Some(remembered.unwrap_or_else(|| Arc::clone(client)))
    }

    /// Returns what watches a client with this proof.
    fn watch(&self, proof: Proof, client: &Arc<Authenticated>) -> WatchRevocation {
        let (tokens, client) = (self.clone(), Arc::clone(client));
        Arc::new(move || Box::pin(tokens.clone().revoked(proof, Arc::clone(&client))))
    }

    /// Waits until the client with this proof is another one, or none.
    async fn revoked(self, proof: Proof, client: Arc<Authenticated>) {
        while owner(&self.0.value().0, proof).is_some_and(|found| **found == *client) {
            sleep(REVOCATION_PERIOD).await;
            if let Some(check) = self.check() {
                check.await;
            }
        }
    }
}

/// Returns the client with this proof. All entries are compared, so that the time does not depend on which one matches.
fn owner(entries: &[ClientEntry], (kind, hash): Proof) -> Option<&Arc<Authenticated>> {
    let matching = entries.iter().filter(|entry| bool::from(entry.hash.ct_eq(&hash)) && entry.proof == kind);
    matching.fold(None, |_, entry| Some(&entry.client))
}

/// The time between two checks of a client whose response does not end.
const REVOCATION_PERIOD: Duration = Duration::from_secs(1);

/// The hash that identifies a client.
type Proof = (ProofKind, HashWords);

/// Returns what the tokens have of these credentials; `None` if the header has no bearer token.
fn proof(credentials: Credentials<'_>) -> Option<Proof> {
    Some(match credentials {
        Credentials::Authorization(value) => (ProofKind::Token, words(Sha256::digest(bearer(value)?).into())),
        Credentials::Certificate(ClientCertificate { sha256 }) => (ProofKind::Certificate, words(sha256)),
    })
}

/// The scheme of tokens, and the character after it.
const BEARER: &str = "bearer ";

/// Returns the token of a header `Authorization: Bearer TOKEN`.
fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_at_checked(BEARER.len())?;
    scheme.eq_ignore_ascii_case(BEARER).then(|| token.trim())
}

fn read(path: &Path) -> Result<Vec<ClientEntry>, TokensError> {
    let text = std::fs::read_to_string(path);
    parse(&text.map_err(|source| TokensError::Io { path: path.to_owned(), source })?)
}

fn parse(text: &str) -> Result<Vec<ClientEntry>, TokensError> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let entries = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    entries.map(|(line, text)| entry(text).map_err(|expected| TokensError::Line { line, expected })).collect()
}

/// Parses one line. The error is what was expected.
fn entry(text: &str) -> Result<ClientEntry, &'static str> {
    let mut fields = text.split_whitespace();
    let (proof, hash) =
        fields.next().and_then(hash).ok_or("sha256: or certificate-sha256: and 64 hexadecimal digits")?;
    let role = match fields.next() {
        Some("read") => Role::Read,
        Some("write") => Role::Write,
        Some("operate") => Role::Operate,
        _ => return Err("the role read, write or operate after the hash"),
    };
    let name = fields.next().ok_or("the name of the client after the role")?.to_owned();
    let tenant = fields.next().map(|tenant| Tenant::new(tenant).ok_or("a tenant of 1 to 128 visible ASCII characters"));
    if fields.next().is_some() {
        return Err("nothing after the tenant");
    }
    let client = Arc::new(Authenticated { name, role, tenant: tenant.transpose()? });
    Ok(ClientEntry { proof, hash: words(hash), client })
}

fn hash(text: &str) -> Option<(ProofKind, [u8; 32])> {
    let (proof, digits) = match text.split_once(':')? {
        ("sha256", digits) => (ProofKind::Token, digits),
        ("certificate-sha256", digits) => (ProofKind::Certificate, digits),
        _ => return None,
    };
    if digits.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(pair[0])? * 16 + digit(pair[1])?;
    }
    Some((proof, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn a_token_is_found_by_its_hash() {
        let tokens: Tokens = format!("# comment\n\n  {TEST} operate ops\n").parse().unwrap();
        let client = Authenticated { name: "ops".to_owned(), role: Role::Operate, tenant: None };
        let owner = |tokens: &Tokens, token: &str| {
            let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
            tokens.client(Credentials::Authorization(&value))
        };
        assert_eq!(owner(&tokens, "test").as_deref(), Some(&client));
        for other in ["", "Test", "te st", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"] {
            assert_eq!(owner(&tokens, other), None);
        }
        let certificate = Credentials::Certificate(ClientCertificate { sha256: Sha256::digest("test").into() });
        assert_eq!(tokens.client(certificate), None, "the hash of a token is no certificate");
        let tokens: Tokens = format!("certificate-{TEST} read a").parse().unwrap();
        assert_eq!(owner(&tokens, "test"), None);
        assert!(tokens.client(certificate).is_some());
    }

    #[test]
    fn an_invalid_line_is_named_without_its_content() {
        for (line, expected) in [
            ("secret write a", "sha256: or"),
            (&TEST[..70], "sha256: or"),
            (&TEST.replace("9f", "+f"), "sha256: or"),
            (TEST, "the role"),
            (&format!("{TEST} admin a"), "the role"),
            (&format!("{TEST} read"), "the name"),
            (&format!("{TEST} read a b c"), "nothing after"),
            (&format!("{TEST} read a ä"), "a tenant"),
        ] {
            let error = format!("\n{line}").parse::<Tokens>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("line 2 of the tokens: expected {expected}")), "{error}");
        }
    }
}
