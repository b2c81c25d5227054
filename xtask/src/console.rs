//! Output of the commands.
//!
//! Messages about the work go to stderr: stdout has the output of the program that a command runs
//! (`cargo xtask bench > results.txt`). Only the steps of the demo are printed to stdout.

use std::fmt::Display;
use std::io::IsTerminal;
use std::time::Duration;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[1;31m";

/// Prints the title of a stage.
pub(crate) fn heading(text: &str) {
    eprintln!("\n{}", styled(BOLD, &format!("== {text}"), &std::io::stderr()));
}

/// Prints a command line that is about to run.
pub(crate) fn command(line: &str) {
    eprintln!("{}", styled(DIM, &format!("$ {line}"), &std::io::stderr()));
}

pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// Prints the reason for which a command fails.
pub(crate) fn error(failure: &dyn Display) {
    eprintln!("{} {failure}", styled(RED, "error:", &std::io::stderr()));
}

/// Prints the title of a step of the demo, and its command line, to stdout.
pub(crate) fn demo_step(title: &str, line: &str) {
    let out = std::io::stdout();
    println!("\n{}\n{}\n", styled(BOLD, &format!("== {title}"), &out), styled(DIM, &format!("$ {line}"), &out));
}

/// Formats a duration: `1.2 s`, `59 s` or `9 min 05 s`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        _ => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

/// Applies the style if the stream is a terminal and `NO_COLOR` is not set.
fn styled(style: &str, text: &str, stream: &impl IsTerminal) -> String {
    let has_color = stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if has_color { format!("{style}{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_durations_have_no_fractions() {
        assert_eq!(duration(Duration::from_millis(1250)), "1.2 s");
        assert_eq!(duration(Duration::from_millis(59_999)), "59 s");
        assert_eq!(duration(Duration::from_secs(545)), "9 min 05 s");
    }
}
