//! A digest that is the same on every machine and in every version.

/// The FNV-1a digest: small and, unlike the hashers of the standard library, stable across machines and versions.
pub(crate) struct Fnv(u64);

impl Fnv {
    pub(crate) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Returns the digest of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> u64 {
        let mut digest = Self::new();
        digest.write(bytes);
        digest.0
    }

    /// Returns the digest of all bytes written so far.
    pub(crate) const fn value(&self) -> u64 {
        self.0
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
