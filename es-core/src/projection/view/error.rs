//! [`ViewError`].

use crate::schema::codec::{DecodeContentError, EncodeError};
use crate::store::StoreError;

/// A view could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The declaration of the view differs from that of its stored rows: in the keys, the codec or the orders.
    /// Increment the version of the projection. During the rebuild, read again when it has finished.
    #[error(
        "view {view:?} is stored with another declaration: expected {expected}, found {found}; \
         increment the version of its projection"
    )]
    Redeclared {
        /// The view.
        view: &'static str,
        /// The description of the declaration.
        expected: String,
        /// The description of the stored rows.
        found: String,
    },
    /// The view does not declare this order. Declare it with
    /// [`View::ordered_by`](crate::projection::view::View::ordered_by), and increment the version of the projection.
    #[error("view {view:?} has no order {order:?}; declare it, and increment the version of its projection")]
    NoSuchOrder {
        /// The view.
        view: &'static str,
        /// The order.
        order: &'static str,
    },
    /// A row is stored under another sort key than the order computes now. The computation was changed: rename the
    /// order, or increment the version of the projection.
    #[error(
        "view {view:?}: a row is stored under another sort key than order {order:?} computes; rename the order, or \
         increment the version of its projection"
    )]
    Misplaced {
        /// The view.
        view: &'static str,
        /// The order.
        order: &'static str,
    },
    /// A stored key cannot be decoded, although its shape matches. Rebuild the projection.
    #[error("view {view:?}: expected a key of shape {shape}, found {found}; rebuild the projection")]
    Key {
        /// The view.
        view: &'static str,
        /// The shape of the keys.
        shape: String,
        /// The bytes of the key, with escapes.
        found: String,
    },
    /// A stored value cannot be decoded. Increment the version of the projection when the type of the values changes.
    #[error("view {view:?}: could not decode a value; increment the version of its projection")]
    Value {
        /// The view.
        view: &'static str,
        /// The failure.
        source: DecodeContentError,
    },
    /// A value cannot be encoded with the codec of the view. Correct its type.
    #[error("view {view:?}: could not encode a value; correct its type")]
    Encode {
        /// The view.
        view: &'static str,
        /// The failure.
        source: EncodeError,
    },
    /// A rebuilt view replaced the one that was being scanned. Start the scan again.
    #[error("view {view:?} was rebuilt during the scan; start the scan again")]
    Rebuilt {
        /// The view.
        view: &'static str,
    },
    /// The text is not a continuation of a scan. Start the scan again.
    #[error("expected the continuation of a scan, found {found:?}; start the scan again")]
    Continuation {
        /// The text.
        found: String,
    },
}
