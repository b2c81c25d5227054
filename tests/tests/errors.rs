//! The errors of every crate print each message of their chain once.

use std::error::Error;
use std::io;
use std::sync::Arc;

use es_core::aggregate::{InfrastructureError, UnitError};
use es_core::consumer::StartError;
use es_core::consumer::group::GroupError;
use es_core::model::NameError;
use es_core::model::{ContentType, ErrorChain, StreamId};
use es_core::projection::LiveError;
use es_core::projection::view::ViewError;
use es_core::schema::codec::{DecodeContentError, EncodeError};
use es_core::schema::{DecodeEventError, EncodeEventError};
use es_core::store::{IdConflict, InvalidCommit};
use es_core::{CommandId, CommitError, EventId, EventType, ExecuteError, LoadError, Position, Revision, StoreError};
use es_rocksdb::{BackupError, OpenError, RepairError};

/// Asserts that no message of a chain contains the message of one of its causes. Returns the number of messages.
#[track_caller]
fn assert_prints_once(error: &(dyn Error + 'static)) -> usize {
    let chain: Vec<String> =
        std::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string).collect();
    for (index, message) in chain.iter().enumerate() {
        for cause in &chain[index + 1..] {
            assert!(!message.contains(cause), "{message:?} repeats {cause:?}");
        }
    }
    assert_eq!(ErrorChain(error).to_string(), chain.join(": "));
    chain.len()
}

fn disk_full() -> io::Error {
    io::Error::other("the disk is full")
}

fn store_error() -> StoreError {
    StoreError::io("write to the log", disk_full())
}

fn name_error() -> NameError {
    StreamId::new("").expect_err("an empty name is invalid")
}

fn mismatch() -> DecodeContentError {
    let source = "missing field `cents`".into();
    DecodeContentError::Mismatch { content_type: ContentType::Json, expected: "Deposited", source }
}

fn decode_error() -> DecodeEventError {
    DecodeEventError::Content { name: "money-deposited", version: 1, source: mismatch() }
}

fn encode_error() -> EncodeError {
    EncodeError::Format { content_type: ContentType::Json, source: "a key must be a text".into() }
}

#[test]
fn errors_of_es_core_print_once() {
    assert_eq!(assert_prints_once(&store_error()), 2);
    assert_eq!(assert_prints_once(&CommitError::Store(store_error())), 2);
    assert_eq!(assert_prints_once(&encode_error()), 2);
    assert_eq!(assert_prints_once(&EncodeEventError::Content { name: "money-deposited", source: encode_error() }), 3);
    let unreadable = EncodeError::Unreadable { content_type: ContentType::Json, source: mismatch() };
    assert_eq!(assert_prints_once(&EncodeEventError::Content { name: "money-deposited", source: unreadable }), 4);
    let name = EventType::new("money-deposited").expect("a name");
    assert_eq!(assert_prints_once(&EncodeEventError::Unreadable { name, source: decode_error() }), 4);
    assert_eq!(assert_prints_once(&EncodeEventError::Tag { name: "money-deposited", source: name_error() }), 2);
    assert_eq!(assert_prints_once(&decode_error()), 3);
    let (stream, revision, position) = (StreamId::new("account-7").expect("a name"), Revision::FIRST, Position::FIRST);
    let unreadable = LoadError::Event { stream, revision, position, source: decode_error() };
    assert_eq!(assert_prints_once(&ExecuteError::<String>::from(unreadable)), 5);
    assert_eq!(assert_prints_once(&ExecuteError::<String>::from(store_error())), 3);
    assert_eq!(assert_prints_once(&StartError::Name(name_error())), 2);
    // User row 18: "could not commit: could not commit: ...".
    let (id, position) = (EventId::new(), Position::FIRST);
    let differs = || IdConflict::Differs { id, position, field: "metadata" };
    assert_eq!(assert_prints_once(&CommitError::from(differs())), 1);
    assert_eq!(assert_prints_once(&ExecuteError::<String>::from(differs())), 2);
    assert_eq!(assert_prints_once(&UnitError::<String>::from(store_error())), 3);
    let by_hook = InfrastructureError::Rejected(Box::new(CommitError::Store(store_error())));
    assert_eq!(assert_prints_once(&ExecuteError::<String>::from(by_hook)), 3);
    let too_many = InvalidCommit::TooManyEvents { found: 1_000_000 };
    assert_eq!(assert_prints_once(&ExecuteError::<String>::from(too_many)), 2);
    let reused = InfrastructureError::CommandIdReused {
        command_id: CommandId::new("k1").expect("a name"),
        first: "Receive".into(),
        repeated: "Withdraw".into(),
    };
    assert_eq!(assert_prints_once(&ExecuteError::<String>::from(reused)), 1);
    let refused = StartError::Refused { name: "letters".into(), source: Box::new(store_error().into()) };
    assert_eq!(assert_prints_once(&refused), 3);
    let failed = GroupError::Store { name: "letters".into(), source: Arc::new(store_error()) };
    assert_eq!(assert_prints_once(&failed), 3);
    assert_eq!(assert_prints_once(&ViewError::Value { view: "totals", source: mismatch() }), 3);
    assert_eq!(assert_prints_once(&ViewError::Encode { view: "totals", source: encode_error() }), 3);
    assert_eq!(assert_prints_once(&LiveError::Store(store_error())), 2);
}

#[test]
fn errors_of_es_rocksdb_print_once() {
    let open =
        || OpenError::Io { directory: "data".into(), action: "open the mark".into(), source: disk_full().into() };
    assert_eq!(assert_prints_once(&open()), 2);
    assert_eq!(assert_prints_once(&BackupError::Open(open())), 2);
    assert_eq!(assert_prints_once(&BackupError::Store(store_error())), 2);
    let read = BackupError::Io { action: "read", path: "backup/1".into(), source: disk_full() };
    assert_eq!(assert_prints_once(&read), 2);
    let copy = RepairError::Io { action: "copy", path: "data/CURRENT".into(), source: disk_full() };
    assert_eq!(assert_prints_once(&copy), 2);
}

#[test]
fn failures_of_the_programs_print_once() {
    let io = || es_cli::failure::Failure::Io { action: "read events.jsonl".into(), source: disk_full() };
    assert_eq!(assert_prints_once(&io()), 2);
    let stopped = es_cli::failure::Failure::Stopped { source: Box::new(io()), added: 3, repeated: 1 };
    assert_eq!(assert_prints_once(&stopped), 3);
    assert_eq!(assert_prints_once(&es_cli::failure::Failure::from(store_error())), 2);
    assert_eq!(assert_prints_once(&order_service::failure::Failure::from(store_error())), 2);
    let io = order_service::failure::Failure::Io { action: "read orders.csv".into(), source: disk_full() };
    assert_eq!(assert_prints_once(&io), 2);
}
