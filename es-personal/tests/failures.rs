//! Failures around an erasure, and what the errors of this crate print.
#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use es_core::model::{ErrorChain, SubjectId};
use es_core::retention::Note;
use es_core::store::memory::MemoryStore;
use es_core::{Commit, EventStore};
use es_personal::{
    DataKey, EraseError, FileKeyStore, KeyId, KeyState, KeyStore, KeyStoreError, MemoryKeyStore, OpenError, Opened,
    Personal, PersonalData, PersonalField, SealError,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};

const EMAIL: PersonalField<String> = PersonalField::new("customer-email");
const PLAIN: &str = "ada@example.org";

fn subject(name: &str) -> SubjectId {
    SubjectId::new(name).unwrap()
}

async fn seal(personal: &PersonalData, subject: &SubjectId) -> Personal<String> {
    personal.seal(&EMAIL, subject, &PLAIN.to_owned()).await.unwrap()
}

fn as_type<T>(sealed: &Personal<String>) -> Personal<T> {
    serde_json::from_value(serde_json::to_value(sealed).unwrap()).unwrap()
}

/// A type whose `Serialize` prints the value in its error.
struct Talkative(&'static str);

impl Serialize for Talkative {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(self.0))
    }
}

#[derive(Debug, Deserialize)]
enum Topic {}

/// The errors of serde print the value that they reject. A reactor that opened a value as another type stored this text
/// as the reason of a parked event, in the clear, and no erasure removed it.
#[tokio::test]
async fn no_error_contains_a_value() {
    let personal = PersonalData::new(Arc::new(MemoryKeyStore::new()));
    let sealed = seal(&personal, &subject("7c9e")).await;
    let is_silent = |error: &(dyn std::error::Error + 'static)| {
        let printed = format!("{error:?} {}", ErrorChain(error));
        assert!(!printed.contains("ada"), "{printed}");
    };
    let number = PersonalField::<u64>::new("customer-email");
    let number = personal.open(&number, &as_type(&sealed)).await.expect_err("it is a text");
    assert!(matches!(number, OpenError::Decode { column: 17, .. }), "{number}");
    is_silent(&number);
    let topic = PersonalField::<Topic>::new("customer-email");
    let topic = personal.open(&topic, &as_type(&sealed)).await.expect_err("it is a text");
    assert!(matches!(topic, OpenError::Decode { .. }), "{topic}");
    is_silent(&topic);
    let talkative = PersonalField::<Talkative>::new("topic");
    let not_sealed = personal.seal(&talkative, &subject("7c9e"), &Talkative(PLAIN)).await.expect_err("it fails");
    assert!(matches!(not_sealed, SealError::Encode { .. }), "{not_sealed}");
    is_silent(&not_sealed);
    is_silent(&personal.fingerprint(&talkative, &Talkative(PLAIN)).await.expect_err("it fails"));
}

/// Returns the file of a subject in the directory of a key store.
fn file(directory: &Path, subject: &SubjectId, extension: &str) -> PathBuf {
    let hash = blake3::hash(subject.as_str().as_bytes()).to_hex();
    directory.join(format!("{hash}.{extension}"))
}

async fn record_erasure(store: &MemoryStore, subject: &SubjectId) {
    store.commit(Commit::erase_subject(subject.clone(), Note::default())).await.unwrap();
}

/// A destruction failed after its record was written. `finish_erasures` took the record for a finished destruction, and
/// the key stayed on the disk until the process started again.
#[tokio::test]
async fn finish_erasures_finishes_a_destruction_that_was_only_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    let personal = PersonalData::new(Arc::new(FileKeyStore::open(&path).await.unwrap()));
    let (store, ada) = (MemoryStore::new(), subject("7c9e"));
    let sealed = seal(&personal, &ada).await;
    record_erasure(&store, &ada).await;
    fs::write(file(&path, &ada, "erased"), ada.as_str()).unwrap();
    personal.finish_erasures(&store).await.unwrap();
    assert!(!file(&path, &ada, "key").exists(), "the key is destroyed");
    assert_eq!(personal.open(&EMAIL, &sealed).await.unwrap(), Opened::Erased);
}

/// One key of an erased subject that could not be read stopped the destruction of all others, at each start.
#[tokio::test]
async fn a_damaged_key_of_an_erased_subject_is_destroyed_as_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    let personal = PersonalData::new(Arc::new(FileKeyStore::open(&path).await.unwrap()));
    let (store, subjects) = (MemoryStore::new(), [subject("a"), subject("b")]);
    for subject in &subjects {
        seal(&personal, subject).await;
        record_erasure(&store, subject).await;
    }
    fs::write(file(&path, &subjects[0], "key"), "garbage").unwrap();
    assert_eq!(personal.finish_erasures(&store).await.unwrap(), 2);
    for subject in &subjects {
        assert!(!file(&path, subject, "key").exists(), "the key of {subject} is destroyed");
    }
}

/// A key store whose destructions send their subject, wait for a permit, and fail for one subject.
#[derive(Debug)]
struct SlowDestruction {
    keys: MemoryKeyStore,
    started: mpsc::UnboundedSender<SubjectId>,
    permits: Arc<Semaphore>,
    failing: SubjectId,
}

impl SlowDestruction {
    fn new(permits: &Arc<Semaphore>, failing: &str) -> (Arc<Self>, mpsc::UnboundedReceiver<SubjectId>) {
        let (started, receiver) = mpsc::unbounded_channel();
        let (permits, failing) = (Arc::clone(permits), subject(failing));
        (Arc::new(Self { keys: MemoryKeyStore::new(), started, permits, failing }), receiver)
    }
}

