//! Personal data across crates: no file of a store, an export or a backup contains it, and destroying the key of a
//! person erases the person from all of them. Family H, "removed means erased".

use std::fs;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use clap::Parser;
use es_core::consumer::reactor::{ReactError, Reactor, ReactorContext, ReactorRunner, StartAt};
use es_core::model::{SubjectId, UniqueKey};
use es_core::prelude::*;
use es_core::projection::view::{View, Views};
use es_core::projection::{Live, LiveEvents, ProjectionOptions, RebuildFrom};
use es_core::retention::{DeleteKind, Erasure, Note, Scavenge};
use es_core::store::memory::MemoryStore;
use es_core::store::{RowScan, StoreAdmin};
use es_core::{StreamId, UnitOfWork, aggregate::snapshot};
use es_personal::{
    DataKey, EraseError, FileKeyStore, KeyId, KeyState, KeyStore, KeyStoreError, MemoryKeyStore, OpenError, Opened,
    Personal, PersonalData, PersonalField, SealError,
};
use es_rocksdb::Backups;
use es_tests::stores::{on_every_store, rocksdb};
use es_tests::supervised::{TIMEOUT, active, start, wait_until};
use serde::{Deserialize, Serialize};

type Store = Arc<dyn EventStore>;

const EMAIL: PersonalField<String> = PersonalField::new("customer-email");
const NAME: PersonalField<String> = PersonalField::new("customer-name");

