//! Crashes at each step: four strengths, of which two-phase commit with three real processes.

use std::process::Command;

use serde_json::Value;

/// Runs the program with these arguments, and returns its output and exit code.
fn run(arguments: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_money-transfer")).args(arguments).output().expect("the program runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    (String::from_utf8(output.stdout).expect("UTF-8") + &errors, output.status.code())
}

/// `ES_STRENGTHS=three-phase` crashes in other strengths. Three-phase commit waits for time-outs, so it takes longer.
#[test]
fn every_strength_is_atomic_wherever_a_machine_dies() {
    let strengths = std::env::var("ES_STRENGTHS").unwrap_or_else(|_| "unit-of-work,dcb,saga,two-phase".to_owned());
    let (output, code) = run(&["--crash-everywhere", "--seed", "7", "--json", "--strengths", &strengths]);
    assert_eq!(code, Some(0), "{output}");
    let report: Value = serde_json::from_str(&output).expect("one JSON object");
    println!("{report:#}");
    for name in strengths.split(',') {
        let number = |field: &str| report[name][field].as_u64().unwrap_or_else(|| panic!("{name}: {field}: {report}"));
        assert_eq!((number("atomic"), number("in_doubt_left")), (number("runs"), 0), "{name}: {report}");
        // A record, or a round of messages, that is lost or added by mistake changes these numbers.
        let (round_trips, syncs, runs) = match name {
            "unit-of-work" | "dcb" => (0, 1, 2),
            "saga" => (2, 7, 20),
            "two-phase" => (4, 6, 30),
            _ => (6, 9, 40),
        };
        assert_eq!((number("round_trips"), number("syncs")), (round_trips, syncs), "{name}: {report}");
        assert!(number("runs") >= runs, "{name}: {report}");
        // Both outcomes and both views of the caller were reached.
        assert!((1..number("runs")).contains(&number("transferred")), "{name}: {report}");
        assert!(number("caller_told_nothing") > 0, "{name}: {report}");
    }
}

#[test]
fn a_mistake_names_what_to_type() {
    for (arguments, expected) in [
        (&["--crash"][..], "--crash-everywhere"),
        (&["--json"], "--crash-everywhere"),
        (&["--crash-everywhere", "--runs", "0"], "--runs"),
        (&["--strengths", "sagas"], "saga"),
        (&["bank", "--name", "north"], "--store"),
    ] {
        let (output, code) = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {output}");
        assert!(output.contains(expected), "{arguments:?}: {output}");
    }
    let (output, code) = run(&["--help"]);
    assert_eq!(code, Some(0));
    assert!(output.contains("--directory") && !output.contains("coordinator,"), "{output}");
}
