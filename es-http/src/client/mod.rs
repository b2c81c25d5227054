//! [`Authenticated`]: the client of a request, and its credentials.

mod credentials;
mod known;

use std::fmt;

pub use credentials::ClientCertificate;
pub(crate) use credentials::Credentials;
pub(crate) use known::{KnownClient, WatchRevocation};

use crate::Tenant;

/// The permissions of a client. Each role includes the roles before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Queries.
    Read,
    /// Commands.
    Write,
    /// The administration of the service, such as the reset of a projection.
    Operate,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Operate => "operate",
        })
    }
}

/// The client of a request. An extractor: the response is 401 if no [`Edge`](crate::Edge) with tokens is around the
/// route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// The name of the owner of the token.
    pub name: String,
    /// The role of the token.
    pub role: Role,
    /// The tenant of the token, which becomes that of the [context](crate::RequestContext).
    pub tenant: Option<Tenant>,
}
