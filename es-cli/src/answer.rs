//! Prints the answer of a command: text for people, JSON for programs.

use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Prints an answer to standard output, as text or as JSON.
///
/// # Errors
/// [`Failure::Io`] if standard output cannot be written. [`is_broken_pipe`](Failure::is_broken_pipe) detects a closed
/// pipe.
pub fn print(json: bool, to_text: impl FnOnce() -> String, value: &impl Serialize) -> Result<(), Failure> {
    let text = if json { serde_json::to_string_pretty(value).map_err(io::Error::from) } else { Ok(to_text()) };
    let mut stdout = io::stdout().lock();
    let written = text.and_then(|text| writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()));
    written.map_err(Failure::output)
}

/// Prints a note to standard error. A note is neither an error nor part of the answer.
pub fn print_note(text: &str) {
    // The answer is complete without the note.
    let _ = writeln!(io::stderr(), "note: {text}");
}
