//! The chapters of the book: each code block is a doctest.

#[doc = include_str!("../../../docs/book/src/getting-started.md")]
mod getting_started {}
#[doc = include_str!("../../../docs/book/src/aggregates.md")]
mod aggregates {}
#[doc = include_str!("../../../docs/book/src/events.md")]
mod events {}
#[doc = include_str!("../../../docs/book/src/commands.md")]
mod commands {}
#[doc = include_str!("../../../docs/book/src/projections.md")]
mod projections {}
#[doc = include_str!("../../../docs/book/src/reactors.md")]
mod reactors {}
#[doc = include_str!("../../../docs/book/src/fulfilment.md")]
mod fulfilment {}
#[doc = include_str!("../../../docs/book/src/transactions.md")]
mod transactions {}
#[doc = include_str!("../../../docs/book/src/replication.md")]
mod replication {}
#[doc = include_str!("../../../docs/book/src/testing.md")]
mod testing {}
#[doc = include_str!("../../../docs/book/src/operations.md")]
mod operations {}
#[doc = include_str!("../../../docs/book/src/erasure.md")]
mod erasure {}
#[doc = include_str!("../../../docs/book/src/stores.md")]
mod stores {}
