//! The goals, and what a run says of them. A goal is a ratio within one run.

use crate::contender::Role;
use crate::limits::{ROCKSDB_EACH, ROCKSDB_ONE};
use crate::ours::{ES_ROCKSDB, ES_SEGMENTED};
use crate::report::stats::Unit;
use crate::report::{Figure, Report, Verdict};
use crate::workload::{self, append, latency, load, read, replication, sagas, scale};

/// Why a goal is missed: reasons that are known, each used only if its goal is missed.
const REASONS: &[(&str, &str)] = &[
    (SINGLE, "L1 only writes; the store also decides, numbers and publishes"),
    (LOAD, "both decode JSON; the store also verifies each record and decodes its metadata"),
    (READ, "the raw scan neither verifies a checksum nor builds an event"),
    (
        FOLLOWER,
        "includes load, decision, commit and two thread wake-ups; a command also waits for the commit before it",
    ),
    (FLAT, "the first step is in memory, the last one in tables on disk: more levels to compact, fewer cached blocks"),
    (
        "append",
        "an event with one tag is two records and four index entries, each in the write-ahead log and the memtable",
    ),
    ("append-10", "as for append"),
    ("append-if", "as for append; the condition also reads the tag index"),
    ("load", "fjall and redb fold payloads; the store verifies each record and decodes ids, times, names and tags"),
    ("read", "as for load; for fjall and redb an event is a type and a payload"),
    ("latency", "as for command to live subscriber"),
    (STEP, "the commit of a step also has the event of its saga, and the row of its timer"),
    ("footprint", "at this size memory is mostly the write buffer, which has a fixed bound"),
    ("volume", "as for append; compaction also runs on the same two processors"),
];

const SINGLE: &str = "durable append, 1 writer, to L1";
const FOLLOWER: &str = "command to live subscriber, p99, in fsyncs";
const FLAT: &str = "cost stays flat while one store grows, lowest ratio of last step to first";
/// From which ratio on cost counts as flat.
const FLAT_FROM: f64 = 0.8;
const STEP: &str = "durable append, to a durable local step of a saga";
const REPLICATED: &str = "append that another node has stored, too, to a local append, 16 writers";
const READ: &str = "whole log, to a raw scan";
const VISIT: &str = "visit of the whole log, to a read of owned events";
const SEGMENTED_VISIT: &str = "visit of the whole log in segments, to a read of owned events from RocksDB";
const LOAD: &str = "typed load of 1,000 events, to a raw scan and decode";

/// A goal on the ratio of the durable store to a limit.
struct Ratio {
    goal: String,
    workload: &'static str,
    case: String,
    to: &'static str,
    at_least: f64,
}

/// All goals, in the order in which the project states them.
pub(crate) fn verdicts(report: &Report) -> Vec<Verdict> {
    let appended = |writers: u32| {
        let (limit, to) = if writers == 1 { ("L1", ROCKSDB_EACH) } else { ("L2", ROCKSDB_ONE) };
        let case = append::writers(writers);
        Ratio { goal: format!("durable append, {case}, to {limit}"), workload: append::APPEND, case, to, at_least: 0.9 }
    };
    let mut ratios: Vec<_> = [1, 16, 64, 256].map(appended).into();
    let case = load::case(1000);
    ratios.push(Ratio { goal: LOAD.into(), workload: load::LOAD, case, to: ROCKSDB_EACH, at_least: 0.7 });
    let case = read::WHOLE.to_owned();
    ratios.push(Ratio { goal: READ.into(), workload: read::READ, case, to: ROCKSDB_EACH, at_least: 0.8 });
    let mut verdicts: Vec<_> = ratios.iter().map(|goal| ratio(report, goal)).collect();
    verdicts.push(visit(report, VISIT, ES_ROCKSDB));
    verdicts.push(visit(report, SEGMENTED_VISIT, ES_SEGMENTED));
    verdicts.push(step(report));
    verdicts.push(replicated(report));
    verdicts.push(subscriber(report));
    verdicts.push(flat(report));
    verdicts.extend(
        workload::all()
            .iter()
            .filter(|workload| !workload.is_ours_only())
            .map(|workload| peers(report, workload.name())),
    );
    verdicts
}

fn ratio(report: &Report, goal: &Ratio) -> Verdict {
    let found = report.ratio(goal.workload, &goal.case, ES_ROCKSDB, goal.to);
    at_least(&goal.goal, goal.at_least, found)
}

/// The rate of a visit of the whole log of `store`, relative to the rate of a read of the default store.
fn visit(report: &Report, goal: &str, store: &str) -> Verdict {
    let rate = |case, store| report.median(read::READ, case, store);
    let rates = rate(read::VISITED, store).zip(rate(read::WHOLE, ES_ROCKSDB));
    at_least(goal, 1.5, rates.map(|(visit, read)| visit / read))
}

