//! The edge of a service over real sockets.

mod conditions;
mod conversion;
mod limits;
mod support;
