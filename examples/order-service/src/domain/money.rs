//! Exact amounts of money and quantities.
//!
//! Sums and products are exact, or fail with [`Inexact`]; they do not round or panic. Only the display of a [`Revenue`]
//! is rounded: to cents, half to even.
//!
//! Each type has one grammar, that of [`FromStr`]: the command line, CSV files, requests and stored events go through
//! it. A new command is subject to smaller limits (`check_limit`) than an event that is read, so that every stored
//! event stays readable.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize, Serializer};

use super::Invalid;

/// An amount that needs more than 28 digits. Split the amount, or use factors with fewer digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the amount has more than 28 digits; use smaller numbers or numbers with fewer digits")]
pub struct Inexact;

/// Defines a decimal number within bounds.
macro_rules! decimal {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $fits:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Decimal);

        impl $name {
            /// Returns the number.
            #[must_use]
            pub const fn get(self) -> Decimal {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let fits: fn(&Decimal) -> bool = $fits;
                plain_decimal(text).filter(fits).map(Self).ok_or_else(|| Invalid::new($expected, text))
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(number: $name) -> Self {
                number.to_string()
            }
        }
    };
}

decimal! {
    /// The price of one item, at least 0. It is displayed and serialized with at least two decimals, unless it has no
    /// room for them in its 28 digits.
    Price, "a price: a decimal number of at least 0, exact in 28 digits", |price| *price >= Decimal::ZERO
}

impl Price {
    /// The maximum in a new order or product.
    const LIMIT: Decimal = Decimal::from_parts(1_000_000_000, 0, 0, false, 0);

    /// Checks the price of a new order or product.
    ///
    /// # Errors
    /// [`Invalid`] if the price is greater than 1,000,000,000.
    pub fn check_limit(self) -> Result<(), Invalid> {
        if self.0 <= Self::LIMIT {
            Ok(())
        } else {
            Err(Invalid::new("a price of at most 1000000000", &self.to_string()))
        }
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0;
        shown.rescale(self.0.scale().max(2));
        // A number of 28 digits has no room for decimals.
        if shown.scale() < 2 { self.0.fmt(f) } else { shown.fmt(f) }
    }
}

decimal! {
    /// A discount as a fraction of the price: 0.15 is 15 percent.
    Discount, "a discount: a decimal number from 0 to 1, exact in 28 digits",
    |discount| (Decimal::ZERO..=Decimal::ONE).contains(discount)
}

impl Discount {
    /// No discount.
    pub const NONE: Self = Self(Decimal::ZERO);
}

impl fmt::Display for Discount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Parses digits with an optional sign and decimal point. `rust_decimal` would also accept `1_000`, `1e3` and `.`, and
/// round a number that does not fit.
fn plain_decimal(text: &str) -> Option<Decimal> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'-');
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    let mut number = Decimal::from_str_exact(text).ok().filter(|_| is_plain && has_digit)?;
    if number.is_zero() {
        // There is one zero: `-0` is displayed as such.
        number.set_sign_positive(true);
    }
    Some(number)
}

/// Parses a whole number without a sign and without leading zeros, as JSON has it.
fn plain_number(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// A number of items, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantity(NonZeroU32);

impl Quantity {
    /// The maximum in a new command.
    const LIMIT: u32 = 1_000_000;

    /// Returns the number of items.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// Returns the sum, or `None` if it is too large.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.get()).map(Self)
    }

    /// Returns as many of these items as a new command can have, or `None` for no items.
    #[must_use]
    pub fn at_most_limit(items: u64) -> Option<Self> {
        let items = u32::try_from(items).unwrap_or(u32::MAX).min(Self::LIMIT);
        NonZeroU32::new(items).map(Self)
    }

    /// Checks the quantity of a new command.
    ///
    /// # Errors
    /// [`Invalid`] if the quantity is greater than 1,000,000.
    pub fn check_limit(self) -> Result<(), Invalid> {
        if self.get() <= Self::LIMIT {
            Ok(())
        } else {
            Err(Invalid::new("a quantity of at most 1000000", &self.to_string()))
        }
    }
}

