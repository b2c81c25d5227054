//! Properties that the decoders must have for any bytes.
//!
//! Each function panics if a property does not hold. It uses the bytes twice: it decodes them, and it generates a valid
//! value from them, which it encodes, changes and decodes.

pub(crate) mod generated;
mod import;
mod line;
mod log;
mod memory_disk;
mod segment;
mod session;
mod wire;

pub use import::imports;
pub use line::lines;
pub use log::{frame_of, frames, log_records};
pub use segment::{segment_of, segments};
pub use session::sessions;
pub use wire::{wire_frame_of, wire_frames};

/// Flips a bit of a frame and cuts it, both chosen by `data`, and expects that neither is accepted.
fn check_changed(frame: &[u8], data: &[u8], is_accepted: impl Fn(&[u8]) -> bool) {
    let choice = data.iter().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let (byte, bit) = (choice / 8 % frame.len(), choice % 8);
    let mut flipped = frame.to_vec();
    flipped[byte] ^= 1 << bit;
    assert!(!is_accepted(&flipped), "bit {bit} of byte {byte} is not detected");
    let end = choice % frame.len();
    assert!(!is_accepted(&frame[..end]), "a frame of {end} bytes is accepted");
}