/// A text that no compression makes shorter or unreadable, so that a search of bytes finds it.
const PLAIN: &str = "x7Qk2vZ9-wL4tR8-nB3yJ6@example.org";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum CustomerEvent {
    #[event(name = "customer-registered")]
    Registered { email: Personal<String> },
    #[event(name = "customer-renamed", codec = "msgpack")]
    Renamed { name: Personal<String> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(category = "customer", id = String, event = CustomerEvent, snapshot(every = 2))]
struct Customer {
    email: Option<Personal<String>>,
    name: Option<Personal<String>>,
}

impl Evolve for Customer {
    fn initial(_: &String) -> Self {
        Self { email: None, name: None }
    }

    fn evolve(&mut self, event: &CustomerEvent, _: &EventContext<'_>) {
        match event {
            CustomerEvent::Registered { email } => self.email = Some(email.clone()),
            CustomerEvent::Renamed { name } => self.name = Some(name.clone()),
        }
    }
}

/// Registers a customer. The key is a fingerprint of the address, because the event contains the text of its keys.
#[derive(Clone, Debug, Serialize)]
struct Register {
    email: Personal<String>,
    fingerprint: String,
}

#[derive(Clone, Debug, Serialize)]
struct Rename(Personal<String>);

impl Decide<Register> for Customer {
    type Rejection = es_core::model::NameError;

    fn decide(&self, command: Register, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        let key = UniqueKey::new("customer-email", command.fingerprint)?;
        Ok(Decision::from(CustomerEvent::Registered { email: command.email }).claiming(key))
    }
}

impl Decide<Rename> for Customer {
    type Rejection = std::convert::Infallible;

    fn decide(&self, Rename(name): Rename, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
        Ok(CustomerEvent::Renamed { name }.into())
    }
}

/// The sealed address of each customer, by the subject.
const EMAILS: View<String, Personal<String>> = View::new("emails");
/// The erased subjects.
const GONE: View<String, u64> = View::new("gone");

/// Keeps the row of an erased customer if `DELETES` is not set.
#[derive(Clone, Copy)]
struct Emails<const DELETES: bool>;

impl<const DELETES: bool> Projection for Emails<DELETES> {
    type Source = Customer;
    const NAME: &'static str = if DELETES { "emails" } else { "kept-emails" };

    fn apply(&self, event: &CustomerEvent, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let CustomerEvent::Registered { email } = event else { return Ok(()) };
        rows.view(&EMAILS)?.put(&email.subject().to_string(), email)
    }

    fn erased(&self, erasure: &Erasure, _: &ProjectedContext<'_>, rows: &mut Rows) -> Result<(), ApplyError> {
        let Some(subject) = erasure.subject().filter(|_| DELETES) else { return Ok(()) };
        rows.view(&EMAILS)?.delete(&subject.to_string())?;
        rows.view(&GONE)?.put(&subject.to_string(), &1)
    }
}

fn subject(name: &str) -> SubjectId {
    SubjectId::new(name).expect("a name")
}

fn in_memory() -> PersonalData {
    PersonalData::new(Arc::new(MemoryKeyStore::new()))
}

/// Registers and renames a customer whose id is also the subject.
async fn register(store: &Store, personal: &PersonalData, id: &str, email: &str) -> Repository<Customer> {
    let customers = Repository::<Customer>::new(store.clone());
    let email = email.to_owned();
    let sealed = personal.seal(&EMAIL, &subject(id), &email).await.expect("sealed");
    let fingerprint = personal.fingerprint(&EMAIL, &email).await.expect("computed");
    customers.execute(&id.to_owned(), Register { email: sealed, fingerprint }).await.expect("executed");
    let name = personal.seal(&NAME, &subject(id), &email).await.expect("sealed");
    customers.execute(&id.to_owned(), Rename(name)).await.expect("executed");
    customers.settle().await;
    customers
}

async fn email_of(customers: &Repository<Customer>, personal: &PersonalData, id: &str) -> Opened<String> {
    let state = customers.load(&id.to_owned()).await.expect("loaded").state;
    personal.open(&EMAIL, &state.email.expect("an address")).await.expect("opened")
}

/// Returns the files below a directory that contain the bytes.
fn files_with(directory: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("the directory exists") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if fs::read(&path).expect("the file is read").windows(bytes.len()).any(|window| window == bytes) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// After the key is destroyed, loads, snapshots of before, caches and views give nothing back.
#[test]
fn a_destroyed_key_erases_the_person_from_loads_snapshots_and_views() {
    on_every_store(async |store: Store| {
        let personal = in_memory();
        let cached = register(&store, &personal, "7c9e", PLAIN).await;
        register(&store, &personal, "1b2d", "bob@example.org").await;
        let snapshots = store.rows(RowScan::new(snapshot::table(), "", 10)).await.expect("scanned");
        assert!(!snapshots.is_empty(), "a snapshot from before the erasure");
        let (running, _) = start(&store, Emails::<false>, ProjectionOptions::new());
        let kept = running.projection("kept-emails").expect("it runs").clone();
        kept.wait_for(store.head().await.expect("read"), TIMEOUT).await.expect("followed");
        assert_eq!(email_of(&cached, &personal, "7c9e").await, Opened::Value(PLAIN.to_owned()));

        personal.erase(store.clone(), &subject("7c9e"), Note::default()).await.expect("erased");

        let fresh = Repository::<Customer>::new(store.clone());
        let without_snapshots = Repository::<Customer>::new(store.clone()).without_snapshots().without_cache();
        for customers in [&cached, &fresh, &without_snapshots] {
            assert_eq!(email_of(customers, &personal, "7c9e").await, Opened::Erased);
            assert_eq!(email_of(customers, &personal, "1b2d").await, Opened::Value("bob@example.org".to_owned()));
        }
        let row = Views::of::<Emails<false>>(store.clone()).view(&EMAILS).get(&"7c9e".to_owned()).await.expect("read");
        let row = row.expect("this projection keeps its row");
        assert_eq!(personal.open(&EMAIL, &row).await.expect("opened"), Opened::Erased);
        let again = personal.seal(&EMAIL, &subject("7c9e"), &PLAIN.to_owned()).await;
        assert!(matches!(again, Err(SealError::Erased { .. })), "{again:?}");
        running.shutdown(TIMEOUT).await.expect("it stops");
    });
}

/// A projection receives the erasure of the person, in the background, in a rebuild and live.
#[test]
fn views_drop_an_erased_person() {
    on_every_store(async |store: Store| {
        let personal = in_memory();
        register(&store, &personal, "7c9e", PLAIN).await;
        register(&store, &personal, "1b2d", "bob@example.org").await;
        let (running, emails) = start(&store, Emails::<true>, ProjectionOptions::new().partitions(3));
        let mut live = Live::fold(store.clone(), Emails::<true>, LiveEvents::All).await.expect("folded");
        assert_eq!(live.view(&EMAILS).scan().read().len(), 2);
        personal.erase(store.clone(), &subject("7c9e"), Note::default()).await.expect("erased");
        live.refresh().await.expect("refreshed");
        let rows: Vec<String> = live.view(&EMAILS).scan().read().into_iter().map(|(subject, _)| subject).collect();
        assert_eq!(rows, ["1b2d"]);
        let before = active(&*store, "emails").await.expect("read");
        for is_rebuilt in [false, true] {
            if is_rebuilt {
                emails.admin().rebuild(RebuildFrom::Start, "test").await.expect("requested");
                wait_until("the rebuilt view is active", async || {
                    active(&*store, "emails").await.expect("read") != before
                })
                .await;
            }
            emails.wait_for(store.head().await.expect("read"), TIMEOUT).await.expect("followed");
            let views = Views::of::<Emails<true>>(store.clone());
            let rows = views.view(&EMAILS).scan().read_all().await.expect("read");
            assert_eq!(rows.into_iter().map(|(subject, _)| subject).collect::<Vec<_>>(), ["1b2d"]);
            assert_eq!(views.view(&GONE).get(&"7c9e".to_owned()).await.expect("read"), Some(1));
        }
        running.shutdown(TIMEOUT).await.expect("it stops");
    });
}

/// Opens the address for a mail, as a reactor does.
struct Mailer {
    personal: PersonalData,
    sent: tokio::sync::mpsc::UnboundedSender<String>,
}

#[async_trait]
impl Reactor for Mailer {
    type Source = Customer;
    const NAME: &'static str = "mailer";

    async fn react(&self, event: &CustomerEvent, _: &ReactorContext) -> Result<(), ReactError> {
        let CustomerEvent::Registered { email } = event else { return Ok(()) };
        let text = match self.personal.open(&EMAIL, email).await? {
            Opened::Value(email) => format!("mail to {email}"),
            Opened::Erased => "no mail".to_owned(),
        };
        Ok(self.sent.send(text)?)
    }

    async fn erased(&self, erasure: &Erasure, _: &ReactorContext) -> Result<(), ReactError> {
        Ok(self.sent.send(erasure.to_string())?)
    }
}

/// Units of work carry sealed values, and a reactor opens them.
#[test]
fn a_unit_of_work_writes_and_a_reactor_opens_sealed_values() {
    on_every_store(async |store: Store| {
        let personal = in_memory();
        let customers = Repository::<Customer>::new(store.clone());
        let (sent, mut mails) = tokio::sync::mpsc::unbounded_channel();
        let mailer = ReactorRunner::new(Mailer { personal: personal.clone(), sent }).start_at(StartAt::Beginning);
        let register = async |id: &str| {
            let email = personal.seal(&EMAIL, &subject(id), &format!("{id}@example.org")).await.expect("sealed");
            Register { email, fingerprint: id.to_owned() }
        };
        let unit = UnitOfWork::new(&store).execute(&customers, "a".to_owned(), register("a").await).execute(
            &customers,
            "b".to_owned(),
            register("b").await,
        );
        unit.await.expect("executed");
        personal.erase(store.clone(), &subject("b"), Note::default()).await.expect("erased");
        let mailer = mailer.start(store.clone()).await.expect("started");
        let mut received = Vec::new();
        while received.len() < 3 {
            received.push(mails.recv().await.expect("a mail"));
        }
        received.sort();
        assert_eq!(received, ["erasure of subject \"b\"", "mail to a@example.org", "no mail"]);
        mailer.shutdown(TIMEOUT).await.expect("it stops");
    });
}

/// The plain text is in no file of the directory of the store, in no export and in no backup. Neither is the key,
/// before and after it is destroyed. The same search finds a text that is not sealed.
#[test]
fn no_file_of_a_store_an_export_or_a_backup_has_the_plain_text_or_the_key() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let [data, keys, export, backup] = ["data", "keys", "export.jsonl", "backup"].map(|name| dir.path().join(name));
        let personal = PersonalData::new(Arc::new(FileKeyStore::open(&keys).await.expect("opened")));
        let rocksdb = rocksdb(&data).await;
        let store: Store = Arc::new(rocksdb.clone());
        let customers = register(&store, &personal, "7c9e", PLAIN).await;
        let (running, emails) = start(&store, Emails::<true>, ProjectionOptions::new());
        emails.wait_for(store.head().await.expect("read"), TIMEOUT).await.expect("followed");
        assert_eq!(email_of(&customers, &personal, "7c9e").await, Opened::Value(PLAIN.to_owned()));
        let other = Repository::<es_tests::account::Account>::new(store.clone());
        let unsealed = "q5Wd8-unsealed-hT1mC7";
        let open = es_tests::account::Open { owner: unsealed.to_owned() };
        other.execute(&"1".to_owned(), open).await.expect("executed");
        assert_ne!(files_with(&data, unsealed.as_bytes()), [""; 0], "the search finds what is not sealed");

        let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        let cli = ["es", "--store", &text(&data), "export", &text(&export)].map(ToOwned::to_owned);
        es_cli::command::run(&es_cli::args::Cli::parse_from(cli)).await.expect("exported");
        Backups::new(&backup).create(&data, &mut |_, _, _| {}).await.expect("backed up");
        let key = key_in(&keys);
        let is_absent = |bytes: &[u8]| {
            assert_eq!(files_with(&data, bytes), [""; 0]);
            assert_eq!(files_with(&backup, bytes), [""; 0]);
            let exported = fs::read(&export).expect("read");
            assert!(!exported.windows(bytes.len()).any(|window| window == bytes), "the export contains it");
        };
        assert!(fs::read_to_string(&export).expect("text").contains("customer-registered"));
        for bytes in [PLAIN.as_bytes(), &key] {
            is_absent(bytes);
        }
        personal.erase(store.clone(), &subject("7c9e"), Note::default()).await.expect("erased");
        assert_eq!(files_with(&keys, &key), [""; 0], "the key is overwritten");
        for bytes in [PLAIN.as_bytes(), &key] {
            is_absent(bytes);
        }
        running.shutdown(TIMEOUT).await.expect("it stops");
        store.close().await.expect("closed");

        // A restored backup gives nothing back.
        let restored = dir.path().join("restored");
        Backups::new(&backup).restore(None, &restored, &mut |_, _, _| {}).await.expect("restored");
        let store: Store = Arc::new(es_tests::stores::rocksdb(&restored).await);
        let restored = Repository::<Customer>::new(store.clone());
        assert_eq!(email_of(&restored, &personal, "7c9e").await, Opened::Erased);
        store.close().await.expect("closed");
    });
}

