//! Wait-die: the strategy against deadlocks.

use es_core::model::TransactionId;

/// What a transaction does that finds a resource locked by another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockAnswer {
    /// It waits until the lock is released.
    Wait,
    /// It does not wait until the vote is due. The participant votes no, and the caller may begin a new transaction.
    Die,
}

/// Returns what a transaction does that needs a lock of another transaction.
///
/// An older transaction waits for a younger one, and a younger one dies (Rosenkrantz, Stearns, Lewis 1978). Waits lead
/// from older to younger transactions only, so they form no cycle, also across participants that know nothing of each
/// other. A participant may let the younger one wait for a short time first: a cycle then ends after that time. A
/// repeated call of the same transaction waits for the first one.
#[must_use]
pub fn on_locked(asking: &TransactionId, holder: &TransactionId) -> LockAnswer {
    if asking <= holder { LockAnswer::Wait } else { LockAnswer::Die }
}

#[cfg(test)]
mod tests {
    use es_core::model::CoordinatorEpoch;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn id(coordinator: &str, uuid: u128) -> TransactionId {
        TransactionId::new(CoordinatorEpoch::new(coordinator, 1).unwrap(), Uuid::from_u128(uuid))
    }

    #[test]
    fn an_older_transaction_waits_and_a_younger_one_dies() {
        let (older, younger) = (id("z", 1), id("a", 2));
        assert_eq!(on_locked(&older, &younger), LockAnswer::Wait);
        assert_eq!(on_locked(&younger, &older), LockAnswer::Die);
        assert_eq!(on_locked(&older, &older), LockAnswer::Wait);
    }

    proptest! {
        #[test]
        fn waits_form_no_circle(uuids in prop::collection::vec((0u128..8, 0u8..3), 2..8)) {
            let ids: Vec<TransactionId> =
                uuids.iter().map(|(uuid, name)| id(["a", "b", "c"][usize::from(*name)], *uuid)).collect();
            // In a circle each waits for the next one, so the first is not younger than the last.
            let pairs = ids.iter().zip(ids.iter().cycle().skip(1));
            let is_circle = pairs.clone().all(|(asking, holder)| on_locked(asking, holder) == LockAnswer::Wait);
            prop_assert!(!is_circle || pairs.clone().all(|(asking, holder)| asking == holder));
        }
    }
}
