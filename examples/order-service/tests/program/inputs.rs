//! Every route reads or refuses what a client sends: bodies, parameters, conditions and positions. The routes are those
//! of the OpenAPI documents, so that a new route is tested, too.

use serde_json::{Value, json};

use crate::edge::{RawReply, raw_to};
use crate::serve::{Service, order};
use crate::support::TestDir;

/// The text of each parameter of a path that is no number. An order and a product have it as their id.
const ID: &str = "A-1";
const JSON: &str = "Content-Type: application/json";

/// An operation of a document, on a service.
struct Operation {
    address: String,
    method: String,
    route: String,
    /// The path of the route, with values of its parameters.
    path: String,
    /// A body that the schema of the operation accepts.
    body: String,
    responses: Value,
}

impl Operation {
    /// Returns the operations of the document of a service.
    fn all(address: &str) -> Vec<Self> {
        let document = raw_to(address, "GET", "/openapi.json", &[], "").body;
        let document: Value = serde_json::from_str(&document).expect("JSON");
        let paths = document["paths"].as_object().expect("paths");
        let operations = paths.iter().flat_map(|(route, item)| {
            let item = item.as_object().expect("operations");
            item.iter().map(move |(method, operation)| (route, method, operation))
        });
        let operation = |(route, method, operation): (&String, &String, &Value)| {
            let body = match operation.get("requestBody") {
                Some(body) => sample(&document, &body["content"]["application/json"]["schema"]).to_string(),
                None => String::new(),
            };
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let path =
                parameters.filter(|parameter| parameter["in"] == "path").fold(route.clone(), |path, parameter| {
                    let is_number = parameter["schema"]["type"] == "integer";
                    let name = parameter["name"].as_str().expect("a name");
                    path.replace(&format!("{{{name}}}"), if is_number { "1" } else { ID })
                });
            let (address, route, method) = (address.to_owned(), route.clone(), method.to_uppercase());
            Self { address, method, route, path, body, responses: operation["responses"].clone() }
        };
        operations.map(operation).collect()
    }

    fn is_write(&self) -> bool {
        self.method != "GET"
    }

    fn send(&self, query: &str, headers: &[&str], body: &str) -> RawReply {
        raw_to(&self.address, &self.method, &format!("{}{query}", self.path), headers, body)
    }

    /// Sends a request that is valid without the query and the header.
    fn send_valid(&self, query: &str, header: &str) -> RawReply {
        let content_type = if self.body.is_empty() { "Accept: */*" } else { JSON };
        self.send(query, &[content_type, header], &self.body)
    }

    /// Checks that a request was refused with one of the statuses, and that the document declares it.
    #[track_caller]
    fn assert_refused(&self, reply: &RawReply, statuses: &[u16], request: &str) {
        let Self { method, route, responses, .. } = self;
        assert!(statuses.contains(&reply.status), "{method} {route} with {request}: {} {}", reply.status, reply.body);
        reply.problem(reply.status);
        let status = reply.status.to_string();
        assert!(responses.get(&status).is_some(), "{method} {route} with {request}: {status} is not declared");
    }
}

/// Returns a value of a schema, with the required members only.
fn sample(document: &Value, schema: &Value) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return sample(document, document.pointer(reference.trim_start_matches('#')).expect("it resolves"));
    }
    if let Some(alternatives) = schema["oneOf"].as_array() {
        let alternative = alternatives.iter().find(|alternative| alternative["type"] != "null");
        return sample(document, alternative.expect("an alternative"));
    }
    let parts = schema["allOf"].as_array().map_or_else(|| vec![schema], |parts| parts.iter().collect());
    let mut members = serde_json::Map::new();
    for part in parts {
        for name in part["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            members.insert(name.to_owned(), sample(document, &part["properties"][name]));
        }
    }
    let is_type = |name: &str| schema["type"] == name || schema["type"][0] == name;
    match () {
        () if schema["enum"].is_array() => schema["enum"][0].clone(),
        () if is_type("string") => json!("1"),
        () if is_type("integer") || is_type("number") => json!(1),
        () if is_type("boolean") => json!(true),
        () if is_type("array") => json!([sample(document, &schema["items"])]),
        () => Value::Object(members),
    }
}

/// A service with an order and a product of the id, and a product "1", to which samples refer.
fn service(dir: &TestDir) -> Service {
    let service = Service::new(dir);
    service.send("PUT", &format!("/orders/{ID}"), &[], &order()).expect(201);
    for id in [ID, "1"] {
        let product = json!({"name": "Tofu", "unit_price": "1.00", "stock": 5});
        service.send("PUT", &format!("/products/{id}"), &[], &product).expect(201);
    }
    service
}

/// `POST /orders/{id}/fulfil` ignored a body, and conditions on the order. Most routes ignored parameters.
#[test]
fn no_route_ignores_a_body_a_condition_or_a_parameter() {
    let dir = TestDir::new();
    let service = service(&dir);
    let events = || service.get("/report", &[]).expect(200).body["events"].clone();
    let before = events();
    let operations = [&service.address, &service.operations].map(|address| Operation::all(address));
    let operations: Vec<Operation> = operations.into_iter().flatten().collect();
    assert!(operations.iter().filter(|operation| operation.is_write()).count() > 10);
    for operation in &operations {
        let parameter = operation.send_valid("?colour=red", "Accept: */*");
        operation.assert_refused(&parameter, &[400], "an unknown parameter");
        if operation.is_write() {
            let text = operation.send("", &["Content-Type: text/plain"], "{}");
            operation.assert_refused(&text, &[415], "a text");
            operation.assert_refused(&operation.send("", &[], "{}"), &[415], "a body without a content type");
            let condition = operation.send_valid("", "If-Match: \"999\"");
            operation.assert_refused(&condition, &[412], "a condition that does not hold");
        }
    }
    assert_eq!(events(), before, "nothing was executed");
}

/// Reads of one order or product, and the report, ignored `ES-Position` and `at_least`.
#[test]
fn no_read_ignores_a_position() {
    let dir = TestDir::new();
    let service = service(&dir);
    let reads = Operation::all(&service.address);
    for read in reads.iter().filter(|operation| !operation.is_write()) {
        let other_log = "ES-Position: 00000000-0000-4000-8000-000000000000:1";
        for (header, status) in [("ES-Position: garbage", 400), ("ES-Position: 99", 409), (other_log, 410)] {
            read.assert_refused(&read.send("", &[header], ""), &[status], header);
        }
        // The stream of events begins `after` a position, and has no `at_least`.
        read.assert_refused(&read.send("?at_least=99", &[], ""), &[409, 400], "at_least=99");
    }
    let head = service.get("/report", &[]).expect(200).body["events"].to_string();
    for path in ["/orders/A-1", "/orders/A-1/events", "/products/A-1", "/report", "/orders", "/revenue"] {
        service.get(&format!("{path}?at_least={head}"), &[("es-position", &head)]).expect(200);
    }
}
