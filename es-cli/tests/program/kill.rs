//! Kills an import (SIGKILL) and repeats it: each event is stored once and in order.
//!
//! Uses a generated log, and the event log of a bank's loan applications if it exists: `ES_SHARED_DATA` names
//! the directory with `loan_applications_2012.csv.gz`; without it, `../shared/data` beside the workspace is looked at.
//! Its first 50,000 rows, or as many as `ES_LOANS` says, of 262,200.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::support::TestDir;

const KILLS: u32 = 4;

#[test]
fn a_generated_log_is_complete_after_kills() {
    let lines: Vec<String> = (1..=6000)
        .map(|row: u32| {
            let id = format!("00000000-0000-8000-8000-{row:012}");
            let line = json!({
                "stream": format!("generated-{}", row % 331), "type": format!("type {}", row % 7), "id": id,
                "occurred_at": "2026-01-01T00:00:00Z", "tags": [format!("tag:{}", row % 11)], "data": {"row": row}});
            line.to_string()
        })
        .collect();
    import_with_kills(&lines);
}

#[test]
fn the_loan_log_is_complete_after_kills() {
    let dir = std::env::var_os("ES_SHARED_DATA").map(PathBuf::from);
    let dir = dir.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"));
    let path = dir.join("loan_applications_2012.csv.gz");
    let Ok(file) = File::open(&path) else {
        println!("skipped: expected the loan log in {}, found none; set ES_SHARED_DATA", path.display());
        return;
    };
    let wanted = std::env::var("ES_LOANS").ok().and_then(|text| text.parse().ok()).unwrap_or(50_000);
    let rows = csv::Reader::from_reader(GzDecoder::new(file)).into_records();
    let lines: Vec<String> =
        (1..).zip(rows).take(wanted).map(|(row, record): (u64, _)| loan(row, &record.expect("a row"))).collect();
    assert_eq!(lines.len(), wanted.min(262_200));
    let started = Instant::now();
    import_with_kills(&lines);
    println!("{} events of the loan log in {:?}", lines.len(), started.elapsed());
}

fn loan(row: u64, record: &csv::StringRecord) -> String {
    let [time, case, activity, transition, resource, amount] = [0, 1, 2, 3, 4, 5].map(|column| record[column].trim());
    let line = json!({
        "stream": format!("loan-{case}"), "type": activity, "occurred_at": time,
        "id": format!("00000000-0000-8000-8000-{row:012x}"),
        "data": {"transition": transition, "resource": resource, "amount_requested": amount},
    });
    line.to_string()
}

/// Imports, kills the import some times, repeats it, verifies the store and compares the export.
fn import_with_kills(lines: &[String]) {
    let dir = TestDir::new();
    dir.write("in.jsonl", lines.join("\n"));
    let mut seen = 0;
    for kill in 1..=KILLS {
        let goal = lines.len() as u64 * u64::from(kill) / u64::from(KILLS + 1);
        let head = import_and_kill(&dir, lines, goal);
        assert!(head >= seen, "{head} events, {seen} before");
        seen = head;
    }
    assert!(seen > 0 && seen < lines.len() as u64, "no kill interrupted the import: {seen}");
    let summary = dir.json(&["import", "in.jsonl"]);
    assert_eq!(summary["repeated"].as_u64(), Some(seen));
    assert_eq!(summary["head"].as_u64(), Some(lines.len() as u64));
    let verified = dir.json(&["verify"]);
    assert_eq!((&verified["sound"], verified["events"].as_u64()), (&json!(true), Some(lines.len() as u64)));
    dir.done(&["export", "out.jsonl"]);
    let export = dir.read("out.jsonl");
    assert_eq!(export.lines().count(), lines.len());
    for (position, (line, exported)) in (1u64..).zip(lines.iter().zip(export.lines())) {
        let (line, exported): (Value, Value) =
            (serde_json::from_str(line).unwrap(), serde_json::from_str(exported).unwrap());
        assert_eq!(exported["position"].as_u64(), Some(position));
        for field in ["stream", "type", "id", "data"] {
            assert_eq!(exported[field], line[field], "position {position}");
        }
    }
}

/// Imports until the log has about `goal` events, kills the program, and returns the number of events.
///
/// The program reads from a pipe with more lines than the goal, but not all. The pipe stays open, so that the import
/// cannot end before it is killed.
fn import_and_kill(dir: &TestDir, lines: &[String], goal: u64) -> u64 {
    let mut program = dir.command(&["import", "-"]).stdin(Stdio::piped()).spawn().expect("it starts");
    let fed = goal + (lines.len() as u64 - goal) / 2;
    let text = lines[..usize::try_from(fed).expect("small")].join("\n") + "\n";
    let mut pipe = program.stdin.take().expect("standard input is a pipe");
    let feeder = std::thread::spawn(move || {
        // The pipe breaks if the program is killed while it reads.
        let _ = pipe.write_all(text.as_bytes());
        pipe
    });
    let head = || dir.run(&["info", "--json"]);
    let heads =
        |text: &str| serde_json::from_str::<Value>(text).ok().and_then(|info| info["head"].as_u64()).unwrap_or(0);
    let started = Instant::now();
    while program.try_wait().expect("it can be asked").is_none() && started.elapsed() < Duration::from_secs(60) {
        if heads(&head().out) >= goal {
            break;
        }
    }
    program.kill().expect("it can be killed");
    program.wait().expect("it ends");
    drop(feeder.join().expect("the feeder does not panic"));
    let after = head();
    assert_eq!(after.code, Some(0), "{}", after.err);
    heads(&after.out)
}
