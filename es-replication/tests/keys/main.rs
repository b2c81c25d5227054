//! Keys of personal data between nodes: asked for when a value is opened, never in the log, and destroyed on every
//! node.
//!
//! - `requests`: which node gets which key. `erasures`: keys are destroyed everywhere.
//! - `simulation`: seeded runs of nodes that are cut off, lose answers and restart.
//! - `network`, `nodes`: how the nodes reach each other, and what they do.
#![allow(clippy::unwrap_used, reason = "a test fails if a step fails")]

mod erasures;
mod network;
mod nodes;
mod requests;
mod simulation;
