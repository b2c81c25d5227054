//! An order service on `es-core`: the long example, which uses most of es-core.
//!
//! - [`domain`]: orders, products and money, independent of storage.
//! - [`shop`]: the repositories and command execution.
//! - [`import`]: imports orders, order lines and products from CSV files.
//! - [`views`]: the read models, updated in the background; [`projections`]: their status and administration.
//! - [`report`]: totals over all orders.
//! - [`fulfilment`]: the saga of an order: stock, payment, shipment; [`provider`]: the simulated other side.
//! - [`sagas`]: lists, shows and operates sagas; [`processes`]: the instances of process managers.
//! - [`transactions`]: the products as a participant of distributed transactions.
//! - [`http`]: commands and queries over HTTP, and new events as server-sent events.
//! - [`config`]: the configuration of the service, from flags, the environment and a file.
//! - [`cli`]: the command line, which opens the store.
//!
//! The commands on orders do not change stock: only the fulfilment reserves and ships items. `product move` shows a
//! change of two aggregates in one commit: it moves stock between two products.

mod bad_input;
pub mod cli;
pub mod config;
pub mod domain;
pub mod failure;
pub mod fulfilment;
pub mod http;
pub mod import;
pub mod json;
pub mod moment;
pub mod processes;
pub mod projections;
pub mod provider;
pub mod report;
pub mod sagas;
pub mod shop;
pub mod transactions;
pub mod views;
