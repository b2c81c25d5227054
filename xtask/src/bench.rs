//! The benchmark, in the release profile, linked with the RocksDB that the dev profile has compiled.
//!
//! The dev profile optimises RocksDB. A build for the release profile would take nine minutes and produce the same
//! archive, so `ROCKSDB_LIB_DIR` tells its build script to link the existing one.
//!
//! The peers are a workspace of their own (`es-bench/peers`) with their own lock file: neither their features nor the
//! libraries that they link can affect the other crates. Their first build takes about ten minutes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command_line::CommandLine;
use crate::console;
use crate::failure::Failure;
use crate::workspace::Workspace;

/// The manifest of the peers.
pub(crate) const PEERS: &str = "es-bench/peers/Cargo.toml";
/// An argument for this command, not for the benchmark.
const NO_PEERS: &str = "--no-peers";

/// Builds and runs the benchmark, with the peers unless `--no-peers` is given.
pub(crate) fn run(workspace: &Workspace, args: Vec<String>) -> Result<(), Failure> {
    let (with_peers, args) = split_args(args);
    let archive_directory = prepare_archive(workspace)?;
    let build = if with_peers {
        console::heading("peers");
        build_of_peers(workspace, &archive_directory)?
    } else {
        release_build(workspace.cargo(["build", "--release", "--package", "es-bench"]), workspace, &archive_directory)
    };
    build.run()?;
    console::heading("benchmark");
    let program = workspace.target().join("release").join(if with_peers { "es-bench-peers" } else { "es-bench" });
    workspace.program("es-bench", program).args(args).run_self_reporting()
}

/// Returns a call of cargo in the release profile that links the RocksDB of the dev profile.
pub(crate) fn in_release_profile(workspace: &Workspace, line: CommandLine) -> Result<CommandLine, Failure> {
    let archive_directory = prepare_archive(workspace)?;
    Ok(release_build(line.args(["--release"]), workspace, &archive_directory))
}

/// Compiles RocksDB in the dev profile if that is necessary, and returns the directory of a copy of its archive.
fn prepare_archive(workspace: &Workspace) -> Result<PathBuf, Failure> {
    console::heading("RocksDB");
    let built = workspace.build_programs()?;
    copy_archive(&built.rocksdb_archive, &workspace.target().join("rocksdb-archive"))
}

/// Returns whether the peers take part, and the arguments for the benchmark. `--help` and `--from` measure nothing and
/// need no peers.
fn split_args(args: Vec<String>) -> (bool, Vec<String>) {
    let measures_nothing =
        |arg: &String| ["--help", "-h", "--from"].contains(&arg.as_str()) || arg.starts_with("--from=");
    let with_peers = !args.iter().any(|arg| arg == NO_PEERS || measures_nothing(arg));
    (with_peers, args.into_iter().filter(|arg| arg != NO_PEERS).collect())
}

/// Returns the build of the benchmark with the peers.
///
/// One peer needs protoc, which a crate provides. On a platform without it that peer is left out, and the benchmark
/// reports it as missing.
fn build_of_peers(workspace: &Workspace, archive_directory: &Path) -> Result<CommandLine, Failure> {
    console::note("the first build of the peers takes about ten minutes on two cores");
    let build = |package: &str| {
        // Without --locked: a new dependency of our crates changes the lock file of the peers.
        let line = workspace.cargo(["build", "--release", "--manifest-path", PEERS]);
        release_build(line.args(["--package", package]), workspace, archive_directory)
    };
    build("protoc").run()?;
    let protoc = workspace.program("protoc", workspace.target().join("release/protoc")).capture();
    let build = build("es-bench-peers");
    Ok(match protoc {
        Ok(protoc) => build.args(["--features", "umadb-server"]).variable("PROTOC", protoc.trim()),
        Err(_) => build,
    })
}

/// Adds the variables by which a release build links the archive.
///
/// Only release builds may have them: a dev build would compile RocksDB again whenever they change.
fn release_build(build: CommandLine, workspace: &Workspace, archive_directory: &Path) -> CommandLine {
    build
        .variable("CARGO_TARGET_DIR", workspace.target().to_string_lossy())
        .variable("ROCKSDB_LIB_DIR", archive_directory.to_string_lossy())
        .variable("ROCKSDB_STATIC", "1")
}

