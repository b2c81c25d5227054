//! Three real processes over TLS, with cut links and killed nodes.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Runs the program with these arguments, and returns its output and exit code.
fn run(arguments: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_geo-orders")).args(arguments).output().expect("the program runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.is_empty() || !output.status.success(), "{errors}");
    (String::from_utf8(output.stdout).expect("UTF-8") + &errors, output.status.code())
}

#[test]
fn three_processes_lose_nothing_and_become_equal() {
    let seconds = std::env::var("ES_GEO_SECONDS").unwrap_or_else(|_| "12".to_owned());
    let (output, code) = run(&["--seconds", &seconds, "--seed", "1", "--json"]);
    assert_eq!(code, Some(0), "{output}");
    let report: Value = serde_json::from_str(&output).expect("one JSON object");
    println!("{report:#}");
    let number = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("{name} is a number: {report}"));
    for none in ["lost", "doubled", "order_violations"] {
        assert_eq!(number(none), 0, "{none}: {report}");
    }
    assert_eq!(report["converged"], true, "{report}");
    for some in ["acknowledged", "cuts", "kills", "repeated", "added_while_cut", "concurrent"] {
        assert!(number(some) > 0, "{some}: {report}");
    }
}

/// The loan log on three nodes: each step follows the one before it, whichever node takes it, so every node ends in the
/// states that a plain fold of the log has.
#[test]
fn the_loan_log_is_folded_on_every_node_as_without_a_store() {
    let directory = std::env::var_os("ES_SHARED_DATA").map(PathBuf::from);
    let directory = directory.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"));
    if !directory.join("loan_applications_2012.csv.gz").exists() {
        println!("skipped: expected the loan log in {}, found none; set ES_SHARED_DATA", directory.display());
        return;
    }
    let cases = std::env::var("ES_GEO_CASES").unwrap_or_else(|_| "10".to_owned());
    let directory = directory.to_str().expect("a path in UTF-8");
    let (output, code) = run(&["--loans", directory, "--cases", &cases, "--seed", "1", "--json"]);
    assert_eq!(code, Some(0), "{output}");
    let report: Value = serde_json::from_str(&output).expect("one JSON object");
    println!("{report:#}");
    for none in ["lost", "doubled", "order_violations"] {
        assert_eq!(report[none], 0, "{none}: {report}");
    }
    assert_eq!(report["converged"], true, "{report}");
    for some in ["acknowledged", "cuts", "kills", "repeated", "stale", "added_while_cut"] {
        assert!(report[some].as_u64() > Some(0), "{some}: {report}");
    }
    assert!(report["events"].as_u64() >= report["acknowledged"].as_u64(), "{report}");
}

#[test]
fn a_mistake_names_what_to_type() {
    let (output, code) = run(&["--second", "5"]);
    assert_eq!(code, Some(2));
    assert!(output.contains("--seconds"), "{output}");
}
