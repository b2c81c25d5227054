//! Texts of the domain. Each has a type of its own, and is checked once, where it enters.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// The longest text, in bytes of UTF-8.
pub const MAX_BYTES: usize = 200;

/// Defines a text of 1 to [`MAX_BYTES`] bytes without control characters.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The text.
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
    /// What an order is called. It says nothing by itself.
    OrderId, "an order id of 1 to 200 bytes without control characters"
}

text! {
    /// What a customer is called. It says nothing by itself.
    CustomerId, "a customer id of 1 to 200 bytes without control characters"
}

text! {
    /// What a product is called in lists and on orders. It says nothing by itself.
    ProductId, "a product id of 1 to 200 bytes without control characters"
}

text! {
    /// What a product is called by people.
    ProductName, "a product name of 1 to 200 bytes without control characters"
}

text! {
    /// The city that an order goes to.
    City, "a city of 1 to 200 bytes without control characters"
}

text! {
    /// The country that an order goes to.
    Country, "a country of 1 to 200 bytes without control characters"
}

text! {
    /// Why an order was cancelled.
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
    fn a_text_from_outside_is_checked() {
        assert!(serde_json::from_str::<OrderId>("\"\"").is_err());
        assert_eq!(serde_json::from_str::<OrderId>("\"1\"").ok(), "1".parse().ok());
    }

    #[test]
    fn a_refusal_shows_only_the_beginning_of_what_is_long() {
        let error = "é".repeat(500).parse::<OrderId>().expect_err("it is too long");
        assert_eq!(error.found.chars().count(), 101);
    }
}
