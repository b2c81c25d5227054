//! [`ServiceError`]: the error of a request to a running service.

/// The error of a request to a service.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The service could not be reached.
    #[error("it did not respond: {detail}; check the address and whether the service runs")]
    Call {
        /// The cause.
        detail: String,
    },
    /// The response is incomplete or not the expected JSON.
    #[error("it sent an unexpected response: {detail}; check that the address is that of the operations of a service")]
    Answer {
        /// The cause.
        detail: String,
    },
    /// The service refused the request.
    #[error("{detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The reason.
        detail: String,
    },
    /// A job of the service failed or was stopped.
    #[error("{detail}")]
    Job {
        /// The reason.
        detail: String,
    },
}
