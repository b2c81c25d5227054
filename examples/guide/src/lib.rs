//! Small examples that answer one question each: see `examples/guide/examples`. [`order`] is the domain of some of
//! them, and of the book, whose code blocks are doctests of this crate.

pub mod order;

#[cfg(doctest)]
mod book;
