//! `cargo xtask mutants`: puts known bugs back, one at a time, and requires that the tests of the broken promise fail.

mod list;
mod promises;
mod target;
mod tree;
mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::cli::MutantsArgs;
use crate::console;
use crate::failure::Failure;
use crate::workspace::Workspace;
use list::{LIST, Mutant};
use promises::{GUARANTEES, Promise, TestName};
use target::TestTarget;
use tree::Tree;
use trial::{Tests, Trial, Verdict};

/// A mutant that was judged.
struct Judged<'a> {
    mutant: &'a Mutant,
    /// A failure if the tests gave no verdict.
    verdict: Result<Verdict, Failure>,
    duration: Duration,
}

/// Runs the selected mutants, or lists them.
///
/// # Errors
/// If a mutant survives, does not compile, does not apply or gets no verdict, or if a test fails without a mutant.
pub(crate) fn run(workspace: &Workspace, args: &MutantsArgs) -> Result<(), Failure> {
    let (promises, mutants) = (Promise::read_all(workspace.root())?, Mutant::read_all(workspace.root())?);
    let problems = promises::problems(workspace.root(), &promises, &mutants);
    if !problems.is_empty() {
        return Err(Failure::new(problems.join("\n")).next(format!("correct {GUARANTEES} and {LIST}")));
    }
    let mutants = select(&mutants, &args.only)?;
    let tests = promises::tests_of(&promises);
    let tests_of = |mutant: &Mutant| by_target(tests.get(mutant.id.as_str()).into_iter().flatten(), &mutant.file);
    if args.list {
        for mutant in mutants {
            let names: Vec<_> = tests_of(mutant).values().flatten().map(|test| &*test.function).collect();
            console::note(&format!("{}  {}  {}", mutant.id, mutant.file, names.join(", ")));
        }
        return Ok(());
    }
    judge(workspace, &mutants, tests_of)
}

/// Returns the mutants with these ids, or all of them.
fn select<'a>(mutants: &'a [Mutant], only: &[String]) -> Result<Vec<&'a Mutant>, Failure> {
    if let Some(unknown) = only.iter().find(|id| mutants.iter().all(|mutant| mutant.id != **id)) {
        let message = format!("there is no mutant {unknown}");
        return Err(Failure::new(message).next("list all with `cargo xtask mutants --list`"));
    }
    Ok(mutants.iter().filter(|mutant| only.is_empty() || only.contains(&mutant.id)).collect())
}

/// Groups tests by the program that runs them for a mutant of `file`.
fn by_target<'a>(tests: impl IntoIterator<Item = &'a &'a TestName>, file: &str) -> Tests<'a> {
    let mut targets = BTreeMap::<TestTarget, BTreeSet<_>>::new();
    for test in tests {
        targets.entry(TestTarget::of(test, file)).or_default().insert(*test);
    }
    targets
}

fn judge<'a>(
    workspace: &Workspace,
    mutants: &[&'a Mutant],
    tests_of: impl Fn(&Mutant) -> Tests<'a>,
) -> Result<(), Failure> {
    workspace.announce_rocksdb_build();
    let tree = Tree::prepare(workspace)?;
    let logs = workspace.target().join("mutants/logs");
    std::fs::create_dir_all(&logs).map_err(|error| Failure::io("create", &logs, &error))?;
    let trial = Trial { workspace, tree: &tree, logs: &logs };
    let mut all = Tests::new();
    for (target, tests) in mutants.iter().flat_map(|mutant| tests_of(mutant)) {
        all.entry(target).or_default().extend(tests);
    }
    console::note("running the tests on the unchanged sources");
    trial.baseline(&all)?;
    let mut judged = Vec::new();
    for mutant in mutants {
        let start = Instant::now();
        let verdict = tree.with(mutant, || Ok(trial.judge(&mutant.id, &tests_of(mutant))))?;
        let result = Judged { mutant, verdict, duration: start.elapsed() };
        console::note(&line(&result));
        judged.push(result);
    }
    report(&judged)
}

fn line(Judged { mutant, verdict, duration }: &Judged<'_>) -> String {
    let verdict = match verdict {
        Ok(Verdict::Caught) => "caught".to_owned(),
        Ok(Verdict::Survived) => "SURVIVED".to_owned(),
        Ok(Verdict::Invalid) => "DOES NOT COMPILE".to_owned(),
        Err(failure) => format!("NO VERDICT: {failure}"),
    };
    format!("{}  {verdict}  {}", mutant.id, console::duration(*duration))
}

/// Fails if a mutant was not caught, or got no verdict.
fn report(judged: &[Judged<'_>]) -> Result<(), Failure> {
    let ids = |is_listed: fn(&Result<Verdict, Failure>) -> bool| {
        let listed = judged.iter().filter(|judged| is_listed(&judged.verdict));
        listed.map(|judged| &*judged.mutant.id).collect::<Vec<_>>()
    };
    let not_caught = ids(|verdict| matches!(verdict, Ok(Verdict::Survived | Verdict::Invalid)));
    let without_verdict = ids(Result::is_err);
    let counts = [judged.len(), not_caught.len(), without_verdict.len()];
    console::note(&format!("{} mutants, {} not caught, {} without a verdict", counts[0], counts[1], counts[2]));
    if !not_caught.is_empty() {
        return Err(Failure::new(format!("mutants that no test caught: {}", not_caught.join(", ")))
            .next("add a test that fails with each of them, and name it in the table of promises"));
    }
    if !without_verdict.is_empty() {
        return Err(Failure::new(format!("mutants without a verdict: {}", without_verdict.join(", ")))
            .next("read the reason of each above, then run it again with `--only ID`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(id: &str) -> Mutant {
        let text = |text: &str| text.to_owned();
        Mutant { id: text(id), file: text("f.rs"), original: text("a"), replacement: text("b") }
    }

    #[test]
    fn an_unknown_mutant_is_refused() {
        let mutants = [mutant("one"), mutant("two")];
        let ids = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|id| (*id).to_owned()).collect();
            select(&mutants, &only).map(|found| found.iter().map(|mutant| mutant.id.clone()).collect::<Vec<_>>())
        };
        assert_eq!(ids(&[]), Ok(vec!["one".to_owned(), "two".to_owned()]));
        assert_eq!(ids(&["two"]), Ok(vec!["two".to_owned()]));
        assert!(ids(&["three"]).is_err_and(|failure| failure.to_string().contains("no mutant three")));
    }

    #[test]
    fn a_mutant_that_is_not_caught_is_a_failure() {
        let mutant = mutant("one");
        let judged = |verdict| Judged { mutant: &mutant, verdict, duration: Duration::ZERO };
        let caught = || judged(Ok(Verdict::Caught));
        assert_eq!(report(&[caught()]), Ok(()));
        let no_verdict = Failure::new("the compiler was killed");
        for verdict in [Ok(Verdict::Survived), Ok(Verdict::Invalid), Err(no_verdict)] {
            let failure = report(&[caught(), judged(verdict)]);
            assert!(failure.is_err_and(|failure| failure.to_string().contains(": one")));
        }
    }
}
