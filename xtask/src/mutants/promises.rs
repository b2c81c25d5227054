//! The promises of `docs/guarantees.md`: the tests that hold them and the mutants that break them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::failure::Failure;
use crate::mutants::list::{LIST, Mutant};

/// The document with the promises, relative to the root of the workspace.
pub(crate) const GUARANTEES: &str = "docs/guarantees.md";

/// A row of a table of promises.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Promise {
    pub(crate) text: String,
    pub(crate) tests: Vec<TestName>,
    /// The ids of the mutants that break the promise.
    pub(crate) mutants: Vec<String>,
    /// The reason why the promise has no mutant.
    reason: String,
}

/// The name of a test: `es-core/src/store/read.rs::a_cancelled_fetch_loses_no_batch`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TestName {
    pub(crate) file: String,
    pub(crate) function: String,
}

impl Promise {
    /// Reads all promises of a workspace.
    pub(crate) fn read_all(root: &Path) -> Result<Vec<Self>, Failure> {
        let path = root.join(GUARANTEES);
        let text = std::fs::read_to_string(&path).map_err(|error| Failure::io("read", &path, &error))?;
        Ok(parse(&text))
    }
}

/// Parses the rows of all tables, without their headings.
fn parse(text: &str) -> Vec<Promise> {
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise |"));
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    rows.map(cells)
        .map(|cells| {
            let cell = |index: usize| cells.get(index).map_or("", String::as_str);
            let tests = code_spans(cell(2)).filter_map(|span| span.split_once("::"));
            let tests = tests.map(|(file, name)| TestName { file: file.to_owned(), function: name.to_owned() });
            let mutants = code_spans(cell(3)).map(ToOwned::to_owned).collect();
            let reason = cell(3).split('`').step_by(2).collect();
            Promise { text: cell(0).to_owned(), tests: tests.collect(), mutants, reason }
        })
        .collect()
}

fn code_spans(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Returns the tests that must catch each mutant.
pub(crate) fn tests_of(promises: &[Promise]) -> BTreeMap<&str, BTreeSet<&TestName>> {
    let mut found = BTreeMap::<_, BTreeSet<_>>::new();
    for Promise { tests, mutants, .. } in promises {
        for mutant in mutants {
            found.entry(mutant.as_str()).or_default().extend(tests);
        }
    }
    found
}

/// Returns what is wrong with the lists: promises without a test or a mutant, and mutants that do not exist, that no
/// promise names, or that do not apply.
pub(crate) fn problems(root: &Path, promises: &[Promise], mutants: &[Mutant]) -> Vec<String> {
    let mut problems = Vec::new();
    let known: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.id.as_str()).collect();
    for Promise { text, tests, mutants, reason } in promises {
        if tests.is_empty() {
            problems.push(format!("{GUARANTEES}: the promise {text:?} names no test"));
        }
        if mutants.is_empty() && reason.len() < 10 {
            problems.push(format!("{GUARANTEES}: the promise {text:?} has neither a mutant nor a reason for none"));
        }
        let unknown = mutants.iter().filter(|mutant| !known.contains(mutant.as_str()));
        problems.extend(unknown.map(|id| format!("{GUARANTEES}: expected the mutant {id} in {LIST}, found none")));
    }
    let named = tests_of(promises);
    for mutant in mutants {
        if !named.contains_key(mutant.id.as_str()) {
            problems.push(format!("{LIST}: expected a promise of {GUARANTEES} with the mutant {}", mutant.id));
        }
        let applied = match std::fs::read_to_string(root.join(&mutant.file)) {
            Ok(source) => mutant.apply(&source).map(drop),
            Err(error) => Err(format!("mutant {}: cannot read {}: {error}", mutant.id, mutant.file)),
        };
        problems.extend(applied.err());
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    /// A mutant that does not apply any more would be found only by the soak, hours later.
    #[test]
    fn every_mutant_applies_and_breaks_a_promise_with_a_test() -> Result<(), Failure> {
        let workspace = Workspace::find()?;
        let (promises, mutants) = (Promise::read_all(workspace.root())?, Mutant::read_all(workspace.root())?);
        assert!(promises.len() >= 40 && mutants.len() >= 30, "{} and {}", promises.len(), mutants.len());
        let problems = problems(workspace.root(), &promises, &mutants);
        assert!(problems.is_empty(), "{}", problems.join("\n"));
        Ok(())
    }

    #[test]
    fn a_row_is_a_promise_with_its_tests_and_mutants() {
        let text = "# A\n\n| promise | source | tests | mutants |\n|---|---|---|---|\n\
                    | All is well. | [a](b.md) | `c/src/d.rs::e`, `f/tests/g.rs::h` | `i` `j` |\n\
                    | It compiles. | [a](b.md) | `k/src/l.rs::m` | none: the compiler |\n";
        let promises = parse(text);
        let test = |file: &str, function: &str| TestName { file: file.into(), function: function.into() };
        assert_eq!(promises[0].tests, [test("c/src/d.rs", "e"), test("f/tests/g.rs", "h")]);
        assert_eq!((&*promises[0].mutants, &*promises[0].text), (&["i".into(), "j".into()][..], "All is well."));
        assert_eq!((promises[1].mutants.len(), &*promises[1].reason), (0, "none: the compiler"));
        assert_eq!(tests_of(&promises)["j"].len(), 2);
    }

    #[test]
    fn each_kind_of_problem_is_reported() {
        let row = |tests: &str, mutants: &str| format!("| a | b | {tests} | {mutants} |\n");
        let text = row("", "`x`") + &row("`c.rs::d`", "") + &row("`c.rs::d`", "`y`");
        let mutant = |id: &str| Mutant {
            id: id.into(),
            file: "no-such-file.rs".into(),
            original: "a".into(),
            replacement: "b".into(),
        };
        let problems = problems(Path::new("/"), &parse(&text), &[mutant("x"), mutant("z")]);
        let expected = ["names no test", "neither a mutant", "the mutant y in", "with the mutant z", "cannot read"];
        for expected in expected {
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:?}");
        }
    }
}
