//! The OpenAPI document: it is valid, and the service answers as it says.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Request;

use crate::edge::raw_to;
use crate::serve::{Service, order};
use crate::support::TestDir;

/// A request to a route of the document, with the status that it must have.
struct Call {
    method: &'static str,
    route: &'static str,
    path: &'static str,
    body: Option<Value>,
    status: u16,
}

fn call(method: &'static str, route: &'static str, path: &'static str, body: Option<Value>, status: u16) -> Call {
    Call { method, route, path, body, status }
}

/// Requests to every route, good and bad, in the order in which they are sent.
fn calls() -> Vec<Call> {
    let product = json!({"name": "Tofu", "unit_price": "1.00", "stock": 5});
    let quantity = json!({"quantity": 1});
    vec![
        call("put", "/orders/{id}", "/orders/A-1", Some(order()), 201),
        call("put", "/orders/{id}", "/orders/A-1", Some(order()), 200),
        call("put", "/orders/{id}", "/orders/A-2", Some(json!({})), 422),
        call("put", "/orders/{id}", "/orders/A-2", None, 400),
        call("get", "/orders/{id}", "/orders/A-1", None, 200),
        call("get", "/orders/{id}", "/orders/A-9", None, 404),
        call("get", "/orders/{id}", "/orders/%FF", None, 400),
        call("get", "/orders/{id}/events", "/orders/A-1/events", None, 200),
        call("get", "/orders/{id}/events", "/orders/A-9/events", None, 404),
        call("post", "/orders/{id}/approve", "/orders/A-1/approve", None, 200),
        call("post", "/orders/{id}/approve", "/orders/A-9/approve", None, 404),
        call("post", "/orders/{id}/ship", "/orders/A-1/ship", Some(json!({})), 200),
        call("post", "/orders/{id}/ship", "/orders/A-1/ship", Some(json!({"dat": 1})), 422),
        call("post", "/orders/{id}/cancel", "/orders/A-1/cancel", Some(json!({"reason": "late"})), 409),
        call("post", "/orders/{id}/cancel", "/orders/A-1/cancel", Some(json!({"reason": "x".repeat(6000)})), 413),
        call("post", "/orders/{id}/deliver", "/orders/A-1/deliver", None, 200),
        // This service has no provider; that of another test fulfils orders.
        call("post", "/orders/{id}/fulfil", "/orders/A-1/fulfil", None, 503),
        call("get", "/orders/{id}/fulfilment", "/orders/A-1/fulfilment", None, 404),
        call("put", "/products/{id}", "/products/11", Some(product.clone()), 201),
        call("put", "/products/{id}", "/products/12", Some(product), 201),
        call("get", "/products/{id}", "/products/11", None, 200),
        call("get", "/products/{id}", "/products/99", None, 404),
        call("post", "/products/{id}/receive", "/products/11/receive", Some(quantity.clone()), 200),
        call("post", "/products/{id}/withdraw", "/products/11/withdraw", Some(quantity.clone()), 200),
        call("post", "/products/{id}/withdraw", "/products/99/withdraw", Some(quantity), 404),
        call("post", "/products/{id}/move", "/products/11/move", Some(json!({"to": "12", "quantity": 1})), 200),
        call("post", "/products/{id}/move", "/products/11/move", Some(json!({"to": "12", "quantity": 99})), 409),
        call("get", "/orders", "/orders?limit=1", None, 200),
        call("get", "/orders", "/orders?limit=x", None, 400),
        call("get", "/orders", "/orders?at_least=1000", None, 409),
        call("get", "/products", "/products", None, 200),
        call("get", "/demand", "/demand", None, 200),
        call("get", "/revenue", "/revenue", None, 200),
        call("get", "/report", "/report", None, 200),
        call("get", "/events", "/events?after=0", None, 200),
        call("get", "/events", "/events?after=1000", None, 409),
    ]
}

