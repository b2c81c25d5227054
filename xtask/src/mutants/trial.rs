//! [`Trial`]: builds and runs the tests of a mutant.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::console;
use crate::failure::Failure;
use crate::mutants::promises::TestName;
use crate::mutants::target::TestTarget;
use crate::mutants::tree::Tree;
use crate::workspace::Workspace;

/// The time after which tests count as failed. A mutant may run for ever.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// The time between two looks at a running test.
const POLL: Duration = Duration::from_millis(20);

/// The result of the tests of a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A test failed.
    Caught,
    /// All tests passed.
    Survived,
    /// The mutated source does not compile.
    Invalid,
}

/// Tests by the program that runs them.
pub(crate) type Tests<'a> = BTreeMap<TestTarget, BTreeSet<&'a TestName>>;

/// The result of the tests of one program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Passed,
    Failed,
}

/// Runs tests in a copy of the workspace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) tree: &'a Tree,
    /// The directory for the output of the tests.
    pub(crate) logs: &'a Path,
}

impl Trial<'_> {
    /// Runs tests on the unchanged sources. A test that fails there would catch every mutant.
    ///
    /// # Errors
    /// If a test fails or does not exist.
    pub(crate) fn baseline(&self, tests: &Tests<'_>) -> Result<(), Failure> {
        for (target, tests) in tests {
            let program = self.build(target)?.ok_or_else(|| Failure::new("the unchanged sources do not compile"))?;
            let log = self.logs.join("baseline.log");
            if self.run(target, &program, tests, &log)? == Run::Failed {
                let names: Vec<_> = tests.iter().map(|test| &*test.function).collect();
                let message = format!("tests fail without a mutant: {}", names.join(", "));
                return Err(Failure::new(message).next(format!("read {}", log.display())));
            }
        }
        Ok(())
    }

    /// Runs tests on mutated sources until one fails.
    pub(crate) fn judge(&self, id: &str, tests: &Tests<'_>) -> Result<Verdict, Failure> {
        for (target, tests) in tests {
            let Some(program) = self.build(target)? else { return Ok(Verdict::Invalid) };
            if self.run(target, &program, tests, &self.logs.join(format!("{id}.log")))? == Run::Failed {
                return Ok(Verdict::Caught);
            }
        }
        Ok(Verdict::Survived)
    }

    /// Builds a test program. Prints the errors of the compiler and returns `None` if it does not compile. Warnings are
    /// not printed: a mutant often leaves something unused.
    fn build(&self, target: &TestTarget) -> Result<Option<PathBuf>, Failure> {
        let line = self.tree.cargo(self.workspace, "test").args(target.args.iter());
        let line = line.args(["--no-run", "--quiet", "--message-format=json"]);
        let (is_built, messages) = line.capture_with_status()?;
        if !is_built {
            errors(&messages).iter().for_each(|error| console::note(error));
            return Ok(None);
        }
        let program = find_program(&messages, |source| target.is_built_from(&self.tree.root, source));
        let missing = || Failure::new(format!("found no test program for `{}`", line.shown()));
        program.ok_or_else(missing).map(Some)
    }

    /// Runs some tests of a program and writes their output to a file.
    fn run(
        &self,
        target: &TestTarget,
        program: &Path,
        tests: &BTreeSet<&TestName>,
        log: &Path,
    ) -> Result<Run, Failure> {
        let failed = |operation: &'static str| move |error| Failure::io(operation, program, &error);
        let directory = target.directory(&self.tree.root);
        let list = Command::new(program).args(["--list", "--format", "terse"]).current_dir(&directory).output();
        let list = list.map_err(failed("run"))?;
        let names = full_names(&String::from_utf8_lossy(&list.stdout), tests)?;
        let output = File::create(log).map_err(|error| Failure::io("write", log, &error))?;
        let errors = output.try_clone().map_err(|error| Failure::io("write", log, &error))?;
        let mut child = Command::new(program)
            .arg("--exact")
            .args(names)
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(failed("run"))?;
        let start = Instant::now();
        loop {
            match child.try_wait().map_err(failed("wait for"))? {
                Some(status) if status.success() => return Ok(Run::Passed),
                Some(_) => return Ok(Run::Failed),
                None if start.elapsed() >= TIME_LIMIT => {
                    child.kill().and_then(|()| child.wait()).map_err(failed("stop"))?;
                    return Ok(Run::Failed);
                }
                None => std::thread::sleep(POLL),
            }
        }
    }
}

