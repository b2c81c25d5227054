//! Problems of the extractors of axum.

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};

use super::Problem;

macro_rules! from_rejections {
    ($($rejection:ty)*) => {$(
        impl From<$rejection> for Problem {
            fn from(rejection: $rejection) -> Self {
                Self::new(rejection.status(), rejection.body_text())
            }
        }
    )*};
}

from_rejections!(BytesRejection PathRejection QueryRejection);
