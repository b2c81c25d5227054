//! Problems of the extractors of axum.

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};

use super::{BodyRefused, Problem};

macro_rules! from_rejections {
    ($($rejection:ty)*) => {$(
        impl From<$rejection> for Problem {
            fn from(rejection: $rejection) -> Self {
                Self::new(rejection.status(), rejection.body_text())
            }
        }
    )*};
}

from_rejections!(PathRejection QueryRejection);

/// 413, 408 or 503 for a body that exceeds a limit of the server, otherwise the status of axum.
impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        match BodyRefused::of(&rejection) {
            Some(refused) => refused.into(),
            None => Self::new(rejection.status(), rejection.body_text()),
        }
    }
}
