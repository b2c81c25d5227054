//! A small real order service on `es-core`: the long example, which uses most of es-core.
//!
//! - [`domain`]: orders, products, money. Not a word of storage.
//! - [`shop`]: the domain on a store.
//! - [`import`]: orders, lines and products from CSV files.
//! - [`views`]: the read models, kept up to date in the background; [`projections`]: what operators do with that.
//! - [`report`]: what all orders come to.
//! - [`http`]: commands and queries over HTTP, and what happens, live.
//! - [`cli`]: the command line, which opens the store.
//!
//! What it is not: a model of how stock follows orders. Shipping an order does not withdraw its pieces. Commands to several aggregates
//! that must change together are shown by `product move`, which moves stock between two products in one commit.

mod bad_input;
pub mod cli;
pub mod domain;
pub mod failure;
pub mod http;
pub mod import;
pub mod moment;
pub mod projections;
pub mod report;
pub mod shop;
pub mod shown;
pub mod views;