impl FromStr for Quantity {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let expected = "a quantity: a whole number from 1 to 4294967295";
        let number = plain_number(text).and_then(NonZeroU32::new);
        number.map(Self).ok_or_else(|| Invalid::new(expected, text))
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An initial number of items in stock, from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InitialStock(u32);

impl InitialStock {
    /// The maximum for a new product.
    const LIMIT: u32 = 1_000_000_000;

    /// Returns the number of items.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Checks the stock of a new product.
    ///
    /// # Errors
    /// [`Invalid`] if the stock is greater than 1,000,000,000.
    pub fn check_limit(self) -> Result<(), Invalid> {
        if self.0 <= Self::LIMIT {
            Ok(())
        } else {
            Err(Invalid::new("a stock of at most 1000000000", &self.0.to_string()))
        }
    }
}

impl From<u32> for InitialStock {
    fn from(items: u32) -> Self {
        Self(items)
    }
}

impl FromStr for InitialStock {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let expected = "a stock: a whole number from 0 to 4294967295";
        plain_number(text).map(Self).ok_or_else(|| Invalid::new(expected, text))
    }
}

impl fmt::Display for InitialStock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An exact amount of revenue: a sum of unit price × quantity × (1 − discount).
///
/// The integer and fractional parts are separate numbers, so that a sum of many amounts with many decimal places stays
/// exact. The display is rounded to cents, half to even.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revenue {
    /// The integer part.
    whole: Decimal,
    /// The fractional part: at least 0, less than 1.
    fraction: Decimal,
}

impl Revenue {
    /// No revenue.
    pub const ZERO: Self = Self { whole: Decimal::ZERO, fraction: Decimal::ZERO };
    /// The exclusive maximum of `whole`. Above it, `whole` and cents together need more digits than a [`Decimal`] has.
    const LIMIT: Decimal = Decimal::from_parts(0, 0, 1_000_000, false, 0);

    /// Returns unit price × quantity × (1 − discount).
    ///
    /// # Errors
    /// [`Inexact`] if the product has too many digits.
    pub fn of(unit_price: Price, quantity: Quantity, discount: Discount) -> Result<Self, Inexact> {
        let factor = Decimal::ONE.checked_sub(discount.get()).ok_or(Inexact)?;
        let amount = exact_product(exact_product(unit_price.get(), quantity.get().into())?, factor)?;
        Self { whole: amount.trunc(), fraction: amount.fract() }.plus(Self::ZERO)
    }

    /// Adds an amount.
    ///
    /// # Errors
    /// [`Inexact`] if the sum is too large.
    pub fn plus(self, other: Self) -> Result<Self, Inexact> {
        // Exact: the sum is less than 2, and a Decimal below 2 has 28 decimal places.
        let fraction = self.fraction + other.fraction;
        let whole = self.whole.checked_add(other.whole).and_then(|whole| whole.checked_add(fraction.trunc()));
        let whole = whole.filter(|whole| *whole < Self::LIMIT).ok_or(Inexact)?;
        Ok(Self { whole, fraction: fraction.fract() })
    }

    /// Subtracts an amount that is part of this one.
    ///
    /// # Errors
    /// [`Inexact`] if `part` is greater than `self`.
    pub fn minus(self, part: Self) -> Result<Self, Inexact> {
        let borrowed = if self.fraction < part.fraction { Decimal::ONE } else { Decimal::ZERO };
        // Exact: both fractions are in [0, 1), and so is the difference after borrowing.
        let fraction = self.fraction + borrowed - part.fraction;
        let whole = self.whole.checked_sub(part.whole).and_then(|whole| whole.checked_sub(borrowed)).ok_or(Inexact)?;
        if whole.is_sign_negative() && !whole.is_zero() { Err(Inexact) } else { Ok(Self { whole, fraction }) }
    }

    /// Returns the sum of all amounts.
    ///
    /// # Errors
    /// [`Inexact`] if an amount or the sum is too large.
    pub fn sum(revenues: impl IntoIterator<Item = Result<Self, Inexact>>) -> Result<Self, Inexact> {
        revenues.into_iter().try_fold(Self::ZERO, |sum, revenue| sum.plus(revenue?))
    }

    /// Returns a sort key with the same order as the amounts: the integer part, and the fractional part × 10²⁸.
    #[must_use]
    pub fn sort_key(self) -> (i128, i128) {
        let mut fraction = self.fraction;
        fraction.rescale(28);
        (self.whole.normalize().mantissa(), fraction.mantissa())
    }