#[async_trait]
impl KeyStore for SlowDestruction {
    async fn get(&self, subject: &SubjectId, id: &KeyId) -> Result<KeyState, KeyStoreError> {
        self.keys.get(subject, id).await
    }

    async fn get_or_create(&self, subject: &SubjectId) -> Result<KeyState, KeyStoreError> {
        self.keys.get_or_create(subject).await
    }

    async fn insert(&self, subject: &SubjectId, key: &DataKey) -> Result<KeyState, KeyStoreError> {
        self.keys.insert(subject, key).await
    }

    async fn destroy(&self, subject: &SubjectId) -> Result<bool, KeyStoreError> {
        self.started.send(subject.clone()).unwrap();
        self.permits.acquire().await.unwrap().forget();
        if *subject == self.failing {
            return Err(KeyStoreError::Other("the key service is down".into()));
        }
        self.keys.destroy(subject).await
    }
}

/// A key service that rejects one subject must not keep the keys of the others.
#[tokio::test]
async fn a_key_that_cannot_be_destroyed_does_not_stop_the_others() {
    let (keys, _started) = SlowDestruction::new(&Arc::new(Semaphore::new(10)), "a");
    let personal = PersonalData::new(keys);
    let store = MemoryStore::new();
    let mut sealed = Vec::new();
    for name in ["a", "b"] {
        sealed.push(seal(&personal, &subject(name)).await);
        record_erasure(&store, &subject(name)).await;
    }
    let failed = personal.finish_erasures(&store).await.expect_err("one key is not destroyed");
    assert!(matches!(failed, EraseError::Keys(_)), "{failed}");
    assert_eq!(personal.open(&EMAIL, &sealed[0]).await.unwrap(), Opened::Value(PLAIN.to_owned()));
    assert_eq!(personal.open(&EMAIL, &sealed[1]).await.unwrap(), Opened::Erased);
}

/// While the key service rejected one subject, the follower repeated its destruction and destroyed no later key.
#[tokio::test(start_paused = true)]
async fn a_follower_destroys_later_keys_while_it_repeats_a_failed_destruction() {
    let (keys, mut started) = SlowDestruction::new(&Arc::new(Semaphore::new(10)), "a");
    let personal = PersonalData::new(keys);
    let (store, sealed) = (Arc::new(MemoryStore::new()), seal(&personal, &subject("b")).await);
    for name in ["a", "b"] {
        record_erasure(&store, &subject(name)).await;
    }
    let followed = async {
        let mut destroyed = Vec::<SubjectId>::new();
        while destroyed.iter().filter(|subject| subject.as_str() == "a").count() < 3 {
            destroyed.push(started.recv().await.unwrap());
        }
        destroyed
    };
    tokio::select! {
        () = personal.follow_erasures(store) => panic!("the store is open"),
        destroyed = tokio::time::timeout(Duration::from_secs(60), followed) => {
            let expected = ["a", "b", "a", "a"].map(subject);
            assert_eq!(destroyed.expect("the destruction is repeated"), expected);
        }
    }
    assert_eq!(personal.open(&EMAIL, &sealed).await.unwrap(), Opened::Erased);
}

/// A client disconnected after its erasure was recorded. The handler was dropped before it destroyed the key: the log
/// and the views said that the person was erased, and the values could still be opened.
#[tokio::test]
async fn an_erasure_continues_if_its_caller_is_gone() {
    let permits = Arc::new(Semaphore::new(0));
    let (keys, mut started) = SlowDestruction::new(&permits, "other");
    let personal = PersonalData::new(keys);
    let (store, ada) = (Arc::new(MemoryStore::new()), subject("7c9e"));
    let sealed = seal(&personal, &ada).await;
    {
        let erasure = personal.erase(store, &ada, Note::default());
        tokio::select! {
            _ = erasure => panic!("the destruction waits"),
            _ = started.recv() => {} // the erasure is recorded; its future is dropped here
        }
    }
    assert_eq!(personal.open(&EMAIL, &sealed).await.unwrap(), Opened::Value(PLAIN.to_owned()));
    permits.add_permits(1);
    let erased = async {
        while personal.open(&EMAIL, &sealed).await.unwrap() != Opened::Erased {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), erased).await.expect("the key is destroyed");
}

/// A key store that panics. The error says that the erasure may be recorded.
#[derive(Debug)]
struct Panicking;

#[async_trait]
impl KeyStore for Panicking {
    async fn get(&self, _: &SubjectId, _: &KeyId) -> Result<KeyState, KeyStoreError> {
        Ok(KeyState::Missing)
    }

    async fn get_or_create(&self, _: &SubjectId) -> Result<KeyState, KeyStoreError> {
        Ok(KeyState::Missing)
    }

    async fn insert(&self, _: &SubjectId, _: &DataKey) -> Result<KeyState, KeyStoreError> {
        Ok(KeyState::Missing)
    }

    async fn destroy(&self, _: &SubjectId) -> Result<bool, KeyStoreError> {
        panic!("a bug of the key store")
    }
}

#[tokio::test]
async fn a_key_store_that_panics_is_an_error_of_the_erasure() {
    let personal = PersonalData::new(Arc::new(Panicking));
    let failed = personal.erase(Arc::new(MemoryStore::new()), &subject("7c9e"), Note::default()).await;
    assert!(matches!(failed, Err(EraseError::Interrupted(_))), "{failed:?}");
}
