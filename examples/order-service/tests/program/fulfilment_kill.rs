//! `fulfil --all` is killed (SIGKILL) again and again, with its provider, at a failure rate of 20 %. After each kill
//! the sums of the report hold. The last run ends all sagas: each is completed, compensated or stuck, and none is lost.
//!
//! `ES_FULFILMENT=10000` runs the long form with that many sagas.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::fulfilment::{assert_balanced, imported, number};
use crate::support::TestDir;

const SAGAS: u64 = 60;
const KILLS: u32 = 6;

fn fulfil(seed: &str) -> [&str; 6] {
    ["fulfil", "--all", "--fail-rate", "0.2", "--seed", seed]
}

/// Starts a fulfilment and kills it after a time. Returns whether it was killed before its end.
fn fulfil_and_kill(dir: &TestDir, seed: &str, after: Duration) -> bool {
    let mut command = dir.command(&fulfil(seed));
    let mut program = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("the program starts");
    std::thread::sleep(after);
    let is_running = program.try_wait().expect("it can be asked").is_none();
    program.kill().expect("kill the program");
    program.wait().expect("wait for the program");
    is_running
}

#[test]
fn a_killed_fulfilment_continues_and_no_saga_is_lost() {
    let sagas: u64 = std::env::var("ES_FULFILMENT").ok().and_then(|text| text.parse().ok()).unwrap_or(SAGAS);
    let seed = std::env::var("ES_SEED").unwrap_or_else(|_| "7".to_owned());
    let dir = imported(sagas);
    let mut interrupted = 0;
    for kill in 0..KILLS {
        // The first kills meet the start and the first steps, the others the middle of the run.
        let after = Duration::from_millis(150 + 250 * u64::from(kill)) * if sagas > SAGAS { 4 } else { 1 };
        interrupted += u32::from(fulfil_and_kill(&dir, &seed, after));
        let report = dir.json(&["sagas", "report"]);
        assert_balanced(&report);
    }
    assert!(interrupted > 1, "only {interrupted} of {KILLS} kills were before the end");
    let start = Instant::now();
    let report = dir.json(&fulfil(&seed));
    assert_balanced(&report);
    assert_eq!((number(&report, "sagas"), number(&report, "running")), (sagas, 0), "ES_SEED={seed}: {report}");
    assert_eq!(number(&report, "effects_per_key_max"), 1);
    assert!(number(&report, "completed") > sagas / 2, "{report}");
    assert!(number(&report, "compensated") > 0, "{report}");
    assert_eq!(dir.json(&["sagas", "report"]), report);
    println!(
        "{sagas} sagas at a failure rate of 20 %, {interrupted} kills, last run {:?}: {} completed, {} compensated, \
         {} stuck",
        start.elapsed(),
        number(&report, "completed"),
        number(&report, "compensated"),
        number(&report, "stuck")
    );
}
