//! The OpenAPI document describes the routes of a participant.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response, header};
use es_core::model::{CoordinatorEpoch, TransactionId};
use es_transaction::{Finished, Outcome, ParticipantState, ParticipantStatus, Prepare, Vote};
use http_body_util::BodyExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::seats::{Reserved, Seats, prepared_at};
use crate::support::routes;

const DOCUMENT: &str = include_str!("../../openapi/participant.json");

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

/// Returns the operations of the document: method, path and description.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, item)| {
        let item = item.as_object().unwrap().iter();
        item.map(move |(method, operation)| (method.to_uppercase(), path.clone(), operation.clone()))
    });
    operations.collect()
}

async fn send(method: &str, path: &str, token: &str, body: &Value) -> Response<Body> {
    let path = path.replace("{transaction}", "orders.7.01983c2f-7a51-7b3e-9c55-0f6f2c9b1d11");
    let request = Request::builder().method(method).uri(format!("/transactions{path}"));
    let request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    let request = request.header(header::CONTENT_TYPE, "application/json");
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    routes(&Arc::new(Seats::default())).oneshot(request.body(body).unwrap()).await.unwrap()
}

/// Follows a reference of the document.
fn resolved<'a>(document: &'a Value, part: &'a Value) -> &'a Value {
    let reference = part["$ref"].as_str().map(|reference| reference.trim_start_matches('#'));
    reference.map_or(part, |reference| document.pointer(reference).unwrap_or_else(|| panic!("no {reference}")))
}

#[test]
fn the_document_is_valid() {
    let parsed = oas3::from_json(DOCUMENT).unwrap();
    parsed.validate_version().unwrap();
    assert_every_reference_resolves(&document(), &document());
}

fn assert_every_reference_resolves(document: &Value, part: &Value) {
    match part {
        Value::Object(members) => {
            resolved(document, part);
            members.values().for_each(|member| assert_every_reference_resolves(document, member));
        }
        Value::Array(items) => items.iter().for_each(|item| assert_every_reference_resolves(document, item)),
        _ => {}
    }
}

#[tokio::test]
async fn each_operation_answers_its_example_as_it_is_declared() {
    let document = document();
    for (method, path, operation) in operations(&document) {
        let example = &operation["requestBody"]["content"]["application/json"]["example"];
        for (token, body) in [("shop", example), ("other", example), ("bank", example), ("shop", &json!({"x": 1}))] {
            let response = send(&method, &path, token, body).await;
            let status = response.status().as_u16();
            let declared = resolved(&document, &operation["responses"][status.to_string()]);
            assert!(declared.is_object(), "{method} {path}: {status} is not declared");
            assert!(status != 404 && status != 405, "{method} {path}: {status}");
            let found = response.headers().get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap().to_owned());
            let content = declared["content"].as_object();
            let expected = content.and_then(|content| content.keys().next().cloned());
            assert_eq!(found, expected, "{method} {path}: {status}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            if token == "shop" && status == 200 && path != "/status/{transaction}" {
                let answer: Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(answer.is_object(), content.unwrap()["application/json"]["example"].is_object(), "{path}");
            }
        }
    }
}

#[tokio::test]
async fn other_methods_and_paths_are_not_routes() {
    let document = document();
    for (method, path, _) in operations(&document) {
        let other = if method == "GET" { "POST" } else { "GET" };
        assert_eq!(send(other, &path, "shop", &Value::Null).await.status(), 405, "{other} {path}");
    }
    assert_eq!(send("POST", "/", "shop", &Value::Null).await.status(), 404);
}

#[test]
fn the_examples_are_what_the_types_encode() {
    let document = document();
    let example = |path: &str, method: &str| document["paths"][path][method].clone();
    let of_answer = |path: &str, method: &str| {
        example(path, method)["responses"]["200"]["content"]["application/json"]["example"].clone()
    };
    let body = example("/prepare", "post")["requestBody"]["content"]["application/json"]["example"].clone();
    round_trip::<Prepare>(&body["prepare"]);
    round_trip::<Vote<Value>>(&of_answer("/prepare", "post"));
    round_trip::<Finished>(&of_answer("/commit", "post"));
    round_trip::<ParticipantStatus>(&of_answer("/status/{transaction}", "get"));
    let schemas = &document["components"]["schemas"];
    round_trip::<TransactionId>(&schemas["TransactionId"]["example"]);
    round_trip::<CoordinatorEpoch>(&schemas["CoordinatorEpoch"]["example"]);
}

fn value<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap()
}

/// Checks that a value is the JSON of its type.
fn round_trip<T: Serialize + DeserializeOwned>(value: &Value) {
    let decoded: T = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(serde_json::to_value(&decoded).unwrap(), *value);
}

#[test]
fn the_schemas_have_the_variants_and_members_of_the_types() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let texts = |value: &Value| -> BTreeSet<String> {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let encoded = |values: Vec<Value>| -> BTreeSet<String> {
        values.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    };
    let states = [
        ParticipantState::Unknown,
        ParticipantState::Prepared,
        ParticipantState::PreCommitted,
        ParticipantState::Committed,
        ParticipantState::Aborted,
    ];
    let states = encoded(states.iter().map(value).collect());
    assert_eq!(texts(&schemas["ParticipantStatus"]["properties"]["state"]["enum"]), states);
    let outcomes = encoded(vec![value(&Outcome::Committed), value(&Outcome::Aborted)]);
    assert_eq!(texts(&schemas["Outcome"]["enum"]), outcomes);
    let finished = encoded(vec![value(&Finished::Done), value(&Finished::Unknown)]);
    assert_eq!(texts(&schemas["Finished"]["oneOf"][0]["enum"]), finished);
    assert_eq!(value(&Finished::Heuristic(Outcome::Aborted)), json!({"heuristic": "aborted"}));
    assert_eq!(value(&Vote::<Reserved>::ReadOnly), schemas["Vote"]["oneOf"][1]["const"]);
    assert_eq!(value(&Vote::<Reserved>::No { reason: "x".to_owned() }), json!({"no": {"reason": "x"}}));
    let status = ParticipantStatus {
        state: ParticipantState::Prepared,
        is_heuristic: true,
        has_restarted: true,
        prepared_at: Some(prepared_at()),
    };
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(members(&value(&status)), members(&schemas["ParticipantStatus"]["properties"]));
    let prepare = &document["paths"]["/prepare"]["post"]["requestBody"]["content"]["application/json"]["example"];
    assert_eq!(members(&prepare["prepare"]), members(&schemas["Prepare"]["properties"]));
}
