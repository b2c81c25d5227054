//! An import of Microsoft's Northwind sample database. Skipped if the files do not exist.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::TestDir;

/// Returns the directory of the Northwind files if it exists.
fn northwind() -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/northwind");
    let dir = std::env::var_os("ES_NORTHWIND_DIR").map_or_else(default, PathBuf::from);
    dir.join("orders.csv").is_file().then_some(dir)
}

#[test]
fn the_report_of_northwind_has_its_known_totals() {
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
    assert_eq!(dir.json(&["report", "--verify"]), report, "the read models agree with the log");
    assert_eq!(dir.json(&args)["unchanged"], 830);
    assert_eq!(dir.json(&["report"]), report);
}
