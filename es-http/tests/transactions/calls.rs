//! Calls that the participant answers.

use std::sync::Arc;

use es_core::model::ErrorChain;
use es_transaction::{
    Finished, Outcome, Participant, ParticipantError, ParticipantState, ParticipantStatus, Prepare, Vote,
};

use crate::seats::{Reserve, Seats, prepared_at, reserve, reserved};
use crate::support::{Server, chain, epoch, prepare, transaction};

#[tokio::test]
async fn a_prepared_part_is_committed_once_however_often_it_is_called() {
    let seats = Arc::new(Seats::default());
    let server = Server::of(&seats).await;
    let (client, id) = (server.client("shop"), transaction("orders.7"));
    assert_eq!(client.name(), "seats");
    let status =
        |state, prepared_at| ParticipantStatus { state, is_heuristic: false, has_restarted: false, prepared_at };
    assert_eq!(client.status(&id).await.unwrap(), status(ParticipantState::Unknown, None));
    for _ in 0..3 {
        assert_eq!(client.prepare(&prepare(&id), &reserve(2)).await.unwrap(), Vote::Prepared(reserved(2)));
        assert_eq!(client.status(&id).await.unwrap(), status(ParticipantState::Prepared, Some(prepared_at())));
    }
    assert_eq!(seats.state().reserved, 0);
    for _ in 0..3 {
        assert_eq!(client.commit(&id, &reserved(2)).await.unwrap(), Finished::Done);
        assert_eq!(client.status(&id).await.unwrap().state, ParticipantState::Committed);
    }
    assert_eq!(seats.state().reserved, 2);
    assert_eq!(client.abort(&id, None).await.unwrap(), Finished::Heuristic(Outcome::Committed));
    client.forget(&id).await.unwrap();
    assert_eq!(seats.state().forgotten, [id]);
}

#[tokio::test]
async fn a_part_is_aborted_with_and_without_its_vote() {
    let seats = Arc::new(Seats::default());
    let server = Server::of(&seats).await;
    let (client, id) = (server.client("shop"), transaction("orders.7"));
    assert_eq!(client.abort(&id, None).await.unwrap(), Finished::Done, "an unknown transaction is aborted already");
    assert_eq!(seats.state().aborted_with, Some(None));
    assert_eq!(client.commit(&id, &reserved(2)).await.unwrap(), Finished::Unknown);
    client.prepare(&prepare(&id), &reserve(2)).await.unwrap();
    assert_eq!(client.abort(&id, Some(&reserved(2))).await.unwrap(), Finished::Done);
    assert_eq!(seats.state().aborted_with, Some(Some(reserved(2))));
    assert_eq!(client.status(&id).await.unwrap().state, ParticipantState::Aborted);
    assert_eq!(client.commit(&id, &reserved(2)).await.unwrap(), Finished::Heuristic(Outcome::Aborted));
}

#[tokio::test]
async fn a_vote_can_be_read_only_or_no() {
    let server = Server::of(&Arc::default()).await;
    let (client, id) = (server.client("shop"), transaction("orders.7"));
    assert_eq!(client.prepare(&prepare(&id), &reserve(0)).await.unwrap(), Vote::ReadOnly);
    let patient = Prepare { timeout_ms: u64::MAX, ..prepare(&id) };
    assert_eq!(client.prepare(&patient, &reserve(0)).await.unwrap(), Vote::ReadOnly, "any number is a timeout");
    let no = Vote::No { reason: "expected at most 100 seats".to_owned() };
    assert_eq!(client.prepare(&prepare(&id), &reserve(101)).await.unwrap(), no);
}

