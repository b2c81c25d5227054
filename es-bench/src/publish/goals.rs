//! The goals, and what a run says of them. A goal is a ratio within one run.

use crate::contender::Role;
use crate::limits::{BARE_FILE, ROCKSDB_EACH};
use crate::ours::ES_ROCKSDB;
use crate::report::stats::Unit;
use crate::report::{Figure, Report, Verdict};
use crate::workload::{self, append, footprint, latency, load, read, replication, sagas, scale};

/// Why a goal is missed: reasons that are known, each used only if its goal is missed.
const REASONS: &[(&str, &str)] = &[
    (LOAD, "both decode JSON; the store also verifies each record and decodes its metadata"),
    (READ, "the raw scan neither verifies a checksum nor builds an event"),
    (
        FOLLOWER,
        "includes load, decision, commit and two thread wake-ups; a command also waits for the commit before it",
    ),
    ("load", "fjall and redb fold payloads; the store verifies each record and decodes ids, times, names and tags"),
    ("read", "as for load; for fjall and redb an event is a type and a payload"),
    ("latency", "as for command to live subscriber"),
    (DISK, "the segment that is written is filled ahead with zeros, and is not compressed"),
    ("footprint", "memory is mostly that of caches and write buffers, which have a fixed bound"),
    (STEP, "the commit of a step also has the event of its saga, and the row of its timer"),
];

const FILE: &str = "durable append, 16 writers, to a growing file";
const FOLLOWER: &str = "command to live subscriber, p99, in fsyncs";
const FLAT: &str = "cost stays flat while one store grows, lowest ratio of last step to first";
/// From which ratio on cost counts as flat.
const FLAT_FROM: f64 = 0.9;
const STEP: &str = "durable append, to a durable local step of a saga";
const REPLICATED: &str = "append that another node has stored, too, to a local append, 16 writers";
const READ: &str = "whole log, to a raw scan";
const VISIT: &str = "visit of the whole log, to a read of owned events";
const VISIT_TO_PEERS: &str = "visit of the whole log, to the fastest read of a peer";
const DISK: &str = "bytes on disk per event of 200 bytes";
const MAX_DISK: f64 = 280.0;
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
    let case = append::writers(16);
    let mut ratios = vec![Ratio { goal: FILE.into(), workload: append::APPEND, case, to: BARE_FILE, at_least: 1.5 }];
    let case = load::case(1000);
    ratios.push(Ratio { goal: LOAD.into(), workload: load::LOAD, case, to: ROCKSDB_EACH, at_least: 0.7 });
    let case = read::WHOLE.to_owned();
    ratios.push(Ratio { goal: READ.into(), workload: read::READ, case, to: ROCKSDB_EACH, at_least: 0.8 });
    let mut verdicts: Vec<_> = ratios.iter().map(|goal| ratio(report, goal)).collect();
    verdicts.push(visit(report));
    verdicts.push(visit_to_peers(report));
    verdicts.push(disk(report));
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

/// The rate of a visit of the whole log to the rate of a read of owned events.
fn visit(report: &Report) -> Verdict {
    let rate = |case| report.median(read::READ, case, ES_ROCKSDB);
    at_least(VISIT, 1.5, rate(read::VISITED).zip(rate(read::WHOLE)).map(|(visit, read)| visit / read))
}

/// The rate of a visit of the whole log to the highest rate of a peer that reads it.
fn visit_to_peers(report: &Report) -> Verdict {
    let of_peers = report.figures.iter().filter(|figure| {
        let is_peer = report.role(&figure.contender) == Some(Role::Peer);
        figure.workload == read::READ && figure.case == read::WHOLE && is_peer
    });
    let rates = of_peers.filter_map(|figure| report.median(read::READ, read::WHOLE, &figure.contender));
    let found = report.median(read::READ, read::VISITED, ES_ROCKSDB).zip(rates.reduce(f64::max));
    at_least(VISIT_TO_PEERS, 1.5, found.map(|(visit, read)| visit / read))
}