/// Returns the bytes of the key of the customer in the directory of a key store.
fn key_in(directory: &Path) -> Vec<u8> {
    let is_of_customer = |content: &Vec<u8>| content.windows(4).any(|window| window == b"7c9e");
    let files = fs::read_dir(directory).expect("the directory exists").map(|entry| entry.expect("an entry").path());
    let mut keys = files.filter(|path| path.extension().is_some_and(|extension| extension == "key"));
    let content = keys.find_map(|path| Some(fs::read(path).expect("read")).filter(is_of_customer)).expect("a key file");
    let start = b"es-personal key 1\n".len();
    content[start..start + DataKey::BYTES].to_vec()
}

/// A deletion, a scavenge and a compaction of an open store leave no byte of content in a file. Rows 6 and 7 of `user`.
#[test]
fn no_byte_of_a_deleted_stream_is_left_after_a_scavenge_and_a_compaction() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let rocksdb = rocksdb(dir.path()).await;
        let store: Store = Arc::new(rocksdb.clone());
        let accounts = Repository::<es_tests::account::Account>::new(store.clone());
        let owner = "q5Wd8-unsealed-hT1mC7";
        let open = es_tests::account::Open { owner: owner.to_owned() };
        accounts.execute(&"1".to_owned(), open).await.expect("executed");
        for cents in 0..12 {
            accounts.execute(&"1".to_owned(), es_tests::account::Deposit { cents }).await.expect("executed");
        }
        let key = UniqueKey::new("owner", owner).expect("a key");
        let claim = es_core::NewEvent::json(es_core::EventType::new("x").expect("a name"), "{}").claiming(key.clone());
        let account = StreamId::new("account-1").expect("a name");
        store.commit(es_core::Commit::to(&account, ExpectedRevision::Any, [claim])).await.expect("committed");
        accounts.settle().await;
        let admin = StoreAdmin::new(store.clone());
        // The content is in table files of the last level, too.
        admin.compact().await.expect("compacted");
        assert_ne!(files_with(dir.path(), b"owner"), [""; 0], "the search finds table files");
        admin.delete_stream(&account, DeleteKind::Hard, ExpectedRevision::Any, Note::default()).await.expect("deleted");
        assert_eq!(store.owner(&key).await.expect("read"), None, "the unique key is free");
        admin.scavenge(&Scavenge::default()).await.expect("scavenged");
        admin.compact().await.expect("compacted");
        // RocksDB removes old files in the background.
        wait_until("no file contains the owner", async || {
            let found = files_with(dir.path(), owner.as_bytes());
            // The names of tags are keys of an index, and the manifest keeps the first and last key of each file.
            found.iter().all(|file| file.contains("MANIFEST"))
        })
        .await;
        store.close().await.expect("closed");
    });
}

