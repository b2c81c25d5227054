//! [`Frontiers`]: what the other members know, as they reported it last.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use es_core::Timestamp;
use es_core::model::{Clock, SystemClock};

use crate::knowledge::Knowledge;

/// What a member knew when it reported last. A member that has lost its disk knows less than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frontier {
    pub(crate) knowledge: Knowledge,
    pub(crate) reported_at: Timestamp,
}

/// What the other members know, by name. A member reports it with each pull, and with each answer to a pull.
#[derive(Debug, Default)]
pub(crate) struct Frontiers(Mutex<BTreeMap<String, Frontier>>);

impl Frontiers {
    pub(crate) fn report(&self, member: &str, knowledge: &Knowledge) {
        let frontier = Frontier { knowledge: knowledge.clone(), reported_at: SystemClock::new().now() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(member.to_owned(), frontier);
    }

    pub(crate) fn all(&self) -> BTreeMap<String, Frontier> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
