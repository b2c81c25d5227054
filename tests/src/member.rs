//! A member of a club with a unique e-mail address: the domain of tests of unique keys.

use es_core::model::UniqueKey;
use es_core::prelude::*;
use serde::{Deserialize, Serialize};

/// An event of a member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, es_core::Event)]
pub enum MemberEvent {
    /// The member joined.
    #[event(name = "member-joined")]
    Joined {
        /// The e-mail address, which no other member has.
        email: String,
    },
    /// The member left.
    #[event(name = "member-left")]
    Left,
}

/// The state of a member.
#[derive(Clone, Debug, PartialEq, Aggregate)]
#[aggregate(category = "member", id = u64, event = MemberEvent, consistency = "linearizable")]
pub struct Member {
    /// The e-mail address of a member that has joined and not left.
    pub email: Option<String>,
}

impl Evolve for Member {
    fn initial(_: &u64) -> Self {
        Self { email: None }
    }

    fn evolve(&mut self, event: &MemberEvent, _: &EventContext<'_>) {
        self.email = match event {
            MemberEvent::Joined { email } => Some(email.clone()),
            MemberEvent::Left => None,
        };
    }
}

/// Returns the unique key of an e-mail address.
///
/// # Panics
/// If the address is not a valid name.
#[must_use]
pub fn email_key(email: &str) -> UniqueKey {
    UniqueKey::new("email", email).expect("the address is a valid name")
}

/// Joins with an e-mail address: claims its key.
#[derive(Clone, Debug)]
pub struct Join {
    /// The e-mail address.
    pub email: String,
}

/// Leaves: releases the key of the e-mail address.
#[derive(Clone, Debug)]
pub struct Leave;

/// Claims a key without an event, which the repository rejects.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// The e-mail address.
    pub email: String,
}

impl Decide<Join> for Member {
    type Rejection = std::convert::Infallible;

    fn decide(&self, Join { email }: Join, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        let key = email_key(&email);
        Ok(Decision::from(MemberEvent::Joined { email }).claiming(key))
    }
}

impl Decide<Leave> for Member {
    type Rejection = std::convert::Infallible;

    fn decide(&self, _: Leave, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        let Some(email) = &self.email else { return Ok(Decision::unchanged()) };
        Ok(Decision::from(MemberEvent::Left).releasing(email_key(email)))
    }
}

impl Decide<Reserve> for Member {
    type Rejection = std::convert::Infallible;

    fn decide(&self, command: Reserve, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(Decision::none().claiming(email_key(&command.email)))
    }
}
