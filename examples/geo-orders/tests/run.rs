//! Three real processes over TLS, with cut links and killed nodes.

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

#[test]
fn a_mistake_names_what_to_type() {
    let (output, code) = run(&["--second", "5"]);
    assert_eq!(code, Some(2));
    assert!(output.contains("--seconds"), "{output}");
}
