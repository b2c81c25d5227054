//! Aggregates that declare `owner`: one node, the home, decides each stream.
//!
//! ```text
//!   not the home: ForwardingRepository --ForwardedCommand--> Peer --> Source --> Handlers --> Repository: the home
//!                          <-------------- CommandAnswer { outcome, token } --------------------------+
//!   the home:     hand_over --> es.handed-over --> (replication) --> the next home decides
//! ```
//!
//! - `hook`: refuses commits to streams that another node decides, and keeps the rows of the homes.
//! - `start`: the rows when a store opens.
//! - `handlers`: executes the commands that other nodes forward. `replica::forwarding` forwards them, and
//!   `replica::hand_over` names the next home.

pub(crate) mod error;
mod handlers;
pub(crate) mod hook;
pub(crate) mod start;

use std::collections::{BTreeMap, BTreeSet};

use es_core::model::Category;
use es_core::{Aggregate, StreamId};

pub use error::{ForwardError, HandOverError};
pub(crate) use handlers::Handlers;

/// Returns the name of the only node that can create the aggregate of a stream; `None` if every node can.
type CreatorOf = fn(&StreamId) -> Option<String>;

/// The categories of the aggregates that declare `owner`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Owners(BTreeMap<Category, CreatorOf>);

impl Owners {
    /// Adds an aggregate, if it declares `owner`.
    pub(crate) fn add<A: Aggregate>(&mut self, category: Category) {
        if A::OWNER.is_some() {
            self.0.insert(category, |stream| A::OWNER?.creator(&A::id_of(stream)?));
        }
    }

    /// Returns the function for a stream, if its aggregate declares `owner`.
    fn of(&self, stream: &StreamId) -> Option<CreatorOf> {
        self.0.get(stream.category_str()).copied()
    }

    fn categories(&self) -> BTreeSet<Category> {
        self.0.keys().cloned().collect()
    }
}