/// Parses the JSON messages of cargo.
fn parse(messages: &str) -> impl Iterator<Item = Value> {
    messages.lines().filter_map(|line| serde_json::from_str(line).ok())
}

/// Returns the errors of the compiler in the JSON messages of cargo.
fn errors(messages: &str) -> Vec<String> {
    let errors = parse(messages).filter(|message| message["message"]["level"] == "error");
    errors.filter_map(|message| message["message"]["rendered"].as_str().map(ToOwned::to_owned)).collect()
}

/// Finds the test program in the JSON messages of cargo by its main source.
fn find_program(messages: &str, is_source: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut tests = parse(messages)
        .filter(|message| message["reason"] == "compiler-artifact" && message["profile"]["test"] == true)
        .filter(|message| message["target"]["src_path"].as_str().is_some_and(|source| is_source(Path::new(source))));
    tests.find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// Returns the names with modules of some tests, from the list of a test program.
fn full_names(list: &str, tests: &BTreeSet<&TestName>) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for test in tests {
        let known = list.lines().filter_map(|line| line.strip_suffix(": test"));
        let before = names.len();
        names.extend(
            known
                .filter(|name| name.rsplit_once("::").map_or(*name, |(_, function)| function) == test.function)
                .map(ToOwned::to_owned),
        );
        if names.len() == before {
            return Err(Failure::new(format!("{} has no test {}", test.file, test.function)));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_test_is_found_by_its_last_name() {
        let list = "memory::a_case: test\nlayer::a_case: test\nanother_a_case: test\nb: test\nc: benchmark\n";
        let name = |function: &str| TestName { file: "f.rs".to_owned(), function: function.to_owned() };
        let names = |function| full_names(list, &BTreeSet::from([&name(function)]));
        assert_eq!(names("a_case"), Ok(vec!["memory::a_case".to_owned(), "layer::a_case".to_owned()]));
        assert_eq!(names("b"), Ok(vec!["b".to_owned()]));
        assert!(names("c").is_err() && names("case").is_err());
    }

    #[test]
    fn errors_of_the_compiler_are_printed_and_warnings_are_not() {
        let message =
            |level: &str| json!({ "message": { "level": level, "rendered": format!("a {level}") } }).to_string();
        assert_eq!(errors(&[message("warning"), "text".to_owned(), message("error")].join("\n")), ["a error"]);
    }

    #[test]
    fn a_program_is_found_by_its_source() {
        let message = |source: &str, is_test: bool, program: &str| {
            let (target, profile) = (json!({ "src_path": source }), json!({ "test": is_test }));
            let reason = "compiler-artifact";
            json!({ "reason": reason, "target": target, "profile": profile, "executable": program }).to_string()
        };
        let messages = [
            message("/w/a/src/lib.rs", false, "/t/no"),
            message("/w/b/tests/kill.rs", true, "/t/other"),
            "{\"reason\":\"build-finished\"}".to_owned(),
            message("/w/a/tests/kill.rs", true, "/t/kill"),
        ];
        let program = find_program(&messages.join("\n"), |source| source.starts_with("/w/a/tests"));
        assert_eq!(program, Some(PathBuf::from("/t/kill")));
        assert_eq!(find_program(&messages.join("\n"), |source| source.starts_with("/w/a/src")), None);
    }
}
