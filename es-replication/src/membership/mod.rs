//! The operations on the members of a replicated log, and what follows from the reports of the members.
//!
//! ```text
//!   operator: join, leave, retire --> events in the stream es.membership --> Group, the same on every node
//!                                                                              |
//!   reports: what each member has, and its origin --> advance: completes departures, retires dead origins
//! ```
//!
//! - `admin`: the calls of an operator. `decide`: what follows from the reports of the members.
//! - `stable`: the events that every member has.

pub(crate) mod admin;
mod decide;
pub(crate) mod stable;

pub use admin::{Membership, MembershipError};
pub use stable::{StabilityError, StableEvents};

pub(crate) use decide::waiting;
