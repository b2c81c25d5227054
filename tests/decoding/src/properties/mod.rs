//! Properties that the decoders must have for any bytes.
//!
//! Each function panics if a property does not hold. It uses the bytes twice: it decodes them, and it generates a valid
//! value from them, which it encodes, changes and decodes.

pub(crate) mod generated;
mod import;
mod key;
mod line;
mod log;
pub(crate) mod record;
mod session;
mod wire;

pub use import::imports;
pub use key::keys;
pub use line::lines;
pub use log::{frame_of, frames, log_records};
pub use record::{every_bit, records, sealed};
pub use session::sessions;
pub use wire::{wire_frame_of, wire_frames};
