//! [`BodyRefused`]: the error of a body that exceeds a limit of the server.

use std::error::Error;

use axum::http::StatusCode;

use super::Problem;

/// The server refused the body of a request. It is the error of the body, so that extractors can name the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyRefused {
    #[error("the body of a request must have at most {max} bytes")]
    Length { max: usize },
    #[error("the body of the request did not arrive in time")]
    Deadline,
    #[error("the service receives too many bodies at present; repeat the request later")]
    Memory,
}

impl BodyRefused {
    /// Returns the status of the response.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Length { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Deadline => StatusCode::REQUEST_TIMEOUT,
            Self::Memory => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the reason that an error has among its sources.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(refused) = error.downcast_ref() {
                return Some(*refused);
            }
            cause = error.source();
        }
        None
    }
}

impl From<BodyRefused> for Problem {
    fn from(refused: BodyRefused) -> Self {
        let detail = refused.to_string();
        let problem = match refused {
            BodyRefused::Length { max } => Self::new(refused.status(), detail).with("max_bytes", max),
            BodyRefused::Deadline => Self::new(refused.status(), detail),
            BodyRefused::Memory => Self::unavailable(detail),
        };
        problem.closing()
    }
}
