//! The workspace, and the cargo calls that keep to one profile and one feature set.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::failure::Failure;
use crate::run::CommandLine;
use crate::say;

/// The package whose build script compiles RocksDB.
const ROCKSDB: &str = "librocksdb-sys";
const ARCHIVE: &str = "librocksdb.a";
const ORDER_SERVICE: &str = "order-service";

/// Where the workspace is, where cargo builds, and which variables cargo needs.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    build: PathBuf,
    variables: Vec<(String, String)>,
}

/// What the development build has made.
#[derive(Debug, PartialEq)]
pub(crate) struct Built {
    /// The order service's program.
    pub(crate) order_service: PathBuf,
    /// RocksDB, compiled.
    pub(crate) rocksdb_archive: PathBuf,
}

impl Workspace {
    /// Asks cargo. The variables are those of [`crate::prerequisites::ensure`].
    pub(crate) fn find(variables: Vec<(String, String)>) -> Result<Self, Failure> {
        let metadata = cargo().args(["metadata", "--format-version=1", "--no-deps"]).read()?;
        let metadata: Value = serde_json::from_str(&metadata).map_err(|error| unexpected("metadata", &error))?;
        let path = |name: &str| metadata[name].as_str().map(PathBuf::from);
        let (Some(root), Some(target)) = (path("workspace_root"), path("target_directory")) else {
            return Err(unexpected("metadata", &"no workspace_root or no target_directory"));
        };
        let build = path("build_directory").unwrap_or_else(|| target.clone());
        Ok(Self { root, target, build, variables })
    }

    /// The folder of the workspace.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder that cargo builds into.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// A cargo call in the workspace, with the variables that it needs.
    pub(crate) fn cargo<const N: usize>(&self, args: [&str; N]) -> CommandLine {
        cargo().args(args).variables(&self.variables).dir(&self.root)
    }

    /// A program that was built, run in the workspace.
    pub(crate) fn program(&self, name: &str, path: PathBuf) -> CommandLine {
        CommandLine::at(name, path).dir(&self.root)
    }

    /// Says how long it will take, when RocksDB has yet to be compiled.
    pub(crate) fn announce_rocksdb(&self) {
        if !has_rocksdb(&self.build.join("debug/build")) {
            say::note("building RocksDB (C++) takes about nine minutes on two cores, once");
        }
    }

    /// Builds the order service, and with it RocksDB.
    pub(crate) fn build(&self) -> Result<Built, Failure> {
        self.announce_rocksdb();
        let messages = self
            .cargo(["build", "--workspace", "--bin", ORDER_SERVICE])
            .args(["--message-format=json-render-diagnostics"])
            .run_and_read()?;
        built(&messages)
    }
}

/// The cargo that runs this program, so that it is the same toolchain.
fn cargo() -> CommandLine {
    CommandLine::at("cargo", std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from))
}

/// Reads from cargo's messages what it has built.
fn built(messages: &str) -> Result<Built, Failure> {
    let (mut program, mut out_dir) = (None, None);
    for message in messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let text = |value: &Value| value.as_str().map(PathBuf::from);
        match message["reason"].as_str() {
            Some("compiler-artifact") if message["target"]["name"] == ORDER_SERVICE => {
                program = text(&message["executable"]).or(program);
            }
            Some("build-script-executed") if is_rocksdb(&message["package_id"]) => {
                out_dir = text(&message["out_dir"]);
            }
            _ => {}
        }
    }
    match (program, out_dir) {
        (Some(order_service), Some(out_dir)) => Ok(Built { order_service, rocksdb_archive: out_dir.join(ARCHIVE) }),
        (None, _) => Err(unexpected("build", &format!("no program named {ORDER_SERVICE}"))),
        (_, None) => Err(unexpected("build", &format!("no output folder of {ROCKSDB}"))),
    }
}

fn is_rocksdb(package_id: &Value) -> bool {
    package_id.as_str().is_some_and(|id| id.contains(ROCKSDB))
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

fn unexpected(command: &str, found: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("expected `cargo {command}` to describe what it does, found {found}"))
        .next("see `rustc --version`: the project is written for 1.95 or later")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = r#"{"reason":"build-script-executed","package_id":"registry+https://x#librocksdb-sys@0.19.0","out_dir":"/t/debug/build/librocksdb-sys-1f/out"}"#;
    const LIBRARY: &str =
        r#"{"reason":"compiler-artifact","target":{"name":"order-service"},"executable":"/t/debug/order-service"}"#;

    #[test]
    fn finds_the_program_and_the_archive_among_the_messages() {
        let messages = format!("{SCRIPT}\nnot json\n{LIBRARY}\n{{\"reason\":\"build-finished\",\"success\":true}}\n");
        let expected = Built {
            order_service: PathBuf::from("/t/debug/order-service"),
            rocksdb_archive: PathBuf::from("/t/debug/build/librocksdb-sys-1f/out/librocksdb.a"),
        };
        assert_eq!(built(&messages), Ok(expected));
    }

    #[test]
    fn says_which_of_the_two_it_has_not_found() {
        let message = |messages| built(messages).map_err(|failure| failure.to_string());
        assert!(message(SCRIPT).is_err_and(|message| message.contains("no program named order-service")));
        assert!(message(LIBRARY).is_err_and(|message| message.contains("no output folder of librocksdb-sys")));
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
