// Names in the condition of a step: functions, and variables of the condition itself.
#![deny(warnings)]

use std::convert::Infallible;

#[es_saga::step_function(step = Reserve, name = "reserve", undo = "ignore")]
async fn reserve(lines: Vec<u64>) -> Result<u64, Infallible> {
    Ok(lines.iter().sum())
}

#[es_saga::step_function(step = Count, name = "count", undo = "ignore")]
async fn count(lines: Vec<u64>, len: u64) -> Result<u64, Infallible> {
    Ok(lines.iter().sum::<u64>() + len)
}

#[es_saga::step_function(step = Check, name = "check", undo = "ignore")]
async fn check(_lines: Vec<u64>) -> Result<(), Infallible> {
    Ok(())
}

/// The generated code had a function of this name, which was called instead.
fn build(lines: &[u64]) -> bool {
    lines.len() > 3
}

es_saga::saga! {
    saga Purchase(lines: Vec<u64>) {
        let stock = Reserve(lines);
        let built = if build(lines) { Check(lines) as "built" };
        // The parameter of the closure is not the output of the first step.
        let checked = if lines.iter().any(|stock| *stock > 100) { Check(lines) as "large" };
        if (match lines.first() { Some(stock) => *stock > 1, None => false }) { Check(lines) as "first" }
        let len = Reserve(lines) as "rest" after stock, built, checked;
        // The name of a method or a variable is that of an input, which is not used.
        if lines.len() > 1 { Count(lines, len) }
        if lines.iter().any(|len| *len > 1) { Count(lines, len) as "again" }
    }
}

fn main() {
    assert_eq!(Purchase::define().expect("the graph is valid").shape().nodes.len(), 7);
}
