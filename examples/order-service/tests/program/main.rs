//! Tests of the `order-service` program.

mod any_store;
mod bad_input;
mod commands;
mod config;
mod edge;
mod generated;
mod import;
mod kill;
mod northwind;
mod openapi;
mod sample;
mod serve;
mod serve_kill;
mod support;