/// A changed value, a moved value and another key are named errors, and not an erasure. A key that the key store never
/// had is a named error, too: lost keys must not look like an erasure.
#[test]
fn other_keys_and_changed_values_are_errors_and_not_erasures() {
    on_every_store(async |store: Store| {
        let personal = in_memory();
        let customers = register(&store, &personal, "7c9e", PLAIN).await;
        let email = customers.load(&"7c9e".to_owned()).await.expect("loaded").state.email.expect("an address");
        let other_field = personal.open(&NAME, &email).await.expect_err("it is the address");
        assert!(matches!(other_field, OpenError::Unauthentic { .. }), "{other_field}");
        let mut value = serde_json::to_value(&email).expect("encoded");
        value["subject"] = "1b2d".into();
        let moved: Personal<String> = serde_json::from_value(value).expect("decoded");
        let no_key = personal.open(&EMAIL, &moved).await.expect_err("there is no such subject");
        assert!(matches!(no_key, OpenError::NoKey { .. }), "{no_key}");
        personal.seal(&EMAIL, &subject("1b2d"), &PLAIN.to_owned()).await.expect("sealed");
        let moved = personal.open(&EMAIL, &moved).await.expect_err("it belongs to another subject");
        assert!(matches!(moved, OpenError::NoKey { .. }), "{moved}");
        let others = in_memory();
        others.seal(&EMAIL, &subject("7c9e"), &PLAIN.to_owned()).await.expect("sealed");
        let other_key = others.open(&EMAIL, &email).await.expect_err("another key");
        assert!(matches!(other_key, OpenError::NoKey { .. }), "{other_key}");
        let other_type: PersonalField<u64> = PersonalField::new("customer-email");
        let value = serde_json::to_string(&email).expect("encoded");
        let other_type = personal.open(&other_type, &serde_json::from_str(&value).expect("decoded")).await;
        assert!(matches!(other_type, Err(OpenError::Decode { .. })), "{other_type:?}");
        assert!(!format!("{other_type:?}").contains(PLAIN), "{other_type:?}");
    });
}

