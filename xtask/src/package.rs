//! Packages the crates as for crates.io, and builds a user's crate against the packages.
//!
//! The user's crate is compiled outside the workspace: with its own manifest, the default profiles, and without the
//! `.cargo/config.toml` of this repository. It shares the versions of `Cargo.lock`, so that a release of a dependency
//! cannot fail the check. It finds what the workspace hides: a file missing from a package, a feature of a dependency
//! that only another crate of the workspace enables, a path that only exists in the repository.

use std::fs;
use std::path::Path;

use crate::command_line::CommandLine;
use crate::console;
use crate::failure::Failure;
use crate::workspace::Workspace;

/// The crates that can be published, dependencies first.
const CRATES: [&str; 13] = [
    "es-macros",
    "es-core",
    "es-log",
    "es-personal",
    "es-crdt",
    "es-saga",
    "es-transaction",
    "es-rocksdb",
    "es-replication",
    "es-node",
    "es-tool",
    "es-http",
    "es-cli",
];

/// The version of all crates of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The domain of the user's crate.
const ACCOUNT: &str = include_str!("package/user/account.rs");

/// The store of the user's crate.
#[derive(Debug, Clone, Copy, PartialEq, clap::ValueEnum)]
pub(crate) enum Store {
    /// The memory store of es-core.
    Memory,
    /// es-rocksdb. Its user compiles RocksDB in a target directory of its own.
    #[value(name = "rocksdb")]
    RocksDb,
}

impl Store {
    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::RocksDb => "rocksdb",
        }
    }

    /// The packages that the crate is built against.
    const fn crates(self) -> &'static [&'static str] {
        match self {
            Self::Memory => &["es-macros", "es-core"],
            Self::RocksDb => &["es-macros", "es-core", "es-rocksdb"],
        }
    }

    const fn main(self) -> &'static str {
        match self {
            Self::Memory => include_str!("package/user/memory.rs"),
            Self::RocksDb => include_str!("package/user/rocksdb.rs"),
        }
    }
}

/// Packages all publishable crates, then builds and runs the user's crate.
pub(crate) fn run(workspace: &Workspace, store: Store) -> Result<(), Failure> {
    console::heading("packages");
    let package = workspace.cargo(["package", "--quiet", "--no-verify", "--allow-dirty", "--locked"]);
    package.args(CRATES.iter().flat_map(|name| ["--package", name])).run()?;

    console::heading(&format!("a user's crate with the {} store", store.name()));
    let directory = workspace.target().join("package-user").join(store.name());
    let crates = directory.join("crates");
    recreate(&crates)?;
    for name in store.crates() {
        unpack(&workspace.target().join("package").join(format!("{name}-{VERSION}.crate")), &crates)?;
    }
    write_user(workspace, &directory, store)?;
    run_user(workspace, &directory)
}

/// Unpacks a package. `-m` gives each file the current time: a package stores one constant time for all files, by which
/// cargo would not notice a change.
fn unpack(package: &Path, crates: &Path) -> Result<(), Failure> {
    let archive = ["-xmzf".into(), package.to_string_lossy(), "-C".into(), crates.to_string_lossy()];
    CommandLine::new("tar").args(archive).run()
}

/// Writes the user's crate, with the lock file of the workspace.
fn write_user(workspace: &Workspace, directory: &Path, store: Store) -> Result<(), Failure> {
    let user = directory.join("user");
    let sources = user.join("src");
    fs::create_dir_all(&sources).map_err(|error| Failure::io("create", &sources, &error))?;
    for (file, text) in [
        (user.join("Cargo.toml"), manifest(store)),
        (sources.join("account.rs"), ACCOUNT.to_owned()),
        (sources.join("main.rs"), store.main().to_owned()),
    ] {
        fs::write(&file, text).map_err(|error| Failure::io("write", &file, &error))?;
    }
    let lock = user.join("Cargo.lock");
    fs::copy(workspace.root().join("Cargo.lock"), &lock).map_err(|error| Failure::io("write", &lock, &error))?;
    Ok(())
}

/// Builds and runs the user's crate, on a new store.
///
/// cargo searches for `.cargo/config.toml` from the current directory upwards; the temporary directory has none.
fn run_user(workspace: &Workspace, directory: &Path) -> Result<(), Failure> {
    let store = directory.join("store");
    recreate(&store)?;
    let manifest = directory.join("user/Cargo.toml");
    workspace
        .cargo(["run", "--offline", "--manifest-path"])
        .args([manifest.to_string_lossy(), "--".into(), store.to_string_lossy()])
        .variable("CARGO_TARGET_DIR", directory.join("target").to_string_lossy())
        .directory(&std::env::temp_dir())
        .run()
        .map_err(|failure| failure.next("if a dependency is not downloaded yet, run `cargo fetch --locked`"))
}

/// Creates an empty directory, without the files of an earlier run.
fn recreate(directory: &Path) -> Result<(), Failure> {
    if directory.exists() {
        fs::remove_dir_all(directory).map_err(|error| Failure::io("remove", directory, &error))?;
    }
    fs::create_dir_all(directory).map_err(|error| Failure::io("create", directory, &error))
}

/// The manifest that a user writes, and a patch that takes the packages in place of those on crates.io.
fn manifest(store: Store) -> String {
    let dependencies = store.crates().iter().filter(|name| **name != "es-macros");
    let dependencies: String = dependencies.map(|name| format!("{name} = \"{VERSION}\"\n")).collect();
    let patches = store.crates().iter();
    let patches: String =
        patches.map(|name| format!("{name} = {{ path = \"../crates/{name}-{VERSION}\" }}\n")).collect();
    format!(
        r#"[package]
name = "user"
version = "0.1.0"
edition = "2024"

[dependencies]
{dependencies}serde = {{ version = "1", features = ["derive"] }}
tokio = {{ version = "1", features = ["macros", "rt-multi-thread"] }}

[patch.crates-io]
{patches}
[workspace]
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_names_es_core_and_a_store_but_not_the_macros() {
        let manifest = manifest(Store::RocksDb);
        let (dependencies, patches) = manifest.split_once("[patch.crates-io]").expect("a patch");
        assert!(dependencies.contains("es-core = ") && dependencies.contains("es-rocksdb = "), "{dependencies}");
        assert!(!dependencies.contains("es-macros"), "{dependencies}");
        assert_eq!(patches.matches("path = ").count(), 3, "{patches}");
    }
}