/// The time of a durable append to that of a durable local step of a saga: a step costs at most 1.3 appends.
fn step(report: &Report) -> Verdict {
    let time = |case| report.median(sagas::SAGAS, case, ES_ROCKSDB);
    at_least(STEP, 1.0 / 1.3, time(sagas::APPEND).zip(time(sagas::LOCAL)).map(|(append, step)| append / step))
}

/// The rate of events that the other node has stored, too, to the rate of local appends.
fn replicated(report: &Report) -> Verdict {
    let rate = |case| report.median(replication::REPLICATION, case, ES_ROCKSDB);
    at_least(REPLICATED, 0.5, rate(replication::LIVE).zip(rate(replication::LOCAL)).map(|(live, local)| live / local))
}

fn at_least(goal: &str, wanted: f64, found: Option<f64>) -> Verdict {
    let met = found.map(|found| found >= wanted);
    let by = |found: f64| format!("by {:.2}", wanted - found);
    Verdict {
        goal: goal.to_owned(),
        wanted: format!("at least {wanted:.2}"),
        found,
        met,
        missed: found.filter(|_| met == Some(false)).map(by),
        reason: reason(goal, met),
    }
}

/// Returns the reason of a miss, by the name of the goal or of the workload.
fn reason(name: &str, met: Option<bool>) -> Option<String> {
    let (_, reason) = REASONS.iter().find(|(known, _)| *known == name).filter(|_| met == Some(false))?;
    Some((*reason).to_owned())
}

/// The 99th percentile under twice what an fsync takes.
fn subscriber(report: &Report) -> Verdict {
    let of = |case, who| report.median(latency::LATENCY, case, who);
    let found = of(latency::P99, ES_ROCKSDB).zip(of(latency::P50, latency::FSYNC)).map(|(p99, fsync)| p99 / fsync);
    let met = found.map(|found| found < 2.0);
    let slowest = of(latency::P99, latency::FSYNC).zip(of(latency::P50, latency::FSYNC)).map(|(p99, p50)| p99 / p50);
    let slowest =
        slowest.map_or_else(String::new, |slowest| format!(", where the p99 of fsync itself is {slowest:.2}"));
    let by = |found: f64| format!("by {:.2} fsyncs{slowest}", found - 2.0);
    Verdict {
        goal: FOLLOWER.into(),
        wanted: "under 2.00".into(),
        found,
        met,
        missed: found.filter(|_| met == Some(false)).map(by),
        reason: reason(FOLLOWER, met),
    }
}

/// The last step of the growing store beside the first, in each of what is measured there.
fn flat(report: &Report) -> Verdict {
    let is_one = |figure: &&Figure| figure.workload == scale::SCALE && figure.unit == Unit::Flatness;
    let ratios = report.figures.iter().filter(is_one).filter_map(|figure| {
        let ratio = report.median(scale::SCALE, &figure.case, &figure.contender)?;
        Some((figure.case.trim_end_matches(", last to first"), ratio))
    });
    let ratios: Vec<_> = ratios.collect();
    let found = ratios.iter().map(|(_, ratio)| *ratio).reduce(f64::min);
    let below =
        ratios.iter().filter(|(_, ratio)| *ratio < FLAT_FROM).map(|(case, ratio)| format!("{case}: {ratio:.2}"));
    let below: Vec<_> = below.collect();
    let missed = (!below.is_empty()).then(|| format!("in {}", below.join("; ")));
    let met = found.map(|_| below.is_empty());
    let wanted = format!("at least {FLAT_FROM:.2}");
    Verdict { goal: FLAT.into(), wanted, found, met, missed, reason: reason(FLAT, met) }
}