/// The key is durable before the first event that uses it: after a crash between the two, the next command uses it.
#[test]
fn a_crash_between_the_key_and_the_commit_loses_nothing() {
    on_every_store(async |store: Store| {
        let dir = tempfile::tempdir().expect("a directory");
        let open =
            async || PersonalData::new(Arc::new(FileKeyStore::open(dir.path().join("keys")).await.expect("opened")));
        let personal = open().await;
        let lost = personal.seal(&EMAIL, &subject("7c9e"), &PLAIN.to_owned()).await.expect("sealed");
        drop(personal); // the process ends before the commit
        let personal = open().await;
        let customers = register(&store, &personal, "7c9e", PLAIN).await;
        assert_eq!(email_of(&customers, &personal, "7c9e").await, Opened::Value(PLAIN.to_owned()));
        let opened = personal.open(&EMAIL, &lost).await.expect("it is the same key");
        assert_eq!(opened, Opened::Value(PLAIN.to_owned()));
    });
}

/// A key store whose destruction fails a number of times.
#[derive(Debug)]
struct FailingDestruction(MemoryKeyStore, std::sync::atomic::AtomicBool);

#[async_trait]
impl KeyStore for FailingDestruction {
    async fn get(&self, subject: &SubjectId, id: &KeyId) -> Result<KeyState, KeyStoreError> {
        self.0.get(subject, id).await
    }