#[test]
fn the_document_is_valid_and_each_route_answers_as_it_says() {
    let dir = TestDir::new();
    let service = Service::with(&dir, &["--max-body", "5000"]);
    let document = service.get("/openapi.json", &[]).expect(200).body;
    let parsed = oas3::from_json(document.to_string()).expect("a document of OpenAPI 3.1");
    parsed.validate_version().expect("a supported version");
    assert_every_reference_resolves(&document, &document);

    let agent: Agent = Agent::config_builder().http_status_as_error(false).build().into();
    let mut answered = BTreeSet::new();
    for Call { method, route, path, body, status } in calls() {
        let operation = &document["paths"][route][method];
        assert!(operation.is_object(), "{method} {route} is not in the document");
        answered.insert(format!("{method} {route}"));
        let request = Request::builder().method(method.to_uppercase().as_str());
        let request = request.uri(format!("{}{path}", service.address)).header("content-type", "application/json");
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let mut response = agent.run(request.body(body).expect("a request")).expect("a response");
        assert_eq!(response.status().as_u16(), status, "{method} {path}");
        let declared = &operation["responses"][status.to_string()];
        assert!(declared.is_object(), "{method} {route}: {status} is not declared");
        let found = response.headers()["content-type"].to_str().expect("ASCII").to_owned();
        let content = declared["content"].as_object().expect("a declared content");
        assert!(content.contains_key(&found), "{method} {path}: {found} is not declared in {declared}");
        if found == "application/json" {
            let text = response.body_mut().read_to_string().expect("text");
            let value = serde_json::from_str(&text).expect("JSON");
            assert_has_members(&document, &content[&found]["schema"], &value, path);
        }
    }
    // The document did not declare the response to a read with a long body.
    raw_to(&service.address, "GET", "/orders", &[], &"x".repeat(6000)).problem(413);
    assert!(document["paths"]["/orders"]["get"]["responses"]["413"].is_object());
    let paths = document["paths"].as_object().expect("paths");
    let methods = |(route, item): (&String, &Value)| {
        let item = item.as_object().expect("operations").clone();
        item.into_iter().map(move |(method, _)| format!("{method} {route}")).collect::<Vec<_>>()
    };
    let declared: BTreeSet<String> = paths.iter().flat_map(|(route, item)| methods((route, item))).collect();
    assert_eq!(answered, declared, "each declared operation is called");
}

/// Checks that each `$ref` of a part of the document names a part of it.
pub(crate) fn assert_every_reference_resolves(document: &Value, part: &Value) {
    match part {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                let target = document.pointer(reference.trim_start_matches('#'));
                assert!(target.is_some(), "{reference} is not in the document");
            }
            members.values().for_each(|member| assert_every_reference_resolves(document, member));
        }
        Value::Array(items) => items.iter().for_each(|item| assert_every_reference_resolves(document, item)),
        _ => {}
    }
}

/// Checks that a response has the required members of its schema, and no member that the schema does not have.
pub(crate) fn assert_has_members(document: &Value, schema: &Value, value: &Value, path: &str) {
    let parts = parts(document, schema);
    if let Some(rows) = value.as_array() {
        rows.iter().for_each(|row| assert_has_members(document, &parts[0]["items"], row, path));
        return;
    }
    let required = parts.iter().flat_map(|part| part["required"].as_array().into_iter().flatten());
    for name in required.filter_map(Value::as_str) {
        assert!(value.get(name).is_some(), "{path}: expected the member {name} in {value}");
    }
    let is_known = |name: &String| parts.iter().any(|part| part["properties"].get(name).is_some());
    for name in value.as_object().expect("an object").keys() {
        assert!(is_known(name), "{path}: the schema has no member {name}: {schema}");
    }
}

/// Returns the parts of a schema, of which each describes the value, without references.
fn parts<'a>(document: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).expect("it resolves"),
        None => schema,
    };
    match schema["allOf"].as_array() {
        Some(all) => all.iter().flat_map(|part| parts(document, part)).collect(),
        None => vec![schema],
    }
}