/// At least as good as every peer in every case of a workload that the peer offers.
fn peers(report: &Report, workload: &str) -> Verdict {
    let mut lowest: Option<f64> = None;
    let mut slower = Vec::new();
    let is_peer = |figure: &&Figure| figure.workload == workload && report.role(&figure.contender) == Some(Role::Peer);
    for peer in report.figures.iter().filter(is_peer).filter(|figure| figure.unit != Unit::Flatness) {
        let Some(ratio) = report.ratio(workload, &peer.case, ES_ROCKSDB, &peer.contender) else { continue };
        lowest = Some(lowest.map_or(ratio, |lowest| lowest.min(ratio)));
        if ratio < 1.0 {
            slower.push(format!("{} ({}: {ratio:.2})", peer.case, peer.contender));
        }
    }
    let met = lowest.map(|_| slower.is_empty());
    Verdict {
        goal: format!("at least as good as every peer: {workload}, lowest ratio"),
        wanted: "at least 1.00".into(),
        found: lowest,
        met,
        missed: (!slower.is_empty()).then(|| format!("in {}", slower.join("; "))),
        reason: reason(workload, met),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    fn verdict(report: &Report, goal: &str) -> Verdict {
        verdicts(report).into_iter().find(|verdict| verdict.goal.contains(goal)).unwrap()
    }

    #[test]
    fn cost_is_flat_where_no_case_fell_and_says_which_did() {
        let mut measured = report(&[]);
        let mut add = |case: &str, ratio| measured.add(scale::SCALE, case, ES_ROCKSDB, Unit::Flatness, ratio);
        add("appended, last to first", 0.81);
        add("by a tag, last to first", 1.1);
        let flat = verdict(&measured, "flat");
        assert_eq!((flat.found, flat.met), (Some(0.81), Some(true)));
        measured.add(scale::SCALE, "load, last to first", ES_ROCKSDB, Unit::Flatness, 0.5);
        let fell = verdict(&measured, "flat");
        assert_eq!((fell.found, fell.met), (Some(0.5), Some(false)));
        assert_eq!(fell.missed.as_deref(), Some("in load: 0.50"));
        assert_eq!(verdict(&report(&[]), "flat").met, None);
    }

    #[test]
    fn a_goal_is_met_at_its_bound_and_missed_below_it_by_so_much() {
        let measured = report(&[
            ("append", "1 writer", "es-rocksdb", &[90.0, 100.0, 80.0]),
            ("append", "1 writer", "rocksdb-each", &[100.0]),
            ("append", "16 writers", "es-rocksdb", &[80.0]),
            ("append", "16 writers", "rocksdb-one", &[100.0]),
        ]);
        assert_eq!(verdict(&measured, "1 writer").met, Some(true));
        let missed = verdict(&measured, "16 writers");
        assert_eq!((missed.met, missed.missed.as_deref()), (Some(false), Some("by 0.10")));
        assert_eq!(
            verdict(&measured, "64 writers"),
            Verdict { met: None, found: None, missed: None, ..verdict(&measured, "64 writers") }
        );
    }

    #[test]
    fn a_visit_is_compared_with_the_read_of_the_default_store() {
        for (store, goal) in [("es-rocksdb", VISIT), ("es-segmented", SEGMENTED_VISIT)] {
            let rates =
                |visited| [("read", read::WHOLE, "es-rocksdb", &[10.0][..]), ("read", read::VISITED, store, visited)];
            assert_eq!(verdict(&report(&rates(&[16.0])), goal).met, Some(true));
            let missed = verdict(&report(&rates(&[14.0])), goal);
            assert_eq!((missed.met, missed.missed.as_deref()), (Some(false), Some("by 0.10")));
        }
    }

    #[test]
    fn a_step_of_a_saga_is_compared_with_an_append() {
        let times =
            |step| [("sagas", sagas::APPEND, "es-rocksdb", &[100.0][..]), ("sagas", sagas::LOCAL, "es-rocksdb", step)];
        assert_eq!(verdict(&report(&times(&[130.0])), "step of a saga").met, Some(true));
        assert_eq!(verdict(&report(&times(&[140.0])), "step of a saga").met, Some(false));
    }

    #[test]
    fn a_missed_goal_has_a_reason() {
        let measured =
            report(&[("read", read::WHOLE, "es-rocksdb", &[50.0]), ("read", read::WHOLE, "rocksdb-each", &[100.0])]);
        let missed = verdict(&measured, "whole log");
        assert_eq!(missed.missed.as_deref(), Some("by 0.30"));
        assert!(missed.reason.unwrap().starts_with("the raw scan"));
        let measured =
            report(&[("read", read::WHOLE, "es-rocksdb", &[90.0]), ("read", read::WHOLE, "rocksdb-each", &[100.0])]);
        assert_eq!(verdict(&measured, "whole log,").reason, None, "a goal that is met has no reason");
    }

    #[test]
    fn the_subscriber_is_compared_with_the_median_fsync() {
        let measured = report(&[
            ("latency", latency::P99, "es-rocksdb", &[300.0]),
            ("latency", latency::P50, latency::FSYNC, &[100.0]),
            ("latency", latency::P99, latency::FSYNC, &[170.0]),
        ]);
        let missed = verdict(&measured, "subscriber");
        assert_eq!((missed.found, missed.met), (Some(3.0), Some(false)));
        assert_eq!(missed.missed.as_deref(), Some("by 1.00 fsyncs, where the p99 of fsync itself is 1.70"));
    }

    #[test]
    fn one_peer_ahead_in_one_case_misses_the_goal_and_is_named() {
        let figures: &[(&str, &str, &str, &[f64])] = &[
            ("append", "1 writer", "es-rocksdb", &[100.0]),
            ("append", "1 writer", "umadb", &[50.0]),
            ("latency", latency::P50, "es-rocksdb", &[100.0]),
        ];
        let measured = report(figures);
        assert_eq!(verdict(&measured, "every peer: append,").met, Some(true));
        let measured = report(&[figures, &[("latency", latency::P50, "redb", &[80.0][..])]].concat());
        assert_eq!(verdict(&measured, "every peer: append,").met, Some(true));
        let missed = verdict(&measured, "every peer: latency");
        assert_eq!((missed.met, missed.found), (Some(false), Some(0.8)));
        assert!(missed.missed.unwrap().contains("redb: 0.80"));
        assert_eq!(verdict(&report(&[]), "every peer: append,").met, None);
    }
}
