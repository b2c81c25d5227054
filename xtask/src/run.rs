//! Running other programs: the line that is shown is the line that is run.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::failure::Failure;
use crate::say;

/// A program with its arguments, variables and folder.
#[derive(Debug, Clone)]
pub(crate) struct CommandLine {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    variables: Vec<(String, String)>,
    dir: Option<PathBuf>,
}

impl CommandLine {
    /// A program that is found through `PATH`.
    pub(crate) fn new(name: &str) -> Self {
        Self::at(name, PathBuf::from(name))
    }

    /// A program at a known path, which is shown by its name.
    pub(crate) fn at(name: &str, program: PathBuf) -> Self {
        Self { name: name.to_owned(), program, args: Vec::new(), variables: Vec::new(), dir: None }
    }

    pub(crate) fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn variables(mut self, variables: &[(String, String)]) -> Self {
        self.variables.extend_from_slice(variables);
        self
    }

    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    /// The line as it could be typed into a shell.
    pub(crate) fn shown(&self) -> String {
        let variables = self.variables.iter().map(|(name, value)| format!("{name}={}", quoted(value)));
        let words = std::iter::once(&self.name).chain(&self.args).map(|word| quoted(word));
        variables.chain(words).collect::<Vec<_>>().join(" ")
    }

    /// Shows the line, runs it, and is content with nothing but success.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        say::command(&self.shown());
        self.check()
    }

    /// Shows the line, runs it, and leaves it the last word: if it fails, so does this, in silence.
    pub(crate) fn hand_over(&self) -> Result<(), Failure> {
        say::command(&self.shown());
        match self.status()? {
            status if status.success() => Ok(()),
            status => Err(Failure::said(status.code())),
        }
    }

    /// Runs it without a word, and is content with nothing but success.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.succeeded(self.status()?)
    }

    /// Shows the line, runs it, and gives what it printed to stdout.
    pub(crate) fn run_and_read(&self) -> Result<String, Failure> {
        say::command(&self.shown());
        self.read()
    }

    /// Gives what it printed to stdout, without a word.
    pub(crate) fn read(&self) -> Result<String, Failure> {
        let output = self.command().stderr(Stdio::inherit()).output().map_err(|error| self.not_started(&error))?;
        self.succeeded(output.status)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn status(&self) -> Result<ExitStatus, Failure> {
        let status = self.command().status();
        status.map_err(|error| self.not_started(&error))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.variables.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }

    fn succeeded(&self, status: ExitStatus) -> Result<(), Failure> {
        if status.success() {
            return Ok(());
        }
        let what = format!("expected `{}` to succeed, found {status}", self.shown());
        Err(Failure::new(what).with_exit_code(status.code()))
    }

    fn not_started(&self, error: &std::io::Error) -> Failure {
        Failure::new(format!("cannot start `{}`: {error}", self.program.display()))
            .next(format!("see that {} is installed and on your PATH", self.name))
    }
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_could_be_typed() {
        let line = CommandLine::at("cargo", PathBuf::from("/a/b/cargo"))
            .args(["doc", "--workspace"])
            .variable("RUSTDOCFLAGS", "-Dwarnings -Aunused");
        assert_eq!(line.shown(), "RUSTDOCFLAGS='-Dwarnings -Aunused' cargo doc --workspace");
    }

    #[test]
    fn quotes_what_a_shell_would_take_apart() {
        assert_eq!(quoted("São-Paulo.csv"), "São-Paulo.csv");
        assert_eq!(quoted("it's late"), r"'it'\''s late'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("$(rm)"), "'$(rm)'");
    }

    #[test]
    fn a_failing_program_hands_on_its_exit_code() {
        let failure = CommandLine::new("sh").args(["-c", "exit 7"]).run();
        assert_eq!(failure.map_err(|failure| failure.exit_code()), Err(7));
    }

    #[test]
    fn a_program_that_has_the_last_word_is_not_talked_over() {
        let handed_over = CommandLine::new("sh").args(["-c", "exit 7"]).hand_over();
        assert_eq!(handed_over, Err(Failure::said(Some(7))));
    }

    #[test]
    fn a_missing_program_is_named() {
        let failure = CommandLine::new("no-such-program").run().map_err(|failure| failure.to_string());
        assert!(failure.is_err_and(|message| message.contains("see that no-such-program is installed")));
    }
}
