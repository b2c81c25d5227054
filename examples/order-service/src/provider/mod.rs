//! A simulated provider of payments and shipments: a process of its own, with an HTTP interface and injected faults.
//!
//! | request | effect |
//! |---|---|
//! | `POST /payments` | takes money; 202 if the customer pays later |
//! | `GET /payments/{key}` | the status of a payment: `paid`, `open`, `refunded` or `none` |
//! | `POST /payments/{key}/pay` | the customer pays |
//! | `POST /refunds` | refunds the payment `of`, and refuses it from then on |
//! | `POST /shipments` | ships a parcel |
//! | `POST /cancellations` | cancels the shipment `of`, and refuses it from then on |
//! | `POST /reminders` | reminds the customer |
//! | `GET /effects` | returns all effects |
//!
//! Each `POST` has an `Idempotency-Key`. A repeat has no second effect, and is answered as the first request was. Every
//! effect is a line of a file before the request is answered, so it is known after a kill.
//!
//! A refund or a cancellation can arrive before a request that it undoes, which was delayed. The provider then refuses
//! that request: otherwise its effect would never be undone.

mod error;
mod faults;
mod record;
mod server;

pub use error::ProviderError;
pub use faults::{Fault, FaultPlan, Rate};
pub use record::{EffectKind, EffectRequest, ProviderRecord, RecordError, RecordedEffect, Refusal, read_record};
pub use server::{PaymentStatus, serve_provider};
