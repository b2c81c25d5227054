//! What must hold of decoding, for any bytes.
//!
//! Each function takes any bytes and panics where a property does not hold. Bytes mean two things at once: they are decoded
//! as they are, and they are the choices from which a valid input is made, which is then encoded, changed and decoded.

mod import;
mod key;
mod line;
pub(crate) mod made;
pub(crate) mod record;

pub use import::imports;
pub use key::keys;
pub use line::lines;
pub use record::{every_bit, records, sealed};
