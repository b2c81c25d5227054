//! Personal data for [`es_core`]: values encrypted under a key per person. Destroying the key erases the person from
//! the log, the views, the exports and the backups (crypto-shredding).
//!
//! ```text
//!   at the edge                     domain, log, snapshots, views, exports, backups          at the edge
//!   PersonalData::seal  ──►  Personal<T>: subject, nonce, ciphertext; never the value  ──►  PersonalData::open
//!         │                                                                                      │
//!         └──────────────── KeyStore: the keys of subjects, outside of the store ────────────────┘
//!                                      destroyed by PersonalData::erase  ──►  Opened::Erased
//! ```
//!
//! A [`Personal<T>`] contains only ciphertext. A command, an event, a state, a snapshot, a row of a view, a command
//! result and a log message that contain one therefore contain no personal data, and `decide`, `evolve` and `apply`
//! stay synchronous functions without keys. Values are sealed before a command is executed, and opened where a person
//! reads them: in a handler, or in a reactor that sends a mail.
//!
//! ```
//! # use std::sync::Arc;
//! # use es_core::prelude::*;
//! # use es_core::store::memory::MemoryStore;
//! # use es_core::retention::Note;
//! # use es_core::model::SubjectId;
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! use es_personal::{MemoryKeyStore, Opened, Personal, PersonalData, PersonalField};
//!
//! const EMAIL: PersonalField<String> = PersonalField::new("customer-email");
//!
//! let personal = PersonalData::new(Arc::new(MemoryKeyStore::new())); // `FileKeyStore` in production
//! let subject = SubjectId::new("7c9e6679")?;
//! let email: Personal<String> = personal.seal(&EMAIL, &subject, &"ada@example.org".to_owned()).await?;
//! assert!(!format!("{email:?} {}", serde_json::to_string(&email)?).contains("ada"));
//! assert_eq!(personal.open(&EMAIL, &email).await?, Opened::Value("ada@example.org".to_owned()));
//!
//! # let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
//! personal.erase(store.clone(), &subject, Note::default()).await?;
//! assert_eq!(personal.open(&EMAIL, &email).await?, Opened::Erased);
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it protects
//!
//! AES-256-GCM authenticates each value with its key id, its subject and its field: a value that was changed, or moved
//! to another subject or field, does not open ([`OpenError::Unauthentic`], [`OpenError::NoKey`]). The ciphertext is as
//! long as the value plus 16 bytes. It is not bound to a stream or an event, because states and views copy it.
//!
//! Each value has a random nonce of 96 bits. A key may seal up to 2³² values, after which the probability of a
//! repeated nonce exceeds 2⁻³³. Keys are not rotated: a subject keeps its keys until it is erased.
//!
//! A value names its key by a [`KeyId`]. So nodes that replicate events can each create a key of one subject while they
//! are cut off from each other, and a [`KeyStore`] keeps the keys of other nodes beside its own. Without replication, a
//! subject has one key.
//!
//! # What it does not protect
//!
//! - Everything that is not in a `Personal`: names of streams and subjects, tags, unique keys, metadata, times. Use
//!   random ids, and [`PersonalData::fingerprint`] for a unique key or a tag.
//! - Copies of opened values: logs of the application, mails, other systems. A reactor hears of the erasure.
//! - Old copies of the keys. Back up keys for a shorter time than you may keep an erased person, and call
//!   [`PersonalData::finish_erasures`] after a restore: the log knows who was erased.

mod cipher;
mod data;
mod error;
mod field;
mod file;
mod key;
mod key_store;
mod memory;

pub use data::{Opened, PersonalData};
pub use error::{EraseError, KeyStoreError, OpenError, SealError};
pub use field::{Personal, PersonalField};
pub use file::FileKeyStore;
pub use key::{DataKey, KeyId};
pub use key_store::{KeyState, KeyStore};
pub use memory::MemoryKeyStore;
