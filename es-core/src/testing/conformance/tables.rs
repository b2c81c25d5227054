//! Cases: rows are written together with events.

use bytes::Bytes;

use super::tools::*;
use crate::store::{Commit, FailedCheck, Row, RowScan};

/// Rows are set and removed with their commit. The last change of a row in a commit wins.
pub(super) async fn rows_change_with_their_commit(harness: &dyn Harness) {
    let store = harness.open().await;
    let change = Commit::to(&stream("a-1"), Any, events(1))
        .put_row(table("t"), "a", "1")
        .put_row(table("t"), "b", "")
        .put_row(table("t"), "a", "2");
    commit(&store, change).await;
    assert_eq!(row(&store, "t", "a").await.as_deref(), Some(&b"2"[..]));
    assert_eq!(row(&store, "t", "b").await.as_deref(), Some(&b""[..]));
    commit(&store, Commit::new().delete_row(table("t"), "a").delete_row(table("t"), "nothing")).await;
    assert_eq!(row(&store, "t", "a").await, None);
    commit(&store, Commit::new().put_row(table("t"), "a", "3").delete_row(table("t"), "a")).await;
    assert_eq!(row(&store, "t", "a").await, None);
}

/// A row condition holds only if the row has exactly the expected value.
pub(super) async fn a_row_condition_compares_the_value(harness: &dyn Harness) {
    let store = harness.open().await;
    let set = |expected: Option<&'static str>, value: &'static str| {
        Commit::new().expect_row(table("t"), "k", expected.map(Bytes::from)).put_row(table("t"), "k", value)
    };
    let failed = |expected_present, found_present| FailedCheck::Row {
        table: table("t"),
        key: "k".into(),
        expected_present,
        found_present,
    };
    assert_eq!(conflict(&store, set(Some("0"), "1")).await, [failed(true, false)]);
    commit(&store, set(None, "1")).await;
    assert_eq!(conflict(&store, set(None, "2")).await, [failed(false, true)]);
    assert_eq!(conflict(&store, set(Some("0"), "2")).await, [failed(true, true)]);
    commit(&store, set(Some("1"), "2")).await;
    assert_eq!(row(&store, "t", "k").await.as_deref(), Some(&b"2"[..]));
}

/// Rows are scanned in the order of their keys as bytes, by prefix, in both directions, page by page.
pub(super) async fn rows_are_scanned_in_order_by_prefix(harness: &dyn Harness) {
    let store = harness.open().await;
    let keys: [&[u8]; 7] = [b"a", b"a\0", b"a\0b", b"ab", b"b", b"\xff", b"\xff\xff"];
    let all = keys.iter().rev().fold(Commit::new(), |commit, key| commit.put_row(table("t"), key.to_vec(), "v"));
    commit(&store, all).await;
    let scan = async |scan: RowScan| -> Vec<Vec<u8>> {
        let rows = store.rows(scan).await.expect("scanned");
        rows.into_iter().map(|Row { key, .. }| key.to_vec()).collect()
    };
    let of = |prefix: &'static [u8]| RowScan::new(table("t"), prefix, 100);
    assert_eq!(scan(of(b"")).await, keys);
    assert_eq!(scan(of(b"").backward()).await, keys.iter().rev().map(|key| key.to_vec()).collect::<Vec<_>>());
    assert_eq!(scan(of(b"a")).await, &keys[..4]);
    assert_eq!(scan(of(b"a\0").backward()).await, [keys[2], keys[1]]);
    assert_eq!(scan(of(b"\xff")).await, &keys[5..]);
    assert_eq!(scan(of(b"\xff").backward()).await, [keys[6], keys[5]]);
    assert_eq!(scan(of(b"c")).await, Vec::<Vec<u8>>::new());
    assert_eq!(scan(of(b"").after(&b"a\0b"[..])).await, &keys[3..]);
    assert_eq!(scan(of(b"").after(&b"aaa"[..]).backward()).await, [keys[2], keys[1], keys[0]]);
    assert_eq!(scan(of(b"a").after(&b"zzz"[..]).backward()).await.len(), 4);
    assert_eq!(scan(RowScan::new(table("t"), "", 2)).await, &keys[..2]);
    assert_eq!(scan(RowScan::new(table("t"), "", 0)).await, Vec::<Vec<u8>>::new());
}

/// Tables with a common prefix in their names have no rows in common.
pub(super) async fn tables_are_separate(harness: &dyn Harness) {
    let store = harness.open().await;
    commit(&store, Commit::new().put_row(table("t"), "k", "1").put_row(table("tt"), "k", "2")).await;
    assert_eq!(row(&store, "t", "k").await.as_deref(), Some(&b"1"[..]));
    assert_eq!(row(&store, "tt", "k").await.as_deref(), Some(&b"2"[..]));
    let rows = store.rows(RowScan::new(table("t"), "", 10)).await.expect("scanned");
    assert_eq!(rows, [Row { key: "k".into(), value: "1".into() }]);
}

/// Rows are as durable as events.
pub(super) async fn rows_survive_a_restart(harness: &dyn Harness) {
    let store = harness.open().await;
    commit(&store, Commit::new().put_row(table("t"), "k", "v")).await;
    let Some(store) = harness.reopen(store).await else { return };
    assert_eq!(row(&store, "t", "k").await.as_deref(), Some(&b"v"[..]));
}
