//! Small examples that answer one question each: see `examples/guide/examples`. [`order`] is the domain of some of them.

pub mod order;
