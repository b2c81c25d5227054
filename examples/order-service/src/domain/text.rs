//! Text types of the domain. Each text is validated once, when it is parsed or deserialized.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// Maximum length of a text in bytes of UTF-8.
pub const MAX_BYTES: usize = 200;

/// Defines a text type of 1 to [`MAX_BYTES`] bytes without control characters.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let fits = (1..=MAX_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
                if fits { Ok(Self(text.into())) } else { Err(Invalid::new($expected, text)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

text! {
    /// The id of an order.
    OrderId, "an order id of 1 to 200 bytes without control characters"
}

text! {
    /// The id of a customer.
    CustomerId, "a customer id of 1 to 200 bytes without control characters"
}

text! {
    /// The id of a product.
    ProductId, "a product id of 1 to 200 bytes without control characters"
}

text! {
    /// The display name of a product.
    ProductName, "a product name of 1 to 200 bytes without control characters"
}

text! {
    /// The destination city of an order.
    City, "a city of 1 to 200 bytes without control characters"
}

text! {
    /// The destination country of an order.
    Country, "a country of 1 to 200 bytes without control characters"
}

text! {
    /// The reason for the cancellation of an order.
    Reason, "a reason of 1 to 200 bytes without control characters"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_any_short_text_without_control_characters() {
        for text in ["10248", "Ä b/c:d-e", "-", &"x".repeat(MAX_BYTES)] {
            assert_eq!(text.parse::<OrderId>().as_ref().map(OrderId::as_str), Ok(text));
        }
        for text in ["", "a\nb", "\u{85}", &"x".repeat(MAX_BYTES + 1)] {
            assert!(text.parse::<OrderId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_deserialized_text_is_validated() {
        assert!(serde_json::from_str::<OrderId>("\"\"").is_err());
        assert_eq!(serde_json::from_str::<OrderId>("\"1\"").ok(), "1".parse().ok());
    }

    #[test]
    fn an_error_shortens_a_long_text() {
        let error = "é".repeat(500).parse::<OrderId>().expect_err("it is too long");
        assert_eq!(error.found.chars().count(), 101);
    }
}
