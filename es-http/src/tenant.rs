//! [`Tenant`]: the tenant of a request.

use std::sync::Arc;

/// The longest name of a tenant, in bytes.
const MAX_TENANT_BYTES: usize = 128;

/// The customer, or another unit of isolation, to which a request belongs: 1 to 128 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// Creates a tenant; `None` if the name is empty, too long or has other characters.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Option<Self> {
        let name = name.into();
        let is_valid = (1..=MAX_TENANT_BYTES).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
        is_valid.then_some(Self(name))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_visible_characters() {
        assert!(Tenant::new("a").is_some() && Tenant::new("x".repeat(128)).is_some());
        for invalid in ["", "a b", "ä", "a\n", &"x".repeat(129)] {
            assert_eq!(Tenant::new(invalid), None);
        }
    }
}