#[tokio::test]
async fn the_question_for_transactions_in_doubt_fences_earlier_epochs() {
    let server = Server::of(&Arc::default()).await;
    let (client, id) = (server.client("shop"), transaction("orders.7"));
    client.prepare(&prepare(&id), &reserve(2)).await.unwrap();
    assert_eq!(client.in_doubt(&epoch("orders.8")).await.unwrap(), std::slice::from_ref(&id));
    assert_eq!(server.client("bank").in_doubt(&epoch("payments.1")).await.unwrap(), []);
    let fenced = |error: ParticipantError| match error {
        ParticipantError::Fenced { known, found } => (known.to_string(), found.to_string()),
        other => panic!("{}", ErrorChain(&other)),
    };
    let expected = ("orders.8".to_owned(), "orders.7".to_owned());
    assert_eq!(fenced(client.prepare(&prepare(&id), &reserve(1)).await.unwrap_err()), expected);
    assert_eq!(fenced(client.in_doubt(&epoch("orders.7")).await.unwrap_err()), expected);
    assert_eq!(client.commit(&id, &reserved(2)).await.unwrap(), Finished::Done, "a prepared part can be committed");
    assert_eq!(client.in_doubt(&epoch("orders.8")).await.unwrap(), []);
}

#[tokio::test]
async fn each_error_of_the_participant_reaches_the_coordinator() {
    let seats = Arc::new(Seats::default());
    let server = Server::of(&seats).await;
    let (client, id) = (server.client("shop"), transaction("orders.7"));
    let failed = async |failure: ParticipantError| {
        seats.state().failure = Some(failure);
        client.status(&id).await.unwrap_err()
    };
    let (participant, detail) = ("x".to_owned(), "block 7 of /var/lib/seats".to_owned());
    let unreadable = failed(ParticipantError::Unreadable { participant, detail }).await;
    let text = chain(&unreadable);
    assert!(matches!(unreadable, ParticipantError::Unreadable { participant, .. } if participant == "seats"), "{text}");
    assert!(text.contains("the log of its service has the cause") && !text.contains("/var"), "{text}");
    let (participant, detail) = ("x".to_owned(), "expected another transaction".to_owned());
    let refused = failed(ParticipantError::Refused { participant, detail }).await;
    let text = chain(&refused);
    assert!(matches!(refused, ParticipantError::Refused { .. }), "{text}");
    assert!(text.contains("expected another transaction") && text.contains(&server.url()), "{text}");
    let unsupported = failed(ParticipantError::Unsupported { operation: "status" }).await;
    assert!(matches!(unsupported, ParticipantError::Unsupported { operation: "status" }), "{unsupported}");
    let unsupported = client.pre_commit(&id, &reserved(2)).await.unwrap_err();
    assert!(matches!(unsupported, ParticipantError::Unsupported { operation: "pre_commit" }), "{unsupported}");
    // An unavailable participant is called again: the second call succeeds.
    let source = "no leader at 10.0.0.1".into();
    seats.state().failure = Some(ParticipantError::Unavailable { participant: "x".to_owned(), source });
    assert_eq!(client.status(&id).await.unwrap().state, ParticipantState::Unknown);
}

#[tokio::test]
async fn what_does_not_fit_a_commit_is_not_prepared() {
    let seats = Arc::new(Seats::default());
    let server = Server::of(&seats).await;
    let (client, id) = (server.client("shop"), transaction("orders.7"));
    let longest = es_http::transactions::MAX_VOTE_BYTES - r#"{"prepared":{"seats":2,"text":""}}"#.len();
    let request = |text_bytes| Reserve { seats: 2, text_bytes };
    let Vote::Prepared(prepared) = client.prepare(&prepare(&id), &request(longest)).await.unwrap() else {
        panic!("expected a vote with prepared data");
    };
    assert_eq!(client.commit(&id, &prepared).await.unwrap(), Finished::Done, "the longest vote can be committed");
    let refused = client.prepare(&prepare(&id), &request(longest + 1)).await.unwrap_err();
    let text = chain(&refused);
    assert!(matches!(refused, ParticipantError::Refused { .. }), "{text}");
    assert!(text.contains("expected a vote of at most 1044480 bytes, found 1044481"), "{text}");
    let mut prepared = prepared;
    prepared.text.push_str(&"x".repeat(5000));
    let refused = client.commit(&id, &prepared).await.unwrap_err();
    let text = chain(&refused);
    assert!(matches!(refused, ParticipantError::Refused { .. }), "{text}");
    assert!(text.contains("expected a body of at most 1048576 bytes"), "{text}");
}
