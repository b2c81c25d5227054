//! [`Trial`]: builds and runs the tests of a mutant.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::console;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::mutants::promises::TestName;
use crate::mutants::target::TestTarget;
use crate::mutants::tree::Tree;
use crate::workspace::Workspace;

/// The time after which tests are stopped, with an error of the run: an endless test may be a mutant that is caught, or
/// a machine that is too slow. A test that such a mutant breaks has a limit of its own.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// The signal of a kernel without memory.
const SIGKILL: i32 = 9;

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
    ///
    /// # Errors
    /// If the tests give no verdict: cargo failed for another reason than the mutated source, or a test was killed or
    /// took longer than [`TIME_LIMIT`].
    pub(crate) fn judge(&self, id: &str, tests: &Tests<'_>) -> Result<Verdict, Failure> {
        for (target, tests) in tests {
            let Some(program) = self.build(target)? else { return Ok(Verdict::Invalid) };
            if self.run(target, &program, tests, &self.logs.join(format!("{id}.log")))? == Run::Failed {
                return Ok(Verdict::Caught);
            }
        }
        Ok(Verdict::Survived)
    }

    /// Builds a test program. Prints the errors of the compiler and returns `None` if a source does not compile.
    /// Warnings are not printed: a mutant often leaves something unused.
    fn build(&self, target: &TestTarget) -> Result<Option<PathBuf>, Failure> {
        let line = self.tree.cargo(self.workspace, "test").args(target.args.iter());
        let line = line.args(["--no-run", "--quiet", "--message-format=json"]);
        let (is_built, output) = line.capture_with_status()?;
        let messages = Messages::parse(&output);
        if !is_built {
            let errors = messages.errors_of_sources();
            if errors.is_empty() {
                let message = format!("`{}` failed, but not because of a source", line.shown());
                return Err(Failure::new(message).next("check the free memory and disk space, then run it again"));
            }
            errors.iter().for_each(|error| console::note(error));
            return Ok(None);
        }
        let mut programs = messages.programs().filter(|program| program.is_test);
        let program = programs.find(|program| target.is_built_from(&self.tree.root, program.source));
        let missing = || Failure::new(format!("found no test program for `{}`", line.shown()));
        program.ok_or_else(missing).map(|program| Some(program.path.to_owned()))
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
        if !list.status.success() {
            let errors = String::from_utf8_lossy(&list.stderr);
            let message = format!("cannot list the tests of {}: {}: {errors}", program.display(), list.status);
            return Err(Failure::new(message).next("run the command through `cargo xtask`"));
        }
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
        let reason = match wait(&mut child, TIME_LIMIT).map_err(failed("wait for"))? {
            End::Tests(run) => return Ok(run),
            End::Killed => "were killed".to_owned(),
            End::TooLong => format!("took longer than {}", console::duration(TIME_LIMIT)),
        };
        Err(Failure::new(format!("tests of {} {reason}", program.display())).next(format!("read {}", log.display())))
    }
}

/// The end of a test program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Tests(Run),
    /// It was killed by another process or by the kernel.
    Killed,
    TooLong,
}

/// Waits for the end of a test program, and kills it after the time limit.
fn wait(child: &mut Child, limit: Duration) -> io::Result<End> {
    let start = Instant::now();
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(End::Tests(Run::Passed)),
            Some(status) if status.signal() == Some(SIGKILL) => return Ok(End::Killed),
            Some(_) => return Ok(End::Tests(Run::Failed)),
            None if start.elapsed() >= limit => {
                child.kill().and_then(|()| child.wait())?;
                return Ok(End::TooLong);
            }
            None => std::thread::sleep(POLL),
        }
    }
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

    /// A test that was killed for want of memory, and one that never ended, counted as caught.
    #[test]
    fn tests_that_are_killed_or_never_end_have_no_result() -> io::Result<()> {
        let ended = |script: &str, limit| {
            let mut child = Command::new("sh").args(["-c", script]).spawn()?;
            wait(&mut child, limit)
        };
        let minute = Duration::from_secs(60);
        assert_eq!(ended("exit 0", minute)?, End::Tests(Run::Passed));
        assert_eq!(ended("exit 101", minute)?, End::Tests(Run::Failed));
        assert_eq!(ended("kill -ABRT $$", minute)?, End::Tests(Run::Failed), "a panic while panicking aborts");
        assert_eq!(ended("kill -KILL $$", minute)?, End::Killed);
        assert_eq!(ended("exec sleep 60", Duration::from_millis(50))?, End::TooLong);
        Ok(())
    }
}
