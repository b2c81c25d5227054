//! Imports of valid files.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::generated::{generate_orders, in_cents};
use crate::sample::{ORDERS, import, replaced, sample, sample_with};
use crate::support::TestDir;

/// Returns standard error without the progress lines.
fn without_progress(stderr: &str) -> String {
    stderr.lines().filter(|line| !line.ends_with(" orders")).collect::<Vec<_>>().join("\n")
}

#[test]
fn orders_are_imported_with_their_dates() {
    let dir = sample();
    assert_eq!(
        dir.json(&import(&[])),
        json!({"placed": 3, "advanced": 0, "unchanged": 0, "rejected": 0,
               "products_registered": 2, "products_unchanged": 0})
    );
    let report = dir.json(&["report"]);
    assert_eq!((&report["orders"], &report["events"]), (&json!(3), &json!(9)));
    assert_eq!(report["by_status"]["shipped"], 2);
    assert_eq!(report["revenue"], "278.87");
    assert_eq!(report["revenue_by_month"], json!({"2024-03": "156.48", "2024-04": "122.40"}));
    let history = dir.json(&["history", "A-1"]);
    let occurred: Vec<_> = history.as_array().unwrap().iter().map(|event| event["occurred_at"].as_str()).collect();
    assert_eq!(occurred, [Some("2024-03-04T00:00:00Z"), Some("2024-03-07T00:00:00Z"), Some("2024-03-07T00:00:00Z")]);
    let second = dir.json(&["show", "A-2"]);
    assert_eq!((&second["ship_city"], &second["status"]), (&json!("Galway, West"), &json!("placed")));
    assert_eq!(second["reached"][0]["at"], "2024-03-05T08:30:00Z");
    assert_eq!(dir.json(&["product", "show", "P-11"])["stock"], 180, "imported orders do not change the stock");
}

#[test]
fn a_repeated_import_changes_nothing() {
    let dir = sample();
    dir.done(&import(&[]));
    let before = dir.json(&["report"]);
    let repeated = dir.json(&import(&[]));
    assert_eq!((&repeated["unchanged"], &repeated["products_unchanged"]), (&json!(3), &json!(2)));
    assert_eq!((&repeated["placed"], &repeated["advanced"]), (&json!(0), &json!(0)));
    assert_eq!(dir.json(&["report"]), before);
}

#[test]
fn a_repeated_import_keeps_later_changes() {
    let dir = sample();
    dir.done(&import(&[]));
    dir.done(&["deliver", "A-1"]);
    dir.done(&["cancel", "A-2", "--reason", "no longer wanted"]);
    dir.done(&["product", "receive", "P-10", "5"]);
    let before = dir.json(&["report"]);
    assert_eq!(dir.json(&import(&[]))["unchanged"], 3);
    assert_eq!(dir.json(&["report"]), before);
}

#[test]
fn an_import_continues_a_partly_imported_order() {
    let complete = sample();
    complete.done(&import(&[]));
    let dir = sample();
    let place = ["place", "A-1", "--customer", "MORLAND", "--city", "Tromsø", "--country", "Norway"];
    let lines = ["--line", "P-10:12:4.50:0", "--line", "P-12:6:6.75:0.05", "--date", "2024-03-04"];
    dir.done(&[&place[..], &lines[..]].concat());
    dir.done(&["approve", "A-1", "--date", "2024-03-07"]);
    let summary = dir.json(&import(&[]));
    assert_eq!((&summary["placed"], &summary["advanced"]), (&json!(2), &json!(1)));
    assert_eq!(dir.json(&["report"]), complete.json(&["report"]));
}

#[test]
fn an_order_with_a_new_shipped_date_is_shipped() {
    let dir = sample();
    dir.done(&import(&[]));
    dir.write("orders.csv", replaced("2024-04-02,,", "2024-04-02,2024-03-09,")(ORDERS));
    let summary = dir.json(&import(&[]));
    assert_eq!((&summary["advanced"], &summary["unchanged"]), (&json!(1), &json!(2)));
    assert_eq!(dir.json(&["show", "A-2"])["status"], "shipped");
}

#[test]
fn a_duplicate_row_is_ignored() {
    let row = "A-2,QUAYSIDE,2,2024-03-05T09:30:00+01:00,2024-04-02,,2,8.15,\"Galway, West\",Ireland\n";
    let dir = sample_with("orders.csv", |text| format!("{text}{row}").into());
    assert_eq!(dir.json(&import(&[]))["placed"], 3);
}

#[test]
fn crlf_line_endings_and_a_byte_order_mark_are_accepted() {
    let dir = sample_with("orders.csv", |text| format!("\u{feff}{}", text.replace('\n', "\r\n")).into());
    assert_eq!(dir.json(&import(&[]))["placed"], 3);
}

