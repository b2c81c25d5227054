//! What the code of the macros uses.

use crate::graph::{DeclaredSaga, Saga, SagaGraph};

/// The return type of a step function.
#[diagnostic::on_unimplemented(
    message = "a step function cannot return `{Self}`",
    label = "not a `Result`",
    note = "return `Result<Output, Error>`: the output is stored with the saga, and the error implements \
            `es_saga::Classify`"
)]
pub trait StepResult {
    /// The output of the step.
    type Output;
    /// The error of the step.
    type Error;
}

impl<O, E> StepResult for Result<O, E> {
    type Output = O;
    type Error = E;
}

/// Defines the child saga of a line of `saga!`. A child saga that cannot be defined is an error of the graph.
pub fn child_saga<S: DeclaredSaga<I, O>, I, O>(graph: &mut SagaGraph<'_>) -> Saga<I, O> {
    S::define().unwrap_or_else(|error| {
        graph.refuse_child(S::NAME, error);
        Saga::empty()
    })
}

/// Checks at compile time that the name of a node differs from those of earlier nodes.
///
/// # Panics
/// With the message if it does not.
pub const fn check_node_name(name: &str, earlier: &[&str], message: &str) {
    let mut index = 0;
    while index < earlier.len() {
        assert!(!is_equal(name.as_bytes(), earlier[index].as_bytes()), "{}", message);
        index += 1;
    }
}

const fn is_equal(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut index = 0;
    while index < left.len() {
        if left[index] != right[index] {
            return false;
        }
        index += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_are_accepted() {
        check_node_name("pay", &["ship", "pa", "pay2", "Pay", ""], "");
    }

    #[test]
    #[should_panic(expected = "the message")]
    fn the_name_of_an_earlier_node_is_refused() {
        check_node_name("pay", &["ship", "pay"], "the message");
    }
}
