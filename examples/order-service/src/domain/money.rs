//! Money and quantities, exact to the last digit.
//!
//! Sums and products are either exact or an [`Inexact`] error; they are never rounded on the way, and never panic.
//! Rounding happens once, where a [`Revenue`] is shown: to cents, half to even.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize, Serializer};

use super::Invalid;

/// An amount has more digits than can be kept exactly, which are 28. Nothing was rounded: split the amount, or give its
/// factors with fewer digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an amount that is exact in 28 digits, found one with more; give fewer digits or smaller numbers")]
pub struct Inexact;

/// Defines a decimal number within bounds.
macro_rules! decimal {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $fits:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "Decimal", into = "Decimal")]
        pub struct $name(Decimal);

        impl $name {
            /// The number.
            #[must_use]
            pub const fn get(self) -> Decimal {
                self.0
            }
        }

        impl TryFrom<Decimal> for $name {
            type Error = Invalid;

            fn try_from(number: Decimal) -> Result<Self, Invalid> {
                let fits: fn(&Decimal) -> bool = $fits;
                if fits(&number) { Ok(Self(number)) } else { Err(Invalid::new($expected, &number.to_string())) }
            }
        }

        impl From<$name> for Decimal {
            fn from(number: $name) -> Self {
                number.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                plain_decimal(text).ok_or_else(|| Invalid::new($expected, text))?.try_into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

decimal! {
    /// What one piece costs.
    Price, "a price: a decimal number of at least 0, exact in 28 digits", |price| *price >= Decimal::ZERO
}

decimal! {
    /// Which part of the price is not asked for: 0.15 is 15 percent off.
    Discount, "a discount: a decimal number from 0 to 1, exact in 28 digits",
    |discount| (Decimal::ZERO..=Decimal::ONE).contains(discount)
}

impl Discount {
    /// No discount.
    pub const NONE: Self = Self(Decimal::ZERO);
}

/// Reads digits with an optional sign and point. `rust_decimal` would read `1_000`, too.
fn plain_decimal(text: &str) -> Option<Decimal> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'-');
    if is_plain { Decimal::from_str_exact(text).ok() } else { None }
}

/// How many pieces: at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantity(NonZeroU32);

impl Quantity {
    /// The number, from 1.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl FromStr for Quantity {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let expected = "a quantity: a whole number from 1 to 4294967295";
        text.parse().map(Self).map_err(|_| Invalid::new(expected, text))
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An exact amount of money that was earned: a sum of unit price × quantity × (1 − discount).
///
/// It is kept in two parts, so that a long sum of amounts with many digits behind the point stays exact. It is shown in
/// cents, rounded half to even.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revenue {
    /// What stands before the point.
    whole: Decimal,
    /// What stands behind it: at least 0, less than 1.
    fraction: Decimal,
}

impl Revenue {
    /// Nothing.
    pub const ZERO: Self = Self { whole: Decimal::ZERO, fraction: Decimal::ZERO };
    /// Above this, whole and cents together would have more digits than a [`Decimal`].
    const LIMIT: Decimal = Decimal::from_parts(0, 0, 1_000_000, false, 0);

    /// What is earned with some pieces of a product.
    ///
    /// # Errors
    /// [`Inexact`] when the product has too many digits.
    pub fn of(unit_price: Price, quantity: Quantity, discount: Discount) -> Result<Self, Inexact> {
        let asked = Decimal::ONE.checked_sub(discount.get()).ok_or(Inexact)?;
        let amount = exact_product(exact_product(unit_price.get(), quantity.get().into())?, asked)?;
        Self { whole: amount.trunc(), fraction: amount.fract() }.plus(Self::ZERO)
    }

    /// The sum of both.
    ///
    /// # Errors
    /// [`Inexact`] when the sum is too large.
    pub fn plus(self, other: Self) -> Result<Self, Inexact> {
        // NOTE: two fractions are less than 2, which with 28 digits behind the point still fits: this sum is exact.
        let fraction = self.fraction + other.fraction;
        let whole = self.whole.checked_add(other.whole).and_then(|whole| whole.checked_add(fraction.trunc()));
        let whole = whole.filter(|whole| *whole < Self::LIMIT).ok_or(Inexact)?;
        Ok(Self { whole, fraction: fraction.fract() })
    }

    /// What is left when a part of it is taken away.
    ///
    /// # Errors
    /// [`Inexact`] when the part is more than the whole.
    pub fn minus(self, part: Self) -> Result<Self, Inexact> {
        let borrowed = if self.fraction < part.fraction { Decimal::ONE } else { Decimal::ZERO };
        // NOTE: both fractions are at least 0 and less than 1, and so is what is left with what was borrowed.
        let fraction = self.fraction + borrowed - part.fraction;
        let whole = self.whole.checked_sub(part.whole).and_then(|whole| whole.checked_sub(borrowed)).ok_or(Inexact)?;
        if whole.is_sign_negative() && !whole.is_zero() { Err(Inexact) } else { Ok(Self { whole, fraction }) }
    }

    /// The sum of all.
    ///
    /// # Errors
    /// [`Inexact`] when the sum is too large.
    pub fn sum(revenues: impl IntoIterator<Item = Result<Self, Inexact>>) -> Result<Self, Inexact> {
        revenues.into_iter().try_fold(Self::ZERO, |sum, revenue| sum.plus(revenue?))
    }

