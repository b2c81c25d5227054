//! [`FaultPlan`]: the faults of the provider, which depend on a seed, the key of a request and its number only.

use std::fmt;
use std::str::FromStr;

use super::record::EffectKind;
use crate::domain::Invalid;

/// A share from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Rate(f64);

impl Rate {
    /// Never.
    pub const NEVER: Self = Self(0.0);

    /// Returns whether a roll, uniform over all numbers, is within the share.
    fn includes(self, roll: u64) -> bool {
        // Exact: 53 bits are the precision of the number.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let unit = (roll >> 11) as f64 / (1_u64 << 53) as f64;
        unit < self.0
    }
}

impl FromStr for Rate {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let rate = text.parse::<f64>().ok().filter(|rate| (0.0..=1.0).contains(rate));
        rate.map(Self).ok_or_else(|| Invalid::new("a rate from 0 to 1, such as 0.2", text))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The provider is busy: 503, without an effect.
    Busy,
    /// The provider refuses for good: 422, without an effect.
    Decline,
    /// The request has its effect, and the answer is 504.
    LostAnswer,
    /// The request has its effect, and the answer comes after the client has given up waiting.
    LateAnswer,
    /// The request is delivered twice.
    Repeat,
}

/// The faults of a provider.
#[derive(Debug, Clone, Copy, Default)]
pub struct FaultPlan {
    /// The share of requests with a fault.
    pub fail_rate: Rate,
    /// The share of customers who do not pay at once.
    pub unpaid_rate: Rate,
    /// The seed.
    pub seed: u64,
}

impl FaultPlan {
    /// Returns the fault of the request number `call`, from 0, with a key.
    #[must_use]
    pub fn fault(&self, kind: EffectKind, key: &str, call: u64) -> Option<Fault> {
        if !self.fail_rate.includes(self.roll("fault", key, call)) {
            return None;
        }
        let can_decline = matches!(kind, EffectKind::Payment | EffectKind::Shipment);
        Some(match self.roll("kind", key, call) % 100 {
            0..35 => Fault::Busy,
            35..60 if can_decline => Fault::Decline,
            35..80 => Fault::LostAnswer,
            80..85 => Fault::LateAnswer,
            _ => Fault::Repeat,
        })
    }

    /// Returns whether the customer of a payment pays at once.
    #[must_use]
    pub fn pays_at_once(&self, key: &str) -> bool {
        !self.unpaid_rate.includes(self.roll("unpaid", key, 0))
    }

    /// Returns a number that is uniform over all keys and calls: FNV-1a, finished as in SplitMix64.
    fn roll(&self, purpose: &str, key: &str, call: u64) -> u64 {
        let numbers = [self.seed.to_be_bytes(), call.to_be_bytes()];
        let bytes = numbers.iter().flatten().chain(purpose.as_bytes()).chain(key.as_bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 31)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn plan(rate: &str, seed: u64) -> FaultPlan {
        FaultPlan { fail_rate: rate.parse().expect("a rate"), seed, ..FaultPlan::default() }
    }

    #[test]
    fn the_share_of_faults_is_the_rate_and_all_kinds_occur() {
        let plan = plan("0.2", 7);
        let faults: Vec<Fault> =
            (0..10_000).filter_map(|n| plan.fault(EffectKind::Payment, &format!("key {n}"), 0)).collect();
        assert!((1_800..2_200).contains(&faults.len()), "{}", faults.len());
        assert_eq!(faults.into_iter().collect::<BTreeSet<_>>().len(), 5);
        let refund = |n| plan.fault(EffectKind::Refund, &format!("key {n}"), 0);
        assert!((0..10_000).all(|n| refund(n) != Some(Fault::Decline)), "a refund is never declined");
    }

    #[test]
    fn faults_depend_on_the_seed_and_on_the_number_of_the_call() {
        let faults = |seed, call| -> Vec<_> {
            (0..100).map(|n| plan("0.5", seed).fault(EffectKind::Payment, &n.to_string(), call)).collect()
        };
        assert_eq!(faults(1, 0), faults(1, 0));
        assert_ne!(faults(1, 0), faults(2, 0));
        assert_ne!(faults(1, 0), faults(1, 1));
    }

    #[test]
    fn the_rates_0_and_1_are_never_and_always() {
        assert!((0..1_000).all(|n| plan("0", 1).fault(EffectKind::Payment, "a", n).is_none()));
        assert!((0..1_000).all(|n| plan("1", 1).fault(EffectKind::Payment, "a", n).is_some()));
        for text in ["", "-0.1", "1.1", "NaN", "x"] {
            assert!(text.parse::<Rate>().is_err(), "{text:?}");
        }
    }
}
