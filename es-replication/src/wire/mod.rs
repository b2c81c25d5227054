//! The wire protocol: messages, and the frames that carry them.
//!
//! ```text
//! magic "ESRP" | version u16 | kind u8 | flags u8 | length u32 | checksum u32 | payload
//! ```
//!
//! Numbers are little-endian. The checksum is the CRC32C of all other bytes of the frame. Bit 0 of the flags is set if
//! the payload is compressed with zstd. Payloads are in the encoding of Protocol Buffers:
//!
//! - `frame`: headers, checksums and compression.
//! - `proto`: the structs that are encoded.
//! - `command`, `event`, `key`, `knowledge`, `message`: checked conversions between these structs and the types of the
//!   crate.
//!
//! The payload of a page is a sequence of messages with length prefixes: its start, then one message for each event and
//! each gap. A receiver checks each of them before it decodes the next, so a page cannot claim more memory than its
//! frame justifies.

mod command;
mod error;
mod event;
mod frame;
mod key;
mod knowledge;
mod message;
mod proto;
#[cfg(test)]
mod tests;

pub(crate) use error::{DecodeError, EncodeError};
pub(crate) use frame::{HEADER_BYTES, Header, Kind};
pub(crate) use message::Message;
