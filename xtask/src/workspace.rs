//! The workspace, and cargo calls with one profile and one set of features.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::command_line::CommandLine;
use crate::console;
use crate::failure::Failure;
use crate::messages::Messages;

/// The package whose build script compiles RocksDB.
const ROCKSDB: &str = "librocksdb-sys";
const ARCHIVE: &str = "librocksdb.a";
const ORDER_SERVICE: &str = "order-service";

/// The directories of the workspace and of its builds.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    build: PathBuf,
    /// The names of the packages.
    members: BTreeSet<String>,
}

/// The results of a dev build.
#[derive(Debug, PartialEq)]
pub(crate) struct BuildOutput {
    /// The program of the order service.
    pub(crate) order_service: PathBuf,
    /// The static library of RocksDB.
    pub(crate) rocksdb_archive: PathBuf,
}

impl Workspace {
    /// Finds the workspace with `cargo metadata`.
    pub(crate) fn find() -> Result<Self, Failure> {
        let metadata = cargo().args(["metadata", "--format-version=1", "--no-deps"]).capture()?;
        let metadata: Value = serde_json::from_str(&metadata).map_err(|error| unexpected_output("metadata", &error))?;
        let path = |name: &str| metadata[name].as_str().map(PathBuf::from);
        let (Some(root), Some(target)) = (path("workspace_root"), path("target_directory")) else {
            return Err(unexpected_output("metadata", &"no workspace_root or no target_directory"));
        };
        let build = path("build_directory").unwrap_or_else(|| target.clone());
        let packages = metadata["packages"].as_array().into_iter().flatten();
        let members = packages.filter_map(|package| package["name"].as_str().map(ToOwned::to_owned)).collect();
        Ok(Self { root, target, build, members })
    }

    /// Returns the root directory of the workspace.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the directory of intermediate build results.
    pub(crate) fn build_directory(&self) -> &Path {
        &self.build
    }

    /// Returns the names of the packages of the workspace.
    pub(crate) fn members(&self) -> &BTreeSet<String> {
        &self.members
    }

    /// Returns the target directory of cargo.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Creates a cargo call in the workspace.
    pub(crate) fn cargo<const N: usize>(&self, args: [&str; N]) -> CommandLine {
        cargo().args(args).directory(&self.root)
    }

    /// Creates the call of a program of this workspace.
    pub(crate) fn program(&self, name: &str, path: PathBuf) -> CommandLine {
        CommandLine::at(name, path).directory(&self.root)
    }

    /// Prints how long the build will take, if RocksDB is not compiled yet.
    pub(crate) fn announce_rocksdb_build(&self) {
        if !has_rocksdb(&self.build.join("debug/build")) {
            console::note("the first build compiles RocksDB (C++), which takes about nine minutes on two cores");
        }
    }

    /// Builds the order service and, as its dependency, RocksDB.
    pub(crate) fn build_programs(&self) -> Result<BuildOutput, Failure> {
        self.announce_rocksdb_build();
        let messages = self
            .cargo(["build", "--workspace", "--bin", ORDER_SERVICE])
            .args(["--message-format=json-render-diagnostics"])
            .run_and_capture()?;
        parse_build_messages(&messages)
    }
}

/// Creates a call of the cargo that runs this program, which has the same toolchain.
fn cargo() -> CommandLine {
    CommandLine::at("cargo", std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from))
}

/// Finds the build results in the messages of cargo.
fn parse_build_messages(output: &str) -> Result<BuildOutput, Failure> {
    let messages = Messages::parse(output);
    let program = messages.programs().find(|program| program.name == ORDER_SERVICE);
    match (program, messages.output_directory(ROCKSDB)) {
        (Some(program), Some(directory)) => {
            Ok(BuildOutput { order_service: program.path.to_owned(), rocksdb_archive: directory.join(ARCHIVE) })
        }
        (None, _) => Err(unexpected_output("build", &format!("no program named {ORDER_SERVICE}"))),
        (_, None) => Err(unexpected_output("build", &format!("no output directory of {ROCKSDB}"))),
    }
}

fn has_rocksdb(builds: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(builds) else {
        return false;
    };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(ROCKSDB))
        .any(|entry| entry.path().join("out").join(ARCHIVE).is_file())
}

fn unexpected_output(command: &str, found: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("unexpected output of `cargo {command}`: {found}"))
        .next("check `rustc --version`: the project requires 1.95 or later")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = concat!(
        r#"{"reason":"build-script-executed","package_id":"registry+https://x#librocksdb-sys@0.19.0","#,
        r#""out_dir":"/t/debug/build/librocksdb-sys-1f/out"}"#
    );
    const PROGRAM: &str = concat!(
        r#"{"reason":"compiler-artifact","target":{"name":"order-service","src_path":"/w/main.rs"},"#,
        r#""executable":"/t/debug/order-service"}"#
    );

    #[test]
    fn the_program_and_the_archive_are_found_in_the_messages() {
        let messages = format!("{SCRIPT}\nnot json\n{PROGRAM}\n{{\"reason\":\"build-finished\",\"success\":true}}\n");
        let expected = BuildOutput {
            order_service: PathBuf::from("/t/debug/order-service"),
            rocksdb_archive: PathBuf::from("/t/debug/build/librocksdb-sys-1f/out/librocksdb.a"),
        };
        assert_eq!(parse_build_messages(&messages), Ok(expected));
    }

    #[test]
    fn the_error_names_the_missing_result() {
        let message = |messages| parse_build_messages(messages).map_err(|failure| failure.to_string());
        assert!(message(SCRIPT).is_err_and(|message| message.contains("no program named order-service")));
        assert!(message(PROGRAM).is_err_and(|message| message.contains("no output directory of librocksdb-sys")));
    }

    #[test]
    fn an_interrupted_build_has_no_archive() -> std::io::Result<()> {
        let builds = tempfile::tempdir()?;
        let out = builds.path().join("librocksdb-sys-1f/out");
        std::fs::create_dir_all(&out)?;
        assert!(!has_rocksdb(builds.path()));
        std::fs::write(out.join(ARCHIVE), "")?;
        assert!(has_rocksdb(builds.path()));
        Ok(())
    }
}
