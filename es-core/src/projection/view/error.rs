//! What can go wrong with a view.

use crate::schema::codec::{DecodeContentError, EncodeError};
use crate::store::StoreError;

/// A view could not be read, or a row not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The view was built by another declaration: other keys, another codec, other orders. Raise the version of the projection, so
    /// that it is rebuilt; where it is being rebuilt, read again when that is done.
    #[error(
        "view {view:?} was built otherwise than it is declared: expected {expected}, found {found}; \
         raise the version of its projection and let it be rebuilt"
    )]
    Redeclared {
        /// The view.
        view: &'static str,
        /// What is declared.
        expected: String,
        /// What the rows are.
        found: String,
    },
    /// The view has no such order. Declare it with [`View::ordered_by`](crate::projection::view::View::ordered_by), and raise the version of
    /// the projection.
    #[error("view {view:?} is not ordered by {order:?}; declare the order, and raise the version of its projection")]
    NoSuchOrder {
        /// The view.
        view: &'static str,
        /// The order.
        order: &'static str,
    },
    /// A row stands elsewhere in an order than the order says: what it sorts by was changed. Give the order another name, or raise
    /// the version of the projection.
    #[error(
        "view {view:?}: a row is in another place than order {order:?} gives it, so the order was changed; \
         raise the version of its projection and let it be rebuilt"
    )]
    Misplaced {
        /// The view.
        view: &'static str,
        /// The order.
        order: &'static str,
    },
    /// A key is not what the type of the keys reads. It was written by other code under the same shape.
    #[error("view {view:?}: expected a key of shape {shape}, found {found}; rebuild the projection")]
    Key {
        /// The view.
        view: &'static str,
        /// The shape of its keys.
        shape: String,
        /// The bytes, with what cannot be shown escaped.
        found: String,
    },
    /// A value is not what the type of the values reads. Raise the version of the projection when the type changes.
    #[error("view {view:?} has a value of another type; raise the version of its projection and let it be rebuilt")]
    Value {
        /// The view.
        view: &'static str,
        /// Why.
        source: DecodeContentError,
    },
    /// A value cannot be written by the codec of the view.
    #[error("view {view:?}: could not write a value; correct its type")]
    Encode {
        /// The view.
        view: &'static str,
        /// Why.
        source: EncodeError,
    },
    /// The view was rebuilt, and the new one has taken the place of the one that was being scanned. Begin the scan anew.
    #[error("view {view:?} was rebuilt since the scan began; begin the scan anew")]
    Rebuilt {
        /// The view.
        view: &'static str,
    },
    /// The text names no place in a scan. Begin the scan anew.
    #[error("expected the continuation of a scan, found {found:?}; begin the scan anew")]
    Continuation {
        /// The text.
        found: String,
    },
}
