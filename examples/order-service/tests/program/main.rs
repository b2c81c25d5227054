//! Tests of the `order-service` program.

mod any_store;
mod bad_input;
mod commands;
mod config;
mod edge;
mod erasure;
mod fulfilment;
mod fulfilment_crashes;
mod fulfilment_kill;
mod generated;
mod import;
mod inputs;
mod kill;
mod northwind;
mod openapi;
mod operators;
mod processes;
mod provider;
mod sample;
mod serve;
mod serve_kill;
mod support;
mod tls;
mod transactions;