/// The bytes on disk after a compaction, in the case with the most.
fn disk(report: &Report) -> Verdict {
    let is_disk = |figure: &&Figure| figure.workload == footprint::FOOTPRINT && figure.case.starts_with("disk, ");
    let figures = report.figures.iter().filter(is_disk);
    let found = figures.filter_map(|figure| report.median(footprint::FOOTPRINT, &figure.case, ES_ROCKSDB));
    let found = found.reduce(f64::max);
    let met = found.map(|found| found <= MAX_DISK);
    let by = |found: f64| format!("by {:.0} bytes", found - MAX_DISK);
    Verdict {
        goal: DISK.into(),
        wanted: format!("at most {MAX_DISK:.0}"),
        found,
        met,
        missed: found.filter(|_| met == Some(false)).map(by),
        reason: reason(DISK, met),
    }
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
        add("appended, last to first", 0.91);
        add("by a tag, last to first", 1.1);
        let flat = verdict(&measured, "flat");
        assert_eq!((flat.found, flat.met), (Some(0.91), Some(true)));
        measured.add(scale::SCALE, "load, last to first", ES_ROCKSDB, Unit::Flatness, 0.5);
        let fell = verdict(&measured, "flat");
        assert_eq!((fell.found, fell.met), (Some(0.5), Some(false)));
        assert_eq!(fell.missed.as_deref(), Some("in load: 0.50"));
        assert_eq!(verdict(&report(&[]), "flat").met, None);
    }

    #[test]
    fn a_goal_is_met_at_its_bound_and_missed_below_it_by_so_much() {
        let rates = |found| {
            [("append", "16 writers", "es-rocksdb", found), ("append", "16 writers", "bare-file", &[100.0][..])]
        };
        assert_eq!(verdict(&report(&rates(&[140.0, 150.0, 160.0])), FILE).met, Some(true));
        let missed = verdict(&report(&rates(&[140.0])), FILE);
        assert_eq!((missed.met, missed.missed.as_deref()), (Some(false), Some("by 0.10")));
        let unmeasured = verdict(&report(&[]), FILE);
        assert_eq!((unmeasured.met, unmeasured.found, unmeasured.missed), (None, None, None));
    }

    #[test]
    fn bytes_on_disk_are_those_of_the_case_with_the_most() {
        let bytes = |most| {
            let case = |events| format!("disk, {events} events per stream");
            let mut measured = report(&[]);
            for (events, bytes) in [(10, most), (1000, 200.0)] {
                measured.add(footprint::FOOTPRINT, &case(events), ES_ROCKSDB, Unit::Bytes, bytes);
            }
            verdict(&measured, DISK)
        };
        assert_eq!(bytes(280.0).met, Some(true));
        let missed = bytes(300.0);
        assert_eq!(
            (missed.found, missed.met, missed.missed.as_deref()),
            (Some(300.0), Some(false), Some("by 20 bytes"))
        );
    }

    #[test]
    fn a_visit_is_compared_with_the_fastest_peer() {
        let rates = |visited| {
            let peers = [("umadb", &[8.0][..]), ("redb", &[10.0][..])];
            let ours = ("read", read::VISITED, "es-rocksdb", visited);
            report(
                &[ours]
                    .into_iter()
                    .chain(peers.map(|(peer, rate)| ("read", read::WHOLE, peer, rate)))
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(verdict(&rates(&[15.0]), VISIT_TO_PEERS).met, Some(true));
        assert_eq!(verdict(&rates(&[14.0]), VISIT_TO_PEERS).met, Some(false));
    }

    #[test]
    fn a_visit_is_compared_with_a_read_of_owned_events() {
        let rates = |visited| {
            [("read", read::WHOLE, "es-rocksdb", &[10.0][..]), ("read", read::VISITED, "es-rocksdb", visited)]
        };
        assert_eq!(verdict(&report(&rates(&[16.0])), VISIT).met, Some(true));
        let missed = verdict(&report(&rates(&[14.0])), VISIT);
        assert_eq!((missed.met, missed.missed.as_deref()), (Some(false), Some("by 0.10")));
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
