//! The writer and a scavenge both write. After a failed write of one, the other one stops, too.

use super::*;
use es_core::EventReader;

#[tokio::test]
async fn after_a_failed_write_a_scavenge_removes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_on_failing_disk(directory.path(), 1, false);
    store.commit(to_stream(ExpectedRevision::NoStream)).await.unwrap();
    let reason = stopped_reason(store.commit(to_stream(ExpectedRevision::Any)).await.unwrap_err());
    let refused = store.remove_before(stream(), Revision::new(1)).await.unwrap_err();
    assert_eq!(stopped_reason(refused.into()), reason);
    assert_eq!(positions(store.read_log(LogRead::all()).await).await, [1]);
}

/// Writes of a scavenge into a removed directory are lost, and later commits would be lost, too.
#[tokio::test]
async fn after_a_failed_scavenge_nothing_is_committed() {
    let directory = tempfile::tempdir().unwrap();
    let store = RocksDbStore::open(directory.path()).await.unwrap();
    store.commit(to_stream(ExpectedRevision::NoStream)).await.unwrap();
    let mark = directory.path().join(crate::acknowledged::FILE_NAME);
    std::fs::rename(&mark, directory.path().join("aside")).unwrap();
    let reason = stopped_reason(store.remove_before(stream(), Revision::new(1)).await.unwrap_err().into());
    assert!(reason.contains("the directory was removed, moved or replaced"), "{reason}");
    std::fs::rename(directory.path().join("aside"), &mark).unwrap();
    assert_eq!(stopped_reason(store.commit(to_stream(ExpectedRevision::Any)).await.unwrap_err()), reason);
    assert_eq!(positions(store.read_log(LogRead::all()).await).await, [1]);
}
