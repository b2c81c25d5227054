//! Prints the answer of a command: text for people, JSON for programs.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use es_tool::text::{printable_json, printable_lines};
use serde::Serialize;

use crate::failure::Failure;
use crate::text::ahead_note;

/// Prints an answer to standard output, as text or as JSON. Characters that a terminal can interpret are escaped.
///
/// # Errors
/// [`Failure::Output`] if standard output cannot be written. [`is_broken_pipe`](Failure::is_broken_pipe) detects a
/// closed pipe.
pub fn print(json: bool, to_text: impl FnOnce() -> String, value: &impl Serialize) -> Result<(), Failure> {
    let text = if json {
        serde_json::to_string_pretty(value).map_err(io::Error::from).map(|text| printable_json(&text).into_owned())
    } else {
        Ok(printable_lines(&to_text()).into_owned())
    };
    let mut stdout = io::stdout().lock();
    let written = text.and_then(|text| writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()));
    written.map_err(Failure::output)
}

/// Prints an answer like [`print()`], and returns the exit code of the command. A reader that closed the pipe does not
/// change the code: damage stays damage.
///
/// # Errors
/// [`Failure::Output`] if standard output cannot be written, unless its reader closed the pipe.
pub fn print_with_code(
    code: ExitCode,
    json: bool,
    to_text: impl FnOnce() -> String,
    value: &impl Serialize,
) -> Result<ExitCode, Failure> {
    match print(json, to_text, value) {
        Err(failure) if !failure.is_broken_pipe() => Err(failure),
        _ => Ok(code),
    }
}

/// Prints a note to standard error. A note is neither an error nor part of the answer.
pub fn print_note(text: &str) {
    // The answer is complete without the note.
    let _ = writeln!(io::stderr(), "note: {}", printable_lines(text));
}

/// Prints a note if the last event of a log is ahead of the clock.
pub(crate) fn print_ahead_note(ahead: Option<Duration>) {
    if let Some(ahead) = ahead {
        print_note(&ahead_note(ahead));
    }
}

/// Standard output for lines of JSON.
///
/// On a terminal, characters that it can interpret are escaped. Elsewhere the lines are written byte for byte, because
/// an import must get the payloads as they are.
pub(crate) struct JsonLines {
    stdout: io::Stdout,
    is_terminal: bool,
    /// The beginning of a line, on a terminal.
    line: Vec<u8>,
}

impl JsonLines {
    pub(crate) fn new() -> Self {
        let stdout = io::stdout();
        Self { is_terminal: stdout.is_terminal(), stdout, line: Vec::new() }
    }
}

impl Write for JsonLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_terminal {
            return self.stdout.write(bytes);
        }
        self.line.extend_from_slice(bytes);
        if let Some(end) = self.line.iter().rposition(|byte| *byte == b'\n') {
            let rest = self.line.split_off(end + 1);
            let lines = std::mem::replace(&mut self.line, rest);
            self.stdout.write_all(printable_json(&String::from_utf8_lossy(&lines)).as_bytes())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}
