//! Prints the answer of a command: words or a table for people, JSON for machines.

use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Says something on standard output: in words, or as JSON.
///
/// # Errors
/// [`Failure::Io`] when it cannot be said; a pipe that was closed is one that [`is_broken_pipe`](Failure::is_broken_pipe).
pub fn say(json: bool, words: impl FnOnce() -> String, machines: &impl Serialize) -> Result<(), Failure> {
    let text = if json { serde_json::to_string_pretty(machines).map_err(io::Error::from) } else { Ok(words()) };
    let mut out = io::stdout().lock();
    let said = text.and_then(|text| writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()));
    said.map_err(Failure::output)
}

/// Says something on standard error that is no failure and no answer.
pub fn note(text: &str) {
    // NOTE: where it cannot be said, the answer is still right.
    let _ = writeln!(io::stderr(), "note: {text}");
}