    /// Returns the amount rounded to cents, half to even.
    #[must_use]
    pub fn rounded(self) -> Decimal {
        // Exact: only the fraction is rounded, and `whole` is below its limit.
        self.whole + self.fraction.round_dp_with_strategy(2, RoundingStrategy::MidpointNearestEven)
    }
}

impl fmt::Display for Revenue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.2}", self.rounded()))
    }
}

impl Serialize for Revenue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Serde functions that store a revenue exactly, in its two parts. The default serialization is rounded for display.
pub mod exact {
    use rust_decimal::Decimal;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use super::Revenue;

    /// Serializes both parts.
    ///
    /// # Errors
    /// An error of the serializer.
    pub fn serialize<S: Serializer>(revenue: &Revenue, serializer: S) -> Result<S::Ok, S::Error> {
        (revenue.whole.normalize(), revenue.fraction.normalize()).serialize(serializer)
    }

    /// Deserializes both parts.
    ///
    /// # Errors
    /// An error of the deserializer, or an error if a part is out of range.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Revenue, D::Error> {
        let (whole, fraction) = <(Decimal, Decimal)>::deserialize(deserializer)?;
        let is_amount = whole.fract().is_zero()
            && (Decimal::ZERO..Revenue::LIMIT).contains(&whole)
            && (Decimal::ZERO..Decimal::ONE).contains(&fraction);
        if !is_amount {
            return Err(de::Error::custom("a part of the revenue is out of range"));
        }
        Ok(Revenue { whole, fraction })
    }
}