    async fn get_or_create(&self, subject: &SubjectId) -> Result<KeyState, KeyStoreError> {
        self.0.get_or_create(subject).await
    }

    async fn insert(&self, subject: &SubjectId, key: &DataKey) -> Result<KeyState, KeyStoreError> {
        self.0.insert(subject, key).await
    }

    async fn destroy(&self, subject: &SubjectId) -> Result<bool, KeyStoreError> {
        if self.1.swap(false, std::sync::atomic::Ordering::Relaxed) {
            return Err(KeyStoreError::Other("the key service is down".into()));
        }
        self.0.destroy(subject).await
    }
}

/// The log records who was erased. An erasure that a crash interrupted is completed at the next start, and so is one
/// whose key was restored from a backup.
#[test]
fn an_interrupted_erasure_is_finished_from_the_log() {
    on_every_store(async |store: Store| {
        let keys = Arc::new(FailingDestruction(MemoryKeyStore::new(), true.into()));
        let personal = PersonalData::new(keys);
        let customers = register(&store, &personal, "7c9e", PLAIN).await;
        register(&store, &personal, "1b2d", "bob@example.org").await;
        let failed = personal
            .erase(store.clone(), &subject("7c9e"), Note::default())
            .await
            .expect_err("the key is not destroyed");
        assert!(matches!(failed, EraseError::KeyNotDestroyed { .. }), "{failed}");
        assert_eq!(email_of(&customers, &personal, "7c9e").await, Opened::Value(PLAIN.to_owned()));
        assert_eq!(personal.finish_erasures(&*store).await.expect("finished"), 1);
        assert_eq!(personal.finish_erasures(&*store).await.expect("finished"), 0);
        assert_eq!(email_of(&customers, &personal, "7c9e").await, Opened::Erased);
        assert_eq!(email_of(&customers, &personal, "1b2d").await, Opened::Value("bob@example.org".to_owned()));
        let old_keys = in_memory();
        old_keys.seal(&EMAIL, &subject("7c9e"), &PLAIN.to_owned()).await.expect("a restored key");
        assert_eq!(old_keys.finish_erasures(&*store).await.expect("finished"), 1);
        let again = old_keys.seal(&EMAIL, &subject("7c9e"), &PLAIN.to_owned()).await;
        assert!(matches!(again, Err(SealError::Erased { .. })), "{again:?}");
    });
}

/// The secret of fingerprints has a reserved subject, which nobody can use or erase.
#[tokio::test]
async fn the_secret_of_fingerprints_cannot_be_erased() {
    let (personal, store) = (in_memory(), Arc::new(MemoryStore::new()));
    let first = personal.fingerprint(&EMAIL, &PLAIN.to_owned()).await.expect("computed");
    let secret = subject("es.fingerprints");
    let erased = personal.erase(store, &secret, Note::default()).await.expect_err("it is reserved");
    assert!(matches!(erased, EraseError::Reserved { .. }), "{erased}");
    let sealed = personal.seal(&EMAIL, &secret, &PLAIN.to_owned()).await.expect_err("it is reserved");
    assert!(matches!(sealed, SealError::Reserved { .. }), "{sealed}");
    assert_eq!(personal.fingerprint(&EMAIL, &PLAIN.to_owned()).await.expect("computed"), first);
    assert_ne!(personal.fingerprint(&NAME, &PLAIN.to_owned()).await.expect("computed"), first, "another field");
    assert_ne!(in_memory().fingerprint(&EMAIL, &PLAIN.to_owned()).await.expect("computed"), first, "another secret");
    assert!(!first.contains("example"));
}

/// Neither `Debug` nor serialization prints a value or a key.
#[tokio::test]
async fn nothing_prints_a_value_or_a_key() {
    let personal = in_memory();
    let email = personal.seal(&EMAIL, &subject("7c9e"), &PLAIN.to_owned()).await.expect("sealed");
    let key = DataKey::from_bytes([7; 32]);
    let printed = format!("{email:?} {key:?} {personal:?} {}", serde_json::to_string(&email).expect("encoded"));
    assert!(!printed.contains(PLAIN) && !printed.contains("7, 7"), "{printed}");
    assert_eq!(format!("{email:?} {key:?}"), "Personal(of \"7c9e\", sealed) DataKey");
}
