//! What the code of the macros uses.

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

/// Returns whether the name of a node differs from those of earlier nodes. `saga!` checks it at compile time.
#[must_use]
pub const fn is_new_name(name: &str, earlier: &[&str]) -> bool {
    let mut index = 0;
    while index < earlier.len() {
        if is_equal(name.as_bytes(), earlier[index].as_bytes()) {
            return false;
        }
        index += 1;
    }
    true
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
    fn a_name_is_new_unless_an_earlier_node_has_it() {
        assert!(is_new_name("pay", &["ship", "pa", "pay2", "Pay", ""]));
        assert!(!is_new_name("pay", &["ship", "pay"]));
    }
}
