//! The real thing: Microsoft's Northwind sample database, where it is at hand.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::TestDir;

/// Where the Northwind files are, if they are anywhere.
fn northwind() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/northwind");
    let dir = std::env::var_os("ES_NORTHWIND_DIR").map_or_else(beside, PathBuf::from);
    dir.join("orders.csv").is_file().then_some(dir)
}

#[test]
fn northwind_comes_to_what_it_is_known_for() {
    let Some(data) = northwind() else {
        println!("skipped: set ES_NORTHWIND_DIR to the directory with orders.csv, order_lines.csv and products.csv");
        return;
    };
    let [orders, lines, products] = ["orders.csv", "order_lines.csv", "products.csv"].map(|name| data.join(name));
    let file = |path: &PathBuf| path.to_str().expect("a path in UTF-8").to_owned();
    let (orders, lines, products) = (file(&orders), file(&lines), file(&products));
    let dir = TestDir::new();
    let args = ["import", "--orders", &orders, "--lines", &lines, "--products", &products];
    assert_eq!(dir.json(&args)["placed"], 830);
    let report: Value = dir.json(&["report"]);
    assert_eq!((&report["orders"], &report["revenue"]), (&json!(830), &json!("1265793.04")));
    assert_eq!(report["events"], 830 + 2 * 809 + 77);
    assert_eq!(dir.json(&["report", "--verify"]), report, "the read models say what the log says");
    assert_eq!(dir.json(&args)["unchanged"], 830);
    assert_eq!(dir.json(&["report"]), report);
}
