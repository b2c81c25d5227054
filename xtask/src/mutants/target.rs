//! [`TestTarget`]: the test program that has a test.

use std::path::{Path, PathBuf};

use crate::mutants::promises::TestName;

/// The cases of the conformance suite are generic. es-core runs them on the memory store, es-tests on RocksDB.
const CONFORMANCE: &str = "es-core/src/testing/conformance/";

/// Packages that are built alone, because the workspace adds no features that their tests need. `--package` of any
/// other would compile RocksDB again.
const BUILT_ALONE: [&str; 7] = ["es-core", "es-log", "es-macros", "es-personal", "es-replication", "es-tool", "xtask"];

/// A test program, and the arguments with which cargo builds it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TestTarget {
    /// The directory of the package, relative to the root of the workspace.
    package: PathBuf,
    /// The directory of the main source, relative to the root of the workspace.
    source: PathBuf,
    /// The arguments of `cargo test`.
    pub(crate) args: Vec<String>,
}

impl TestTarget {
    /// Returns the program that runs a test for a mutant of `file`.
    pub(crate) fn of(test: &TestName, file: &str) -> Self {
        let path = match test.file.starts_with(CONFORMANCE) {
            true if file.starts_with("es-core/") => "es-core/tests/memory.rs",
            true => "tests/tests/conformance.rs",
            false => &test.file,
        };
        let (package, kind, rest) = match (path.split_once("/src/"), path.rsplit_once("/tests/")) {
            (Some((package, rest)), _) => (package, "src", rest),
            (None, Some((package, rest))) => (package, "tests", rest),
            (None, None) => ("", "", path),
        };
        let selection = match BUILT_ALONE.contains(&package) {
            true => vec!["--package", package],
            false => vec!["--workspace"],
        };
        let program = match (kind, package) {
            ("src", "xtask") => vec!["--bins"],
            ("src", _) => vec!["--lib"],
            _ => vec!["--test", rest.split_once('/').map_or(rest.trim_end_matches(".rs"), |(directory, _)| directory)],
        };
        let args = selection.into_iter().chain(program).map(ToOwned::to_owned).collect();
        Self { package: package.into(), source: Path::new(package).join(kind), args }
    }

    /// Returns whether a test program with this main source is the one.
    pub(crate) fn is_built_from(&self, root: &Path, source: &Path) -> bool {
        source.starts_with(root.join(&self.source))
    }

    /// Returns the directory in which cargo runs the program.
    pub(crate) fn directory(&self, root: &Path) -> PathBuf {
        root.join(&self.package)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_belongs_to_a_program_by_its_path() {
        let target = |path: &str, file: &str| {
            let test = TestName { file: path.to_owned(), function: String::new() };
            let target = TestTarget::of(&test, file);
            format!("{} {}", target.source.display(), target.args.join(" "))
        };
        let of_core = |path| target(path, "es-core/src/store/decide.rs");
        assert_eq!(of_core("es-core/src/a/tests/b.rs"), "es-core/src --package es-core --lib");
        assert_eq!(of_core("es-core/tests/derive/event.rs"), "es-core/tests --package es-core --test derive");
        assert_eq!(of_core("tests/tests/kill.rs"), "tests/tests --workspace --test kill");
        assert_eq!(of_core("tests/schedules/tests/writer.rs"), "tests/schedules/tests --workspace --test writer");
        assert_eq!(of_core("es-cli/tests/program/retain.rs"), "es-cli/tests --workspace --test program");
        assert_eq!(of_core("xtask/src/cli.rs"), "xtask/src --package xtask --bins");
        let case = "es-core/src/testing/conformance/keys.rs";
        assert_eq!(of_core(case), "es-core/tests --package es-core --test memory");
        assert_eq!(target(case, "es-rocksdb/src/writer.rs"), "tests/tests --workspace --test conformance");
    }

    #[test]
    fn programs_of_one_name_are_distinguished_by_their_package() {
        let test = TestName { file: "tests/tests/kill.rs".to_owned(), function: String::new() };
        let target = TestTarget::of(&test, "");
        assert!(target.is_built_from(Path::new("/w"), Path::new("/w/tests/tests/kill.rs")));
        assert!(!target.is_built_from(Path::new("/w"), Path::new("/w/examples/outbox/tests/kill.rs")));
        assert_eq!(target.directory(Path::new("/w")), Path::new("/w/tests"));
    }
}