    /// Two numbers that are in the order of the amounts: what stands before the point, and what stands behind it in units of
    /// the 28th digit.
    #[must_use]
    pub fn in_order(self) -> (i128, i128) {
        let mut fraction = self.fraction;
        fraction.rescale(28);
        (self.whole.normalize().mantissa(), fraction.mantissa())
    }

    /// The amount in cents, rounded half to even.
    #[must_use]
    pub fn rounded(self) -> Decimal {
        // NOTE: only the fraction decides how to round, and the whole is below its limit: this sum is exact.
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

/// Revenue as it is kept: exactly, in its two parts. What is shown is rounded, and must not be added up.
pub mod exact {
    use rust_decimal::Decimal;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use super::Revenue;

    /// Writes both parts.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(revenue: &Revenue, serializer: S) -> Result<S::Ok, S::Error> {
        (revenue.whole.normalize(), revenue.fraction.normalize()).serialize(serializer)
    }

    /// Reads both parts.
    ///
    /// # Errors
    /// Those of the deserializer, and where the parts are not those of an amount.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Revenue, D::Error> {
        let (whole, fraction) = <(Decimal, Decimal)>::deserialize(deserializer)?;
        let is_amount = whole.fract().is_zero()
            && (Decimal::ZERO..Revenue::LIMIT).contains(&whole)
            && (Decimal::ZERO..Decimal::ONE).contains(&fraction);
        if is_amount { Ok(Revenue { whole, fraction }) } else { Err(de::Error::custom("expected an amount of money")) }
    }
}

/// `rust_decimal` rounds a product with more than 28 digits; this does not.
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

    fn shown(price: &str, quantity: &str, discount: &str) -> String {
        revenue(price, quantity, discount).expect("it is exact").to_string()
    }

    #[test]
    fn numbers_outside_of_their_bounds_are_refused() {
        for price in ["-0.01", "", "1e3", "1_000", "NaN", "12,50", "--1", &"9".repeat(30), &format!("0.{:030}", 1)] {
            assert!(price.parse::<Price>().is_err(), "{price:?}");
        }
        for discount in ["-0.1", "1.01", "x"] {
            assert!(discount.parse::<Discount>().is_err(), "{discount:?}");
        }
        for quantity in ["0", "-3", "1.5", "", "4294967296"] {
            assert!(quantity.parse::<Quantity>().is_err(), "{quantity:?}");
        }
    }

    #[test]
    fn what_is_stored_is_checked_when_it_is_read() {
        assert!(serde_json::from_str::<Price>("\"-1\"").is_err());
        assert!(serde_json::from_str::<Quantity>("0").is_err());
        assert_eq!(serde_json::to_string(&"9.80".parse::<Price>().expect("a price")).ok(), Some("\"9.80\"".into()));
    }

    #[test]
    fn halves_of_cents_are_rounded_to_even() {
        assert_eq!(shown("0.005", "1", "0"), "0.00");
        assert_eq!(shown("0.015", "1", "0"), "0.02");
        assert_eq!(shown("0.0250000000000000000001", "1", "0"), "0.03");
        assert_eq!(shown("7.995", "1", "0"), "8.00");
        assert_eq!(shown("5", "1", "0"), "5.00");
    }

    #[test]
    fn a_sum_is_rounded_once() {
        let third = revenue("0.333", "1", "0");
        assert_eq!(Revenue::sum([third, third, third]).map(|sum| sum.to_string()), Ok("1.00".into()));
    }

    #[test]
    fn a_discount_that_was_a_float_stays_exact() {
        let line = revenue("19.45", "21", "0.15000000596046448");
        assert_eq!(line.map(|line| line.fraction), Ok("0.182497565448283144".parse().expect("a number")));
        let many = std::iter::repeat_n(line, 100_000);
        assert_eq!(Revenue::sum(many).map(|sum| sum.to_string()), Ok("34718249.76".into()));
    }

    #[test]
    fn what_is_taken_away_was_there() {
        let all = revenue("0.10", "3", "0").and_then(|a| a.plus(revenue("7.05", "1", "0.5")?)).expect("exact");
        let part = revenue("0.95", "1", "0.1").expect("exact");
        let rest = all.minus(part).expect("it is less");
        assert_eq!(rest.plus(part), Ok(all));
        assert_eq!(part.minus(all), Err(Inexact));
        assert_eq!(all.minus(all), Ok(Revenue::ZERO));
    }

    #[test]
    fn what_is_kept_is_exact_and_in_order() {
        #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
        struct Kept(#[serde(with = "exact")] Revenue);
        let amounts =
            [("0", "1", "0"), ("0.1", "1", "0.333"), ("0.1", "1", "0.3"), ("1", "1", "0"), ("19.99", "7", "0.05")];
        let kept: Vec<Kept> = amounts.iter().map(|(p, q, d)| Kept(revenue(p, q, d).expect("exact"))).collect();
        for pair in kept.windows(2) {
            assert!(pair[0].0.in_order() < pair[1].0.in_order(), "{pair:?}");
            let json = serde_json::to_string(&pair[1]).expect("JSON");
            assert_eq!(&serde_json::from_str::<Kept>(&json).expect("the same"), &pair[1]);
        }
        for no_amount in ["[\"1.5\",\"0\"]", "[\"-1\",\"0\"]", "[\"1\",\"1\"]", "[\"1\",\"-0.5\"]"] {
            assert!(serde_json::from_str::<Kept>(no_amount).is_err(), "{no_amount}");
        }
    }

    #[test]
    fn what_cannot_be_exact_is_an_error_and_no_panic() {
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
