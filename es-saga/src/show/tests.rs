use es_core::{Evolve, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::failure::{ErrorClass, StepFailure, StepRetry};
use crate::id::{Direction, StepKey};
use crate::instance::{Operate, OperatorNote, SagaVerb, Transition, Unit};
use crate::shape::SagaShape;

fn at(seconds: i64) -> Timestamp {
    "2026-01-31T12:00:00Z".parse::<Timestamp>().expect("a time") + chrono::TimeDelta::seconds(seconds)
}

fn node(name: &str, effect: Effect, repeat: Repeat, after: &[u32]) -> NodeShape {
    NodeShape {
        name: name.to_owned(),
        step: name.to_owned(),
        step_version: 1,
        effect,
        repeat,
        undo: Undo::Compensate,
        after: after.to_vec(),
        input: "saga".to_owned(),
    }
}

/// A saga whose payment cannot be given back, with a step for each of three parcels.
fn stuck() -> SagaInstance {
    let id = SagaId::new("fulfilment", 10248).expect("an id");
    let shape = SagaShape {
        name: "fulfilment".to_owned(),
        version: 1,
        nodes: vec![
            node("reserve", Effect::Local, Repeat::Once, &[]),
            node("pay", Effect::External, Repeat::Once, &[0]),
            node("gift", Effect::External, Repeat::Optional, &[0]),
            node("pack", Effect::External, Repeat::Each, &[0, 1, 2]),
            node("ship", Effect::External, Repeat::Once, &[3]),
        ],
        output: "ship".to_owned(),
        pivot: Some(Pivot { step: None, next: 4 }),
    };
    let mut saga = SagaInstance::initial(&id);
    let unit = |node, item| Unit { node, item };
    let key = StepKey::of(&id, "n", 0, 0, Direction::Forward);
    let start = |unit| Transition::Start { unit, key, input: "i".to_owned(), compensation: json!(1) };
    let succeed = |unit| Transition::Succeed { unit, output: json!(1) };
    let failure = |class, message: &str| StepFailure::new(class, message);
    let retry = StepRetry { attempts: 2, ..StepRetry::DEFAULT };
    let refund = || failure(ErrorClass::Terminal, "refund\nfailed");
    let no_driver = failure(ErrorClass::Terminal, "no paper");
    let busy = failure(ErrorClass::Transient, "busy");
    let transitions = [
        (0, Transition::Create { parent: None, shape, input: json!(7), deadline: Some(at(3600)) }),
        (1, succeed(unit(0, 0))),
        (1, Transition::Omit { node: 2 }),
        (1, start(unit(1, 0))),
        (3, Transition::Fail { unit: unit(1, 0), failure: busy, retry, roll: 0 }),
        (3, start(unit(1, 0))),
        (4, succeed(unit(1, 0))),
        (4, Transition::List { node: 3, count: 3 }),
        (5, start(unit(3, 0))),
        (5, start(unit(3, 1))),
        (6, succeed(unit(3, 0))),
        (75, Transition::Fail { unit: unit(3, 1), failure: no_driver, retry, roll: 0 }),
        (76, Transition::StartUndo { unit: unit(3, 0), key }),
        (77, Transition::SucceedUndo { unit: unit(3, 0) }),
        (78, Transition::StartUndo { unit: unit(1, 0), key }),
        (79, Transition::FailUndo { unit: unit(1, 0), failure: refund(), retry, roll: 0 }),
    ];
    for (seconds, transition) in transitions {
        saga.transition(transition, at(seconds)).expect("it fits");
    }
    saga
}

#[test]
fn a_saga_is_shown_as_text() {
    let expected = "\
fulfilment:10248, version 1: stuck
  reason      pay: refund failed
  created     2026-01-31T12:00:00Z
  changed     2026-01-31T12:01:19Z
  deadline    2026-01-31T13:00:00Z

  STEP         STATE                          ATTEMPTS  UNDOS  START   TIME  AFTER             ERROR
  reserve      succeeded                             1      0    +1s     0s
  pay          undo-failed                           2      1    +1s     3s  reserve           refund failed
  gift         omitted                               0      0                reserve
  pack         1 failed, 1 pending, 1 undone         2      1    +5s  1m10s  reserve pay gift
    pack[1]    failed                                1      0    +5s  1m10s                    no paper
  -- pivot --
  ship         pending                               0      0                pack
";
    let found = SagaDetails::of(&stuck()).to_string();
    assert_eq!(found, expected, "{found}");
}

#[test]
fn a_saga_is_shown_as_a_mermaid_flowchart_without_indirect_edges() {
    let expected = "\
flowchart TD
  n0[\"reserve<br/>succeeded, 0s\"]:::done
  n1[\"pay<br/>undo-failed, 2 attempts, 3s\"]:::failed
  n2[\"gift<br/>omitted\"]:::undone
  n3[\"pack<br/>mixed, 3 items, 1m10s\"]:::active
  n4[\"ship<br/>pending\"]:::pending
  n0 --> n1
  n0 --> n2
  n1 --> n3
  n2 --> n3
  n3 --> n4
  classDef done fill:#d9ead3,stroke:#444444,color:#000000
  classDef active fill:#cfe2f3,stroke:#444444,color:#000000
  classDef undone fill:#eeeeee,stroke:#444444,color:#000000
  classDef failed fill:#f4cccc,stroke:#444444,color:#000000
  classDef pending fill:#ffffff,stroke:#444444,color:#000000
";
    let found = SagaDetails::of(&stuck()).mermaid();
    assert_eq!(found, expected, "{found}");
}

#[test]
fn the_json_form_has_no_inputs_and_outputs() {
    let found = serde_json::to_value(SagaDetails::of(&stuck())).expect("it is JSON");
    let text = found.to_string();
    for absent in ["input", "output", "compensation"] {
        assert!(!text.contains(&format!("{absent:?}")), "{absent}: {text}");
    }
    assert_eq!(found["id"], json!("fulfilment:10248"));
    assert_eq!((&found["phase"], &found["reason"]), (&json!("stuck"), &json!("pay: refund\nfailed")));
    assert_eq!(
        found["nodes"][1],
        json!({
            "name": "pay",
            "step": "pay",
            "step_version": 1,
            "effect": "external",
            "repeat": "once",
            "undo": "compensate",
            "after": ["reserve"],
            "is_omitted": false,
            "run": 0,
            "items": [{
                "item": 0,
                "state": "undo-failed",
                "attempts": 2,
                "undo_attempts": 1,
                "started_at": "2026-01-31T12:00:01Z",
                "ended_at": "2026-01-31T12:00:04Z",
                "undo_started_at": "2026-01-31T12:01:18Z",
                "error": "refund\nfailed",
            }],
        })
    );
    assert_eq!(found["quarantine"], Value::Null);
}

#[test]
fn a_delay_is_shown_with_its_time_and_its_end() {
    let mut saga = SagaInstance::initial(&SagaId::new("trial", 1).expect("an id"));
    let nodes = vec![
        node("over", Effect::Delay { milliseconds: 93_600_000 }, Repeat::Once, &[]),
        node("charge", Effect::External, Repeat::Once, &[0]),
    ];
    let shape = SagaShape { name: "trial".to_owned(), version: 1, nodes, output: "charge".to_owned(), pivot: None };
    let create = Transition::Create { parent: None, shape, input: json!(7), deadline: None };
    saga.transition(create, at(0)).expect("it is new");
    let unit = Unit { node: 0, item: 0 };
    saga.transition(Transition::StartDelay { unit }, at(1)).expect("it fits");
    let details = SagaDetails::of(&saga);
    let text = details.to_string();
    let line = "  over    delayed until 2026-02-01T14:00:01Z         0      0    +1s";
    assert!(text.lines().any(|found| found == line), "{text}");
    let mermaid = details.mermaid();
    let box_of_delay = "  n0([\"over<br/>delay of 1d2h<br/>delayed\"]):::active";
    assert!(mermaid.lines().any(|found| found == box_of_delay), "{mermaid}");
    let found = serde_json::to_value(details).expect("it is JSON");
    assert_eq!(found["nodes"][0]["effect"], json!({ "delay": { "milliseconds": 93_600_000 } }));
    assert_eq!(found["nodes"][0]["items"][0]["delayed_until"], json!("2026-02-01T14:00:01Z"));
}

#[test]
fn a_summary_is_one_line() {
    let mut saga = stuck();
    let pause = Operate { verb: SagaVerb::Pause, note: OperatorNote::new("ann", "provider\nis down") };
    let summary = SagaSummary::of(&saga);
    assert_eq!(summary.to_string(), "fulfilment:10248, version 1: stuck (pay: refund failed)");
    saga.operate(pause, at(90)).expect("it is unfinished");
    let paused = SagaSummary::of(&saga);
    assert_eq!(paused.to_string(), "fulfilment:10248, version 1: stuck, paused (paused by ann: provider is down)");
    let quarantined = paused.with_quarantine(Some("no definition".to_owned()));
    assert!(quarantined.to_string().ends_with(": stuck, paused, quarantined (no definition)"), "{quarantined}");
}

#[test]
fn times_are_short() {
    let texts = [(0, "0s"), (59, "59s"), (60, "1m"), (61, "1m1s"), (3600, "1h"), (7260, "2h1m"), (90_000, "1d1h")];
    for (seconds, expected) in texts {
        assert_eq!(text::between(at(0), at(seconds)), expected);
    }
    let millis = |millis| text::between(at(0), at(0) + chrono::TimeDelta::milliseconds(millis));
    assert_eq!((millis(7).as_str(), millis(1_050).as_str()), ("7ms", "1.050s"));
}
