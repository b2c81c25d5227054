//! The benchmark, in the release profile, with the RocksDB that the development profile has
//! compiled.
//!
//! The development profile compiles RocksDB optimised. To compile it again for the release profile
//! would give the same archive nine minutes later, so its build script is told to link the one that
//! is there (`ROCKSDB_LIB_DIR`).
//!
//! The peers stand in a workspace of their own (`es-bench/peers`) with a lock file of their own, so that neither their
//! features nor what they link can reach ours. Building them takes minutes, once.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::run::CommandLine;
use crate::say;
use crate::workspace::Workspace;

/// The manifest of the peers.
pub(crate) const PEERS: &str = "es-bench/peers/Cargo.toml";
/// Understood here and not by the benchmark.
const NO_PEERS: &str = "--no-peers";

/// Runs the benchmark with the arguments given, with the peers unless told otherwise.
pub(crate) fn run(workspace: &Workspace, args: Vec<String>) -> Result<(), Failure> {
    let (with_peers, args) = split(args);
    say::heading("RocksDB");
    let built = workspace.build()?;
    let archive = kept(&built.rocksdb_archive, &workspace.target().join("rocksdb-archive"))?;
    let built = if with_peers {
        say::heading("peers");
        peers(workspace, &archive)?
    } else {
        released(workspace.cargo(["build", "--release", "--package", "es-bench"]), workspace, &archive)
    };
    built.run()?;
    say::heading("benchmark");
    let program = workspace.target().join("release").join(if with_peers { "es-bench-peers" } else { "es-bench" });
    workspace.program("es-bench", program).args(args).hand_over()
}

/// Whether the peers take part, and what is left of the arguments. What only asks needs no peers.
fn split(args: Vec<String>) -> (bool, Vec<String>) {
    let asks = |arg: &String| ["--help", "-h", "--from"].contains(&arg.as_str()) || arg.starts_with("--from=");
    let with_peers = !args.iter().any(|arg| arg == NO_PEERS || asks(arg));
    (with_peers, args.into_iter().filter(|arg| arg != NO_PEERS).collect())
}

/// The build of the benchmark with the peers. One of them needs protoc, which comes from crates.io as well; where there is
/// none for the platform, that one is left out, and the benchmark says so.
fn peers(workspace: &Workspace, archive: &Path) -> Result<CommandLine, Failure> {
    say::note("building the peers takes about ten minutes on two cores, once");
    let build = |package: &str| {
        // NOTE: not --locked: when our own crates take a new dependency, the lock file of the peers follows.
        let line = workspace.cargo(["build", "--release", "--manifest-path", PEERS]);
        released(line.args(["--package", package]), workspace, archive)
    };
    build("protoc").run()?;
    let protoc = workspace.program("protoc", workspace.target().join("release/protoc")).read();
    let build = build("es-bench-peers");
    Ok(match protoc {
        Ok(protoc) => build.args(["--features", "umadb-server"]).variable("PROTOC", protoc.trim()),
        Err(_) => build,
    })
}

/// A build in the release profile that links the archive.
fn released(build: CommandLine, workspace: &Workspace, archive: &Path) -> CommandLine {
    // NOTE: for release builds alone. In the development profile they would replace RocksDB by
    // a copy of itself, and their going away would have it compiled again.
    build
        .variable("CARGO_TARGET_DIR", workspace.target().to_string_lossy())
        .variable("ROCKSDB_LIB_DIR", archive.to_string_lossy())
        .variable("ROCKSDB_STATIC", "1")
}

/// Copies the archive to a folder of its own and gives that folder; what was kept of other builds
/// is removed.
///
/// The folder is named after the build it comes from. A new RocksDB thus has a new
/// `ROCKSDB_LIB_DIR`, by which cargo sees that it has to link again.
fn kept(archive: &Path, archives: &Path) -> Result<PathBuf, Failure> {
    let folder = archives.join(build_name(archive)?);
    let copy = folder.join("librocksdb.a");
    if size(&copy).is_some() && size(&copy) == size(archive) {
        return Ok(folder);
    }
    if archives.exists() {
        fs::remove_dir_all(archives).map_err(|error| Failure::io("clear", archives, &error))?;
    }
    fs::create_dir_all(&folder).map_err(|error| Failure::io("make", &folder, &error))?;
    fs::copy(archive, &copy).map_err(|error| Failure::io("copy RocksDB to", &copy, &error))?;
    Ok(folder)
}

/// `…/build/librocksdb-sys-1f/out/librocksdb.a` is named `librocksdb-sys-1f`.
fn build_name(archive: &Path) -> Result<&Path, Failure> {
    let name = archive.parent().and_then(Path::parent).and_then(Path::file_name).map(Path::new);
    name.ok_or_else(|| {
        Failure::new(format!("expected <build>/out/librocksdb.a, found {}", archive.display()))
            .next("run `cargo clean --package librocksdb-sys` and then this again")
    })
}

fn size(file: &Path) -> Option<u64> {
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
    fn peers_take_part_unless_told_otherwise_or_only_asked() {
        let split = |args: &[&str]| split(args.iter().map(|arg| (*arg).to_owned()).collect());
        assert_eq!(split(&["--quick"]), (true, vec!["--quick".to_owned()]));
        assert_eq!(split(&["--no-peers", "--quick"]), (false, vec!["--quick".to_owned()]));
        assert!(!split(&["--help"]).0 && !split(&["--from", "run.json"]).0 && !split(&["--from=run.json"]).0);
    }

    #[test]
    fn keeps_the_archive_of_one_build_in_a_folder_named_after_it() -> Result<(), Box<dyn std::error::Error>> {
        let target = tempfile::tempdir()?;
        let archives = target.path().join("rocksdb-archive");
        let old = kept(&archive(target.path(), "librocksdb-sys-01", "old")?, &archives)?;
        let new = kept(&archive(target.path(), "librocksdb-sys-02", "new")?, &archives)?;
        assert!(new.ends_with("rocksdb-archive/librocksdb-sys-02"));
        assert_eq!(fs::read_to_string(new.join("librocksdb.a"))?, "new");
        assert!(!old.exists());
        Ok(())
    }

    #[test]
    fn copies_again_what_was_cut_short() -> Result<(), Box<dyn std::error::Error>> {
        let target = tempfile::tempdir()?;
        let archives = target.path().join("rocksdb-archive");
        let archive = archive(target.path(), "librocksdb-sys-01", "complete")?;
        let copy = kept(&archive, &archives)?.join("librocksdb.a");
        fs::write(&copy, "comp")?;
        kept(&archive, &archives)?;
        assert_eq!(fs::read_to_string(&copy)?, "complete");
        Ok(())
    }

    #[test]
    fn an_archive_that_is_not_there_is_an_error() {
        let failure = kept(Path::new("/nowhere/librocksdb-sys-1/out/librocksdb.a"), Path::new("/proc/archives"));
        assert!(failure.is_err());
    }
}