/// Returns the product; fails where `rust_decimal` would round it to 28 digits.
fn exact_product(a: Decimal, b: Decimal) -> Result<Decimal, Inexact> {
    let (a, b) = (a.normalize(), b.normalize());
    let digits = a.mantissa().checked_mul(b.mantissa()).ok_or(Inexact)?;
    Decimal::try_from_i128_with_scale(digits, a.scale() + b.scale()).map_err(|_| Inexact)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revenue(price: &str, quantity: &str, discount: &str) -> Result<Revenue, Inexact> {
        let price = price.parse().expect("a price");
        Revenue::of(price, quantity.parse().expect("a quantity"), discount.parse().expect("a discount"))
    }

    fn displayed(price: &str, quantity: &str, discount: &str) -> String {
        revenue(price, quantity, discount).expect("it is exact").to_string()
    }

    #[test]
    fn numbers_out_of_range_are_rejected() {
        let long = format!("0.{:030}", 1);
        for price in ["-0.01", "", ".", "-", "+1", "1e3", "1_000", "NaN", "12,50", "--1", &"9".repeat(30), &long] {
            assert!(price.parse::<Price>().is_err(), "{price:?}");
        }
        for discount in ["-0.1", "1.01", "x"] {
            assert!(discount.parse::<Discount>().is_err(), "{discount:?}");
        }
        for quantity in ["0", "-3", "1.5", "", "+5", "05", "4294967296"] {
            assert!(quantity.parse::<Quantity>().is_err(), "{quantity:?}");
        }
        for stock in ["-0", "+0", "00", "", "4294967296"] {
            assert!(stock.parse::<InitialStock>().is_err(), "{stock:?}");
        }
    }

    #[test]
    fn deserialized_values_are_validated() {
        // Case 26: a price was rounded, and other texts were accepted, if it came as JSON.
        for price in ["\"-1\"", "\"1_000\"", "\"1e3\"", "\"0.12345678901234567890123456789\"", "14", "14.0"] {
            assert!(serde_json::from_str::<Price>(price).is_err(), "{price}");
        }
        assert!(serde_json::from_str::<Discount>("\"1_0e-1\"").is_err());
        assert!(serde_json::from_str::<Quantity>("0").is_err());
        assert_eq!(serde_json::to_string(&"9.80".parse::<Price>().expect("a price")).ok(), Some("\"9.80\"".into()));
    }

    #[test]
    fn a_price_has_at_least_two_decimals() {
        let shown = |price: &str| price.parse::<Price>().expect("a price").to_string();
        for (price, expected) in
            [("14", "14.00"), ("9.8", "9.80"), ("0.005", "0.005"), ("-0", "0.00"), ("1.", "1.00"), (".5", "0.50")]
        {
            assert_eq!(shown(price), expected);
            assert_eq!(price.parse::<Price>(), shown(price).parse());
        }
        let largest = Decimal::MAX.to_string();
        assert_eq!(shown(&largest), largest);
    }

    #[test]
    fn a_new_command_has_smaller_limits_than_a_stored_event() {
        let price = |text: &str| text.parse::<Price>().expect("a price").check_limit().is_ok();
        assert!(price("1000000000") && !price("1000000000.01") && !price(&Decimal::MAX.to_string()));
        let quantity = |text: &str| text.parse::<Quantity>().expect("a quantity").check_limit().is_ok();
        assert!(quantity("1000000") && !quantity("1000001"));
        let stock = |text: &str| text.parse::<InitialStock>().expect("a stock").check_limit().is_ok();
        assert!(stock("1000000000") && !stock("1000000001"));
    }

    #[test]
    fn half_cents_are_rounded_to_even() {
        assert_eq!(displayed("0.005", "1", "0"), "0.00");
        assert_eq!(displayed("0.015", "1", "0"), "0.02");
        assert_eq!(displayed("0.0250000000000000000001", "1", "0"), "0.03");
        assert_eq!(displayed("7.995", "1", "0"), "8.00");
        assert_eq!(displayed("5", "1", "0"), "5.00");
    }

    #[test]
    fn a_sum_is_rounded_once() {
        let third = revenue("0.333", "1", "0");
        assert_eq!(Revenue::sum([third, third, third]).map(|sum| sum.to_string()), Ok("1.00".into()));
    }

    #[test]
    fn a_discount_with_the_digits_of_a_float_stays_exact() {
        let line = revenue("19.45", "21", "0.15000000596046448");
        assert_eq!(line.map(|line| line.fraction), Ok("0.182497565448283144".parse().expect("a number")));
        let many = std::iter::repeat_n(line, 100_000);
        assert_eq!(Revenue::sum(many).map(|sum| sum.to_string()), Ok("34718249.76".into()));
    }

    #[test]
    fn subtraction_is_exact_and_never_negative() {
        let total = revenue("0.10", "3", "0").and_then(|a| a.plus(revenue("7.05", "1", "0.5")?)).expect("exact");
        let part = revenue("0.95", "1", "0.1").expect("exact");
        let difference = total.minus(part).expect("the part is smaller");
        assert_eq!(difference.plus(part), Ok(total));
        assert_eq!(part.minus(total), Err(Inexact));
        assert_eq!(total.minus(total), Ok(Revenue::ZERO));
    }

    #[test]
    fn stored_revenue_is_exact_and_sort_keys_are_in_order() {
        #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
        struct Stored(#[serde(with = "exact")] Revenue);
        let amounts =
            [("0", "1", "0"), ("0.1", "1", "0.333"), ("0.1", "1", "0.3"), ("1", "1", "0"), ("19.99", "7", "0.05")];
        let stored: Vec<Stored> = amounts.iter().map(|(p, q, d)| Stored(revenue(p, q, d).expect("exact"))).collect();
        for pair in stored.windows(2) {
            assert!(pair[0].0.sort_key() < pair[1].0.sort_key(), "{pair:?}");
            let json = serde_json::to_string(&pair[1]).expect("JSON");
            assert_eq!(&serde_json::from_str::<Stored>(&json).expect("valid JSON"), &pair[1]);
        }
        for invalid in ["[\"1.5\",\"0\"]", "[\"-1\",\"0\"]", "[\"1\",\"1\"]", "[\"1\",\"-0.5\"]"] {
            assert!(serde_json::from_str::<Stored>(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn an_amount_with_too_many_digits_is_an_error_not_a_panic() {
        let largest = Decimal::MAX.to_string();
        assert_eq!(revenue(&largest, "4294967295", "0"), Err(Inexact));
        assert_eq!(revenue("0.1234567890123456789012345678", "7", "0.05"), Err(Inexact));
        assert_eq!(revenue(&largest, "1", "0"), Err(Inexact));
        let large = revenue("10000000000000000000000000", "1", "0");
        assert!(large.is_ok());
        assert_eq!(Revenue::sum([large, large]), Err(Inexact));
        assert_eq!(revenue(&largest, "1", "1"), Ok(Revenue::ZERO));
    }
}
