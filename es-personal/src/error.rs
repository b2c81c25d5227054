//! The errors of sealing, opening and erasing, and of key stores.

use std::path::PathBuf;

use es_core::model::{Position, SubjectId};
use es_core::{CommitError, StoreError};

use crate::key::KeyId;

/// A key store could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyStoreError {
    /// A file could not be read or written. After a failed write, the call can be repeated.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What failed, as an infinitive.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// Another process has the directory open. Stop it, or use its handle.
    #[error("key store {} is open in another process; stop it first", directory.display())]
    Locked {
        /// The directory.
        directory: PathBuf,
    },
    /// Other users of the machine can access the directory.
    #[error(
        "key store {}: expected access for its owner only, found mode {mode:o}; run `chmod 700`",
        directory.display()
    )]
    Exposed {
        /// The directory.
        directory: PathBuf,
        /// The permission bits.
        mode: u32,
    },
    /// The file of a key is damaged. Restore it from a backup of the keys; without it the data of the subject is lost.
    #[error(
        "key of subject {subject:?}: expected a key file, found {found} in {}; restore it from a backup",
        path.display()
    )]
    Damaged {
        /// The subject.
        subject: SubjectId,
        /// The file.
        path: PathBuf,
        /// A description of the content.
        found: &'static str,
    },
    /// Another key store failed, for example a key management service.
    #[error("the key store failed")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A value could not be sealed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The subject was erased: its data is not stored again. Use a new subject if the person returns.
    #[error("subject {subject:?} was erased; use a new subject if the person returns")]
    Erased {
        /// The subject.
        subject: SubjectId,
    },
    /// The name of the subject begins with `es.`, which is reserved.
    #[error("subject {subject:?}: names that begin with \"es.\" are reserved; use another name")]
    Reserved {
        /// The subject.
        subject: SubjectId,
    },
    /// The value cannot be encoded as JSON. Change its type: the keys of a map must be texts, numbers or booleans, and
    /// its `Serialize` must not fail. The error of the serializer is not kept, because its text may contain the value.
    #[error("could not encode a value of field {field:?} as JSON; check its type")]
    Encode {
        /// The field.
        field: &'static str,
    },
    /// The value is too long to be encrypted.
    #[error("a value of field {field:?} is too long to be encrypted")]
    TooLong {
        /// The field.
        field: &'static str,
    },
    /// The key store failed.
    #[error(transparent)]
    Keys(#[from] KeyStoreError),
}

/// A value could not be opened. The error does not mean that the subject was erased: that is
/// [`Opened::Erased`](crate::Opened::Erased).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The key store never had the key with which the value was sealed. Open the right one, or restore the keys. If
    /// another node has sealed the value, get its keys over the replication link. A value that was moved to another
    /// subject has no key, either.
    #[error(
        "no key {key} of subject {subject:?}, and no record that it was destroyed; check the directory of the key \
         store, restore its keys, or share the keys of the node that sealed the value"
    )]
    NoKey {
        /// The subject.
        subject: SubjectId,
        /// The key with which the value was sealed.
        key: KeyId,
    },
    /// The value was not sealed with its key as this field of this subject: it was changed, or moved to another field.
    #[error(
        "field {field:?} of subject {subject:?}: expected a value sealed for this field with the key of this subject, \
         found a changed or moved value"
    )]
    Unauthentic {
        /// The field.
        field: &'static str,
        /// The subject.
        subject: SubjectId,
    },
    /// The text is not a sealed value.
    #[error("field {field:?} of subject {subject:?}: expected a sealed value, found {found}")]
    Malformed {
        /// The field.
        field: &'static str,
        /// The subject.
        subject: SubjectId,
        /// A description of the text.
        found: &'static str,
    },
    /// The value was sealed as another type. Read it with the type with which it was sealed. The error of the
    /// deserializer is not kept, because its text contains the value.
    #[error(
        "field {field:?} of subject {subject:?}: expected the type of the sealed value, found another one (its JSON \
         differs at byte {column})"
    )]
    Decode {
        /// The field.
        field: &'static str,
        /// The subject.
        subject: SubjectId,
        /// The byte of the JSON at which the deserializer failed; the first byte is 1.
        column: usize,
    },
    /// The key store failed.
    #[error(transparent)]
    Keys(#[from] KeyStoreError),
}

/// A subject was not erased completely.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EraseError {
    /// The erasure could not be recorded in the log. The key was not destroyed. Repeat the call.
    #[error("could not record the erasure")]
    Record(#[from] CommitError),
    /// The erasure is recorded in the log, but the key may still exist. Call
    /// [`PersonalData::finish_erasures`](crate::PersonalData::finish_erasures), as at each start of the service.
    #[error("the erasure is recorded at position {position}, but the key was not destroyed; call `finish_erasures`")]
    KeyNotDestroyed {
        /// The position of the erasure.
        position: Position,
        /// The error of the key store.
        source: KeyStoreError,
    },
    /// The name of the subject begins with `es.`, which is reserved.
    #[error("subject {subject:?}: names that begin with \"es.\" are reserved; use another name")]
    Reserved {
        /// The subject.
        subject: SubjectId,
    },
    /// The erasures of the log could not be read.
    #[error("could not read the erasures of the log")]
    Log(#[from] StoreError),
    /// The key store failed while recorded erasures were finished. The keys of the other subjects are destroyed. Repeat
    /// the call.
    #[error("could not destroy the key of an erased subject")]
    Keys(#[from] KeyStoreError),
    /// The runtime was shut down during the erasure, or the event store or the key store panicked. The erasure may be
    /// recorded. Repeat the call.
    #[error("the erasure was interrupted; repeat it")]
    Interrupted(#[source] Box<dyn std::error::Error + Send + Sync>),
}
