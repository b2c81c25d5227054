//! How these commands talk.
//!
//! What they say about their work goes to stderr, so that stdout has only what the program they run
//! prints (`cargo xtask bench > results.txt`). The demo is a story, told on stdout ([`story`]).

use std::fmt::Display;
use std::io::IsTerminal;
use std::time::Duration;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[1;31m";

/// The title of what comes next.
pub(crate) fn heading(text: &str) {
    eprintln!("\n{}", styled(BOLD, &format!("== {text}"), &std::io::stderr()));
}

/// A command line as it is run.
pub(crate) fn command(line: &str) {
    eprintln!("{}", styled(DIM, &format!("$ {line}"), &std::io::stderr()));
}

/// A sentence.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// Why the command stops.
pub(crate) fn failure(failure: &dyn Display) {
    eprintln!("{} {failure}", styled(RED, "error:", &std::io::stderr()));
}

/// One step of the demo: its title, and the command line that is run.
pub(crate) fn story(title: &str, line: &str) {
    let out = std::io::stdout();
    println!("\n{}\n{}\n", styled(BOLD, &format!("== {title}"), &out), styled(DIM, &format!("$ {line}"), &out));
}

/// A duration as people say it.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        _ => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

fn styled(style: &str, text: &str, stream: &impl IsTerminal) -> String {
    let wanted = stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if wanted { format!("{style}{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_precise_as_is_of_use() {
        assert_eq!(duration(Duration::from_millis(1250)), "1.2 s");
        assert_eq!(duration(Duration::from_millis(59_999)), "59 s");
        assert_eq!(duration(Duration::from_secs(545)), "9 min 05 s");
    }
}
