//! Running other programs. The command line that is printed is the one that is run.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::console;
use crate::failure::Failure;

/// A program with its arguments, environment variables and working directory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CommandLine {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    variables: Vec<(String, String)>,
    directory: Option<PathBuf>,
}

impl CommandLine {
    /// Creates the command line of a program that is found through `PATH`.
    pub(crate) fn new(name: &str) -> Self {
        Self::at(name, PathBuf::from(name))
    }

    /// Creates the command line of a program at a known path, which is printed by its name.
    pub(crate) fn at(name: &str, program: PathBuf) -> Self {
        Self { name: name.to_owned(), program, args: Vec::new(), variables: Vec::new(), directory: None }
    }

    pub(crate) fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the working directory.
    pub(crate) fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Returns the line as it would be typed into a shell.
    pub(crate) fn shown(&self) -> String {
        let variables = self.variables.iter().map(|(name, value)| format!("{name}={}", quoted(value)));
        let words = std::iter::once(&self.name).chain(&self.args).map(|word| quoted(word));
        variables.chain(words).collect::<Vec<_>>().join(" ")
    }

    /// Prints the line and runs it.
    ///
    /// # Errors
    ///
    /// Fails if the program cannot be started or does not succeed; the failure has its exit code.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        console::command(&self.shown());
        self.run_quietly()
    }

    /// Prints the line and runs a program that reports its own failure, such as a test runner.
    ///
    /// # Errors
    ///
    /// Fails as [`run`](Self::run), but without a message of its own if the program was started.
    pub(crate) fn run_self_reporting(&self) -> Result<(), Failure> {
        console::command(&self.shown());
        match self.status()? {
            status if status.success() => Ok(()),
            status => Err(Failure::reported(status.code())),
        }
    }

    /// Runs the line without printing it.
    pub(crate) fn run_quietly(&self) -> Result<(), Failure> {
        self.require_success(self.status()?)
    }

    /// Prints the line, runs it and returns its stdout.
    pub(crate) fn run_and_capture(&self) -> Result<String, Failure> {
        console::command(&self.shown());
        self.capture()
    }

    /// Runs the line without printing it, and returns its stdout.
    pub(crate) fn capture(&self) -> Result<String, Failure> {
        let output = self.command().stderr(Stdio::inherit()).output().map_err(|error| self.not_started(&error))?;
        self.require_success(output.status)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs the line without printing it, and returns whether it succeeded, and its stdout.
    pub(crate) fn capture_with_status(&self) -> Result<(bool, String), Failure> {
        let output = self.command().stderr(Stdio::inherit()).output().map_err(|error| self.not_started(&error))?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    fn status(&self) -> Result<ExitStatus, Failure> {
        let status = self.command().status();
        status.map_err(|error| self.not_started(&error))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.variables.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }

    fn require_success(&self, status: ExitStatus) -> Result<(), Failure> {
        if status.success() {
            return Ok(());
        }
        let message = format!("`{}` failed: {status}", self.shown());
        Err(Failure::new(message).with_exit_code(status.code()))
    }

    fn not_started(&self, error: &std::io::Error) -> Failure {
        Failure::new(format!("cannot start `{}`: {error}", self.program.display()))
            .next(format!("install {} and make sure that it is on your PATH", self.name))
    }
}

/// Quotes a word for a shell, if it has to be quoted.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_line_can_be_typed_into_a_shell() {
        let line = CommandLine::at("cargo", PathBuf::from("/a/b/cargo"))
            .args(["doc", "--workspace"])
            .variable("RUSTDOCFLAGS", "-Dwarnings -Aunused");
        assert_eq!(line.shown(), "RUSTDOCFLAGS='-Dwarnings -Aunused' cargo doc --workspace");
    }

    #[test]
    fn words_with_special_characters_are_quoted() {
        assert_eq!(quoted("São-Paulo.csv"), "São-Paulo.csv");
        assert_eq!(quoted("it's late"), r"'it'\''s late'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("$(rm)"), "'$(rm)'");
    }

    #[test]
    fn the_exit_code_of_a_failing_program_is_forwarded() {
        let failure = CommandLine::new("sh").args(["-c", "exit 7"]).run();
        assert_eq!(failure.map_err(|failure| failure.exit_code()), Err(7));
    }

    #[test]
    fn a_self_reporting_program_fails_without_a_second_message() {
        let result = CommandLine::new("sh").args(["-c", "exit 7"]).run_self_reporting();
        assert_eq!(result, Err(Failure::reported(Some(7))));
    }

    #[test]
    fn a_missing_program_is_named() {
        let failure = CommandLine::new("no-such-program").run().map_err(|failure| failure.to_string());
        assert!(failure.is_err_and(|message| message.contains("install no-such-program")));
    }
}
