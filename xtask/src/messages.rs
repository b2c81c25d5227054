//! [`Messages`]: what cargo reports with `--message-format=json`.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The JSON messages of one call of cargo.
#[derive(Debug)]
pub(crate) struct Messages(Vec<Value>);

/// A program that cargo has built or found up to date.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    /// The name of the target.
    pub(crate) name: &'a str,
    /// The main source.
    pub(crate) source: &'a Path,
    /// Whether it runs tests.
    pub(crate) is_test: bool,
    pub(crate) path: &'a Path,
}

impl Messages {
    /// Parses the output of cargo. Lines that are not JSON are output of programs, and are ignored.
    pub(crate) fn parse(output: &str) -> Self {
        Self(output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Returns all programs.
    pub(crate) fn programs(&self) -> impl Iterator<Item = Program<'_>> {
        self.with_reason("compiler-artifact").filter_map(|message| {
            let target = &message["target"];
            Some(Program {
                name: target["name"].as_str()?,
                source: Path::new(target["src_path"].as_str()?),
                is_test: message["profile"]["test"] == true,
                path: Path::new(message["executable"].as_str()?),
            })
        })
    }

    /// Returns the output directory of the build script of a package.
    pub(crate) fn output_directory(&self, package: &str) -> Option<PathBuf> {
        let mut scripts = self.with_reason("build-script-executed");
        let script = scripts.find(|message| message["package_id"].as_str().is_some_and(|id| id.contains(package)))?;
        script["out_dir"].as_str().map(PathBuf::from)
    }

    /// Returns the errors of the compiler that name a place in a source, as the compiler renders them.
    ///
    /// An error without a place is not one of the source: the linker was killed, or the disk is full.
    pub(crate) fn errors_of_sources(&self) -> Vec<&str> {
        let errors = self.with_reason("compiler-message").map(|message| &message["message"]);
        let errors = errors.filter(|error| error["level"] == "error");
        let errors = errors.filter(|error| error["spans"].as_array().is_some_and(|places| !places.is_empty()));
        errors.filter_map(|error| error["rendered"].as_str()).collect()
    }

    fn with_reason(&self, reason: &'static str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |message| message["reason"] == reason)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(messages: &[Value]) -> Messages {
        Messages::parse(&messages.iter().map(Value::to_string).collect::<Vec<_>>().join("\nnot json\n"))
    }

    #[test]
    fn a_library_is_no_program() {
        let artifact = |name: &str, program: Option<&str>| {
            json!({
                "reason": "compiler-artifact",
                "target": { "name": name, "src_path": "/w/a/tests/kill.rs" },
                "profile": { "test": true },
                "executable": program,
            })
        };
        let messages = parsed(&[artifact("a", None), artifact("kill", Some("/t/kill"))]);
        let programs: Vec<_> = messages.programs().map(|program| (program.name, program.path)).collect();
        assert_eq!(programs, [("kill", Path::new("/t/kill"))]);
        let program = messages.programs().next().expect("a program");
        assert_eq!((program.source, program.is_test), (Path::new("/w/a/tests/kill.rs"), true));
    }

    #[test]
    fn the_directory_of_a_build_script_is_found_by_its_package() {
        let script = |package: &str, directory: &str| {
            let reason = "build-script-executed";
            json!({ "reason": reason, "package_id": package, "out_dir": directory })
        };
        let messages = parsed(&[script("registry#serde@1", "/t/a"), script("registry#librocksdb-sys@0.19", "/t/b")]);
        assert_eq!(messages.output_directory("librocksdb-sys"), Some(PathBuf::from("/t/b")));
        assert_eq!(messages.output_directory("zstd-sys"), None);
    }

    /// A linker that was killed for want of memory looked like a source that does not compile.
    #[test]
    fn only_errors_with_a_place_in_a_source_are_errors_of_the_source() {
        let message = |level: &str, places: Value, text: &str| {
            let message = json!({ "level": level, "spans": places, "rendered": text });
            json!({ "reason": "compiler-message", "message": message })
        };
        let place = || json!([{ "file_name": "src/lib.rs" }]);
        let messages = parsed(&[
            message("warning", place(), "unused variable"),
            message("error", place(), "mismatched types"),
            message("error", json!([]), "linking with `cc` failed: signal: 9 (SIGKILL)"),
            message("error", json!([]), "aborting due to 1 previous error"),
        ]);
        assert_eq!(messages.errors_of_sources(), ["mismatched types"]);
    }
}
