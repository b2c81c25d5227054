//! Views, reactors and processes of replicated aggregates: views are equal on all nodes, also after late events, and an
//! effect runs on the node on which its event originated.

mod deletions;
mod domain;
mod effects;
mod processes;
mod settled;
mod views;
