//! The benchmark, in the release profile, with the RocksDB that the development profile has
//! compiled.
//!
//! The development profile compiles RocksDB optimised. To compile it again for the release profile
//! would give the same archive nine minutes later, so its build script is told to link the one that
//! is there (`ROCKSDB_LIB_DIR`).

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::say;
use crate::workspace::Workspace;

/// Runs the benchmark with the arguments given.
pub(crate) fn run(workspace: &Workspace, args: Vec<String>) -> Result<(), Failure> {
    say::heading("RocksDB");
    let built = workspace.build()?;
    let archive = kept(&built.rocksdb_archive, &workspace.target().join("rocksdb-archive"))?;

    say::heading("benchmark");
    workspace
        .cargo(["run", "--release", "--package", "es-bench", "--"])
        .args(args)
        // NOTE: for release builds alone. In the development profile they would replace RocksDB by
        // a copy of itself, and their going away would have it compiled again.
        .variable("ROCKSDB_LIB_DIR", archive.to_string_lossy())
        .variable("ROCKSDB_STATIC", "1")
        .hand_over()
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
