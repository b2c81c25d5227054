//! [`Payloads`]: owned payloads of decoded events.

use bytes::{Bytes, BytesMut};

/// Copies payloads. Small payloads share an allocation.
#[derive(Debug, Default)]
pub(crate) struct Payloads {
    buffer: BytesMut,
    /// The size of the next allocation.
    next_size: usize,
}

/// The sizes of the first and of the largest allocation that payloads share, in bytes. A payload keeps its whole
/// allocation alive.
pub(crate) const SHARED_BYTES: (usize, usize) = (1024, 16 * 1024);

impl Payloads {
    /// Returns an owned payload: a slice of `within` if the payload is stored there, otherwise a copy.
    pub(crate) fn take(&mut self, payload: &[u8], within: Option<&Bytes>) -> Bytes {
        if payload.len() > SHARED_BYTES.0 {
            return Bytes::copy_from_slice(payload);
        }
        if let Some(shared) = within {
            return shared.slice_ref(payload);
        }
        if self.buffer.capacity() < payload.len() {
            self.next_size = (self.next_size * 2).clamp(SHARED_BYTES.0, SHARED_BYTES.1);
            self.buffer = BytesMut::with_capacity(self.next_size);
        }
        self.buffer.extend_from_slice(payload);
        self.buffer.split().freeze()
    }
}
