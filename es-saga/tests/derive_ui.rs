//! Compiler output for invalid steps and graphs: `ui/step` (`#[derive(SagaStep)]`), `ui/function` (`#[step_function]`),
//! `ui/saga` (`saga!`) and `ui/graph` (the builder) have one file for each message, with the expected output in the
//! `.stderr` file of the same name. The files in `ui/pass` must compile and run.
//!
//! Some messages are from the compiler and change with its version; the expected ones are from the `rust-version` of
//! the workspace. `TRYBUILD=overwrite cargo test -p es-saga --test derive_ui` rewrites them: review the diff.
//!
//! | mistake | here |
//! |---|---|
//! | an input of the wrong type | `saga/wrong_input`, `graph/inputs_in_the_wrong_order` |
//! | an output of no ancestor | `saga/output_of_no_ancestor`, `graph/output_of_no_ancestor`, `graph/handle_of_another_graph` |
//! | a missing compensation | `step/missing_compensation`, `function/missing_compensation` |
//! | two steps of one name | `saga/two_steps_of_one_name`, `saga/same_step_twice`, `saga/same_node_name` |
//! | a cycle | `saga/cycle`, `saga/own_output`; the builder cannot express one |
//! | an input that cannot be stored | `step/input_not_serializable`, `function/input_not_serializable`, `saga/input_not_serializable` |
//! | an error without a class | `step/error_without_class` |
//! | the output of a condition as a plain value | `saga/input_from_condition`, `graph/optional_output_as_plain` |
//! | a local step as an external one, and the reverse | `saga/local_step_as_external`, `saga/external_step_as_local` |
//! | a step as a child saga, and the reverse | `saga/step_as_child`, `saga/child_as_step` |
//! | a saga that contains itself | `saga/own_child`, `saga/child_of_its_child` |
//! | a delay without a time, with inputs, in a `for`, or twice under one name | `saga/delays` |
//! | a step without a name | `step/missing_name` |
//! | a type whose name gives no name of a saga | `saga/name_not_ascii` |
//! | an input under a condition | `function/cfg_on_input` |
//! | several mistakes at once | `step/several_errors`, `saga/several_errors` |
#![cfg(feature = "derive")]

#[test]
fn errors_of_steps() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/step/*.rs");
    cases.compile_fail("tests/ui/function/*.rs");
}

#[test]
fn errors_of_sagas() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/saga/*.rs");
    cases.compile_fail("tests/ui/graph/*.rs");
}

#[test]
fn valid_declarations_compile() {
    trybuild::TestCases::new().pass("tests/ui/pass/*.rs");
}
