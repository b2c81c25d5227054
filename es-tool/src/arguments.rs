//! Parses the command line of a process. A terminal must not interpret the characters of an argument in an error.

use std::borrow::Cow;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::process;

use clap::builder::Styles;
use clap::error::ErrorKind;
use clap::{ArgMatches, Command, CommandFactory, Error, FromArgMatches};

use crate::text::printable_lines;

/// Parses the arguments of this process. Returns the parsed command line, and the matches, which have the sources of
/// the values.
///
/// For invalid arguments, and for `--help` and `--version`, prints the text of clap and exits the process with the exit
/// code of clap. In an error about an argument with characters that a terminal can interpret, these characters are
/// [escaped](crate::text::printable); such an error has no colours.
#[must_use]
pub fn parse<C: CommandFactory + FromArgMatches>() -> (C, ArgMatches) {
    let arguments: Vec<OsString> = env::args_os().collect();
    match parse_with(C::command(), &arguments) {
        Ok(parsed) => parsed,
        Err(error) => match escaped_text::<C>(&arguments) {
            None => error.exit(),
            Some(text) => {
                // If the output cannot be written, the exit code still reports the error.
                let _ =
                    if error.use_stderr() { write!(io::stderr(), "{text}") } else { write!(io::stdout(), "{text}") };
                process::exit(error.exit_code())
            }
        },
    }
}

/// Prints a usage error that clap does not check, [escaped](crate::text::printable), and exits the process.
pub fn exit_with_usage_error<C: CommandFactory>(kind: ErrorKind, message: impl fmt::Display) -> ! {
    C::command().error(kind, printable_lines(&message.to_string())).exit()
}

/// Returns a parser of whole numbers within a range. A number has one text form, as in JSON: digits without a sign and
/// without leading zeros.
pub fn whole_number<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        let number = is_plain.then(|| text.parse().ok()).flatten().filter(|number| range.contains(number));
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
            let greatest = if *range.end() == u64::MAX { String::new() } else { format!(" to {}", range.end()) };
            format!(
                "expected a whole number from {}{greatest}, without a sign and without leading zeros",
                range.start()
            )
        })
    }
}

fn parse_with<C: FromArgMatches>(mut command: Command, arguments: &[OsString]) -> Result<(C, ArgMatches), Error> {
    let matches = command.try_get_matches_from_mut(arguments)?;
    let parsed = C::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    Ok((parsed, matches))
}

/// Returns the text of the error about these arguments if it has characters that must be escaped.
fn escaped_text<C: CommandFactory + FromArgMatches>(arguments: &[OsString]) -> Option<String> {
    // clap mixes its own escape sequences with the text of the arguments. Without styles, all sequences are from the
    // arguments. `StyledStr::to_string` would remove them.
    let error = parse_with::<C>(C::command().styles(Styles::plain()), arguments).err()?;
    let text = error.render().ansi().to_string();
    match printable_lines(&text) {
        Cow::Borrowed(_) => None,
        Cow::Owned(escaped) => Some(escaped),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[arg(long, value_parser = |text: &str| text.parse::<u32>().map_err(|_| format!("{text:?} or {text}")))]
        number: Option<u32>,
    }

    #[test]
    fn a_number_has_one_text_form() {
        let any = whole_number::<u64>(0..=u64::MAX);
        assert_eq!([any("0"), any("7"), any("18446744073709551615")], [Ok(0), Ok(7), Ok(u64::MAX)]);
        for text in ["", "007", "00", "+7", "-7", "7 ", "1_000", "1e3", "18446744073709551616", "x"] {
            let message = "expected a whole number from 0, without a sign and without leading zeros";
            assert_eq!(any(text), Err(message.to_owned()), "{text}");
        }
        let batch = whole_number::<u32>(1..=4096);
        assert_eq!((batch("1"), batch("4096")), (Ok(1), Ok(4096)));
        assert!(batch("0").is_err() && batch("4097").unwrap_err().contains("from 1 to 4096"));
    }

    /// clap prints an argument as it is, so an escape sequence reached the terminal.
    #[test]
    fn an_argument_in_an_error_is_escaped() {
        let escaped = |arguments: &[&str]| {
            let arguments: Vec<OsString> = ["program"].iter().chain(arguments).map(OsString::from).collect();
            escaped_text::<Cli>(&arguments)
        };
        let hostile = "q\u{1b}[31mRED\u{202e}\u{9b}\u{7f}";
        let printed = r"q\u{1b}[31mRED\u{202e}\u{9b}\u{7f}";
        for arguments in [["--number", hostile].as_slice(), &[hostile], &[&format!("--{hostile}")]] {
            let text = escaped(arguments).expect("an error");
            assert!(text.contains(printed), "{text}");
            assert!(!text.contains(|c: char| c != '\n' && (c.is_control() || c == '\u{202e}')), "{text:?}");
        }
        // The text of clap is printed unchanged, with its colours.
        for arguments in [["--number", "grün"].as_slice(), &["--help"], &["--number", "1"]] {
            assert_eq!(escaped(arguments), None, "{arguments:?}");
        }
    }
}
