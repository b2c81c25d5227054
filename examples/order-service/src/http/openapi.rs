//! The OpenAPI document of the service. The routes have the descriptions of their operations as attributes; here are
//! the parts that operations share, and the schemas of the values of the domain.

use std::borrow::Cow;
use std::collections::BTreeMap;

use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{Modify, OpenApi, PartialSchema, ToSchema};

use crate::domain::{
    City, Country, CustomerId, Discount, InitialStock, OrderId, OrderStatus, Price, ProductId, ProductName, Quantity,
    Reason, Revenue,
};
use crate::moment::Moment;

/// The parts of the document that are not of one route.
#[derive(OpenApi)]
#[openapi(
    info(title = "order-service", description = "Orders and products on an event store."),
    components(schemas(ProblemDetails)),
    modifiers(&BearerTokens)
)]
pub(super) struct Document;

/// The parts of the document of the routes of operators that are not of one route.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "order-service operations",
        description = "Sagas, process managers and transactions of the order service, for operators."
    ),
    components(schemas(ProblemDetails)),
    modifiers(&BearerTokens)
)]
pub(super) struct OperatorDocument;

/// An error (RFC 9457).
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of the responses that es-http writes")]
pub(super) struct ProblemDetails {
    /// A URI that identifies the kind of the problem.
    r#type: Option<String>,
    /// The kind of the problem for people.
    title: String,
    /// The status of the response.
    status: u16,
    /// What failed, what was expected, and what to do.
    detail: String,
}

/// Adds the authentication by a bearer token. A service without `--tokens` needs none.
struct BearerTokens;

const BEARER: &str = "bearer";

impl Modify for BearerTokens {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
        let scopes: [&str; 0] = [];
        document.security = Some(vec![SecurityRequirement::default(), SecurityRequirement::new(BEARER, scopes)]);
    }
}

/// Adds the errors that every operation has: those of the edge.
pub(super) fn add_common_errors(document: &mut utoipa::openapi::OpenApi) {
    let common = problems(&[
        (400, "A part of the request is invalid."),
        (401, "The request has no valid token."),
        (403, "The role of the client, or the origin of the page, does not permit the request."),
        (413, "The body of the request is too long."),
        (415, "The request has a body that it must not have, or one that is not declared as JSON."),
        (421, "The request was sent to the name of another host."),
        (500, "The service failed; its log has the cause."),
        (503, "The service accepts no such requests at present."),
    ]);
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.put, &mut item.post].into_iter().flatten() {
            for (status, response) in &common {
                operation.responses.responses.entry(status.clone()).or_insert_with(|| response.clone());
            }
        }
    }
}

/// Returns responses that are problems, by status.
pub(super) fn problems(responses: &[(u16, &str)]) -> BTreeMap<String, RefOr<Response>> {
    let responses = responses.iter().map(|(status, description)| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ProblemDetails"))).build();
        let response = ResponseBuilder::new().description(*description);
        (status.to_string(), RefOr::T(response.content("application/problem+json", content).build()))
    });
    responses.collect()
}

fn described(builder: ObjectBuilder, description: &str) -> RefOr<Schema> {
    RefOr::T(builder.description(Some(description)).build().into())
}

macro_rules! schemas {
    ($($kind:ident $value:ty: $description:literal,)*) => {$(
        impl PartialSchema for $value {
            fn schema() -> RefOr<Schema> {
                described($kind(), $description)
            }
        }

        impl ToSchema for $value {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($value))
            }
        }
    )*};
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn number() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
}

fn status() -> ObjectBuilder {
    text().enum_values(Some(["placed", "approved", "shipped", "delivered", "cancelled"]))
}

schemas! {
    text OrderId: "The id of an order: 1 to 200 bytes without control characters.",
    text ProductId: "The id of a product.",
    text CustomerId: "The id of a customer.",
    text ProductName: "The display name of a product.",
    text City: "A city.",
    text Country: "A country.",
    text Reason: "The reason for a cancellation.",
    text Price: "An exact decimal amount from 0 to 1000000000, as a text: \"14.00\".",
    text Discount: "An exact decimal share from 0 to 1, as a text: \"0.05\".",
    text Revenue: "An exact decimal amount, as a text that is rounded to cents: \"159.60\".",
    text Moment: "A date (YYYY-MM-DD, in UTC) or a time (RFC 3339, at most 6 decimals, no leap second).",
    number Quantity: "A number of items from 1 to 1000000.",
    number InitialStock: "A number of items from 0.",
    status OrderStatus: "The status of an order.",
}