#[test]
fn an_order_that_differs_from_the_store_is_rejected() {
    let dir = sample();
    dir.done(&import(&[]));
    let before = dir.json(&["report"]);
    let cases = [
        (
            "QUAYSIDE",
            "QUAYSIDF",
            "orders.csv, line 3, column order_id: expected a new order, or the content of the existing order, \
             found order A-2 already exists with a different customer; use another id for a new order",
        ),
        (
            "2024-03-04",
            "2024-03-05",
            "orders.csv, line 2, column order_date: expected the time at which the existing order A-1 was placed, \
             2024-03-04 00:00:00 UTC, found 2024-03-05 00:00:00 UTC",
        ),
        (
            "2024-03-07",
            "2024-03-08",
            "orders.csv, line 2, column shipped_date: expected the time at which the existing order A-1 was shipped, \
             2024-03-07 00:00:00 UTC, found 2024-03-08 00:00:00 UTC",
        ),
    ];
    for (old, new, expected) in cases {
        dir.write("orders.csv", replaced(old, new)(ORDERS));
        let ran = dir.run(&import(&[]));
        assert_eq!((ran.code, without_progress(&ran.err)), (Some(1), format!("error: {expected}")));
        assert_eq!(dir.json(&["report"]), before);
        let summary = dir.json(&import(&["--skip-bad", "bad.csv"]));
        assert_eq!((&summary["unchanged"], &summary["rejected"]), (&json!(2), &json!(1)));
        assert_eq!(dir.json(&["report"]), before);
    }
}

#[test]
fn the_report_of_a_thousand_orders_has_their_total_revenue() {
    let dir = TestDir::new();
    let generated = generate_orders(1_000);
    dir.write("orders.csv", generated.orders);
    dir.write("lines.csv", generated.lines);
    let args = ["import", "--orders", "orders.csv", "--lines", "lines.csv"];
    let ran = dir.run(&args);
    assert!(ran.out.starts_with("orders: 1000 placed, 0 advanced, 0 unchanged, 0 rejected\n"), "{ran:?}");
    assert!(ran.err.starts_with("100 of 1000 orders\n"), "progress lines without a terminal: {}", ran.err);
    let report = dir.json(&["report"]);
    assert_eq!((&report["orders"], &report["events"]), (&json!(1_000), &json!(200 + 3 * 800)));
    assert_eq!(report["revenue"], in_cents(generated.revenue));
    assert_eq!(report["top_products"].as_array().map(Vec::len), Some(10));
    assert_eq!(dir.json(&args)["unchanged"], 1_000);
    assert_eq!(dir.json(&["report"]), report);
}

/// The same files, compressed; another format is named with the command that converts it.
#[test]
fn compressed_files_are_imported_and_other_formats_are_named() {
    let plain = sample();
    let expected = plain.json(&import(&[]));
    let dir = sample();
    for name in ["orders.csv", "lines.csv"] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&fs::read(dir.path(name)).unwrap()).unwrap();
        dir.write(name, encoder.finish().unwrap());
    }
    assert_eq!(dir.json(&import(&[])), expected);
    dir.write("orders.csv", b"\xff\xfeo\0r\0d\0e\0r\0");
    let message = "error: orders.csv: expected a CSV file, plain or compressed by gzip or zstd, found text in UTF-16; \
                   convert it: `iconv -f UTF-16 -t UTF-8 < orders.csv > NEW`";
    dir.refused(&import(&[]), 1, message);
}

/// The list of rejected orders replaced links and devices, and could be written into the store.
#[cfg(unix)]
#[test]
fn the_list_of_rejected_orders_follows_links_and_stays_out_of_the_store() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let dir = sample();
    symlink("list.csv", dir.path("link")).unwrap();
    dir.done(&import(&["--skip-bad", "link"]));
    assert!(dir.path("link").is_symlink());
    assert_eq!(fs::read_to_string(dir.path("list.csv")).unwrap(), "order_id,file,line,column,expected,found\n");
    let refused = dir.run(&import(&["--skip-bad", "shop/index/CURRENT"]));
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    assert!(refused.err.contains("expected a file outside of the store in "), "{}", refused.err);
    symlink("orders.csv", dir.path("same")).unwrap();
    assert_eq!(dir.run(&import(&["--skip-bad", "same"])).code, Some(2));
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path("shop")), 0o700);
    for file in ["log/00000001.seg", "log/ACKNOWLEDGED", "index/CURRENT"] {
        assert_eq!(mode(&dir.path("shop").join(file)), 0o600, "{file}");
    }
}
