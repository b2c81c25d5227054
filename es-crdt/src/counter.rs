//! [`GrowOnlyCounter`], [`Counter`] and [`BoundedCounter`].

use std::collections::BTreeMap;

use es_core::Crdt;
use serde::{Deserialize, Serialize};

/// A counter that only grows. It stops at [`u64::MAX`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrowOnlyCounter(u64);

impl Crdt for GrowOnlyCounter {}

impl GrowOnlyCounter {
    /// Returns a counter at 0.
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Adds an amount.
    pub const fn add(&mut self, amount: u64) {
        // The sum of amounts that are not negative reaches the maximum in every order.
        self.0 = self.0.saturating_add(amount);
    }

    /// Returns the sum of all amounts.
    #[must_use]
    pub const fn value(&self) -> u64 {
        self.0
    }
}

/// A counter that grows and shrinks (PN counter). The sums of both stop at [`u64::MAX`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    added: GrowOnlyCounter,
    subtracted: GrowOnlyCounter,
}

impl Crdt for Counter {}

impl Counter {
    /// Returns a counter at 0.
    #[must_use]
    pub const fn new() -> Self {
        Self { added: GrowOnlyCounter::new(), subtracted: GrowOnlyCounter::new() }
    }

    /// Adds an amount, which may be negative.
    pub const fn add(&mut self, amount: i64) {
        if amount < 0 {
            self.subtracted.add(amount.unsigned_abs());
        } else {
            self.added.add(amount.unsigned_abs());
        }
    }

    /// Returns the sum of all amounts.
    #[must_use]
    pub const fn value(&self) -> i128 {
        self.added.value() as i128 - self.subtracted.value() as i128
    }
}

/// A counter that never falls below 0, although nodes that do not reach each other subtract from it (bounded counter,
/// Balegas et al. 2015).
///
/// Each site, for example a shop, has the rights to subtract what it added and what other sites transferred to it.
/// **The commands of a site must be decided on one node**, as with any rule that a node checks on its own: `decide`
/// calls [`check`](Self::check) with the site of its node, and then returns the event. A site is a name that lasts, not
/// an origin. A node that was restored from a backup must first receive what it had written
/// (`Replica::recover` of es-replication); otherwise it spends rights twice, and the value falls below 0.
///
/// ```
/// use es_crdt::BoundedCounter;
///
/// let mut seats = BoundedCounter::new();
/// seats.add("berlin", 10);
/// seats.transfer(&"berlin", "oslo", 4);
/// assert_eq!((seats.rights(&"berlin"), seats.rights(&"oslo"), seats.value()), (6, 4, 10));
///
/// seats.check(&"oslo", 4)?;
/// seats.subtract(&"oslo", 4);
/// let error = seats.check(&"oslo", 1).expect_err("no rights are left");
/// assert_eq!(error.to_string(), "expected rights for 1, found 0; transfer rights from another site");
/// # Ok::<(), es_crdt::InsufficientRights>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(serialize = "S: Serialize", deserialize = "S: Deserialize<'de> + Ord"))]
pub struct BoundedCounter<S> {
    #[serde(with = "crate::pairs")]
    sites: BTreeMap<S, Site>,
}

/// The rights that a site received, and those that it spent or gave away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Site {
    received: GrowOnlyCounter,
    spent: GrowOnlyCounter,
}

/// A site does not have the rights to subtract an amount, or to transfer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected rights for {wanted}, found {rights}; transfer rights from another site")]
pub struct InsufficientRights {
    /// The amount.
    pub wanted: u64,
    /// The rights of the site.
    pub rights: u64,
}

impl<S> Default for BoundedCounter<S> {
    fn default() -> Self {
        Self { sites: BTreeMap::new() }
    }
}

impl<S> Crdt for BoundedCounter<S> {}

impl<S: Ord> BoundedCounter<S> {
    /// Returns a counter at 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Checks that a site may subtract or transfer an amount.
    ///
    /// # Errors
    /// [`InsufficientRights`] if it may not: let another site transfer rights, or decide there.
    pub fn check(&self, site: &S, amount: u64) -> Result<(), InsufficientRights> {
        let rights = self.rights(site);
        if amount <= rights { Ok(()) } else { Err(InsufficientRights { wanted: amount, rights }) }
    }

    /// Adds an amount. The site gets the rights to subtract it.
    pub fn add(&mut self, site: S, amount: u64) {
        self.sites.entry(site).or_default().received.add(amount);
    }

    /// Subtracts an amount that the site has [checked](Self::check).
    pub fn subtract(&mut self, site: &S, amount: u64)
    where
        S: Clone,
    {
        self.sites.entry(site.clone()).or_default().spent.add(amount);
    }

    /// Transfers rights, which the site has [checked](Self::check), to another site.
    pub fn transfer(&mut self, from: &S, to: S, amount: u64)
    where
        S: Clone,
    {
        self.subtract(from, amount);
        self.add(to, amount);
    }

    /// Returns the amount that a site may subtract.
    #[must_use]
    pub fn rights(&self, site: &S) -> u64 {
        self.sites.get(site).map_or(0, Site::rights)
    }

    /// Returns the value: the rights of all sites. It is negative if a site spent rights twice.
    #[must_use]
    pub fn value(&self) -> i128 {
        self.sites.values().map(Site::balance).sum()
    }
}

impl Site {
    const fn rights(&self) -> u64 {
        self.received.value().saturating_sub(self.spent.value())
    }

    const fn balance(&self) -> i128 {
        self.received.value() as i128 - self.spent.value() as i128
    }
}