/// Copies the archive to a directory named after its build, removes the copies of other builds, and returns the
/// directory.
///
/// A new build of RocksDB changes `ROCKSDB_LIB_DIR`, so that cargo links again.
fn copy_archive(archive: &Path, archives: &Path) -> Result<PathBuf, Failure> {
    let directory = archives.join(build_name(archive)?);
    let copy = directory.join("librocksdb.a");
    if file_size(&copy).is_some() && file_size(&copy) == file_size(archive) {
        return Ok(directory);
    }
    if archives.exists() {
        fs::remove_dir_all(archives).map_err(|error| Failure::io("clear", archives, &error))?;
    }
    fs::create_dir_all(&directory).map_err(|error| Failure::io("create", &directory, &error))?;
    fs::copy(archive, &copy).map_err(|error| Failure::io("copy RocksDB to", &copy, &error))?;
    Ok(directory)
}

/// Returns `librocksdb-sys-1f` for `…/build/librocksdb-sys-1f/out/librocksdb.a`.
fn build_name(archive: &Path) -> Result<&Path, Failure> {
    let name = archive.parent().and_then(Path::parent).and_then(Path::file_name).map(Path::new);
    name.ok_or_else(|| {
        Failure::new(format!("expected <build>/out/librocksdb.a, found {}", archive.display()))
            .next("run `cargo clean --package librocksdb-sys`, then run the command again")
    })
}

fn file_size(file: &Path) -> Option<u64> {
    fs::metadata(file).ok().map(|metadata| metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(target: &Path, build: &str, bytes: &str) -> std::io::Result<PathBuf> {
        let out = target.join("debug/build").join(build).join("out");
        fs::create_dir_all(&out)?;
        fs::write(out.join("librocksdb.a"), bytes)?;
        Ok(out.join("librocksdb.a"))
    }

    #[test]
    fn peers_take_part_in_measurements_without_no_peers() {
        let split = |args: &[&str]| split_args(args.iter().map(|arg| (*arg).to_owned()).collect());
        assert_eq!(split(&["--quick"]), (true, vec!["--quick".to_owned()]));
        assert_eq!(split(&["--no-peers", "--quick"]), (false, vec!["--quick".to_owned()]));
        assert!(!split(&["--help"]).0 && !split(&["--from", "run.json"]).0 && !split(&["--from=run.json"]).0);
    }

    #[test]
    fn only_the_archive_of_the_latest_build_is_kept() -> Result<(), Box<dyn std::error::Error>> {
        let target = tempfile::tempdir()?;
        let archives = target.path().join("rocksdb-archive");
        let old = copy_archive(&archive(target.path(), "librocksdb-sys-01", "old")?, &archives)?;
        let new = copy_archive(&archive(target.path(), "librocksdb-sys-02", "new")?, &archives)?;
        assert!(new.ends_with("rocksdb-archive/librocksdb-sys-02"));
        assert_eq!(fs::read_to_string(new.join("librocksdb.a"))?, "new");
        assert!(!old.exists());
        Ok(())
    }

    #[test]
    fn an_incomplete_copy_is_replaced() -> Result<(), Box<dyn std::error::Error>> {
        let target = tempfile::tempdir()?;
        let archives = target.path().join("rocksdb-archive");
        let archive = archive(target.path(), "librocksdb-sys-01", "complete")?;
        let copy = copy_archive(&archive, &archives)?.join("librocksdb.a");
        fs::write(&copy, "comp")?;
        copy_archive(&archive, &archives)?;
        assert_eq!(fs::read_to_string(&copy)?, "complete");
        Ok(())
    }

    #[test]
    fn a_missing_archive_is_an_error() {
        let result = copy_archive(Path::new("/nowhere/librocksdb-sys-1/out/librocksdb.a"), Path::new("/proc/archives"));
        assert!(result.is_err());
    }
}
