//! [`Tree`]: a copy of the workspace in which mutants are compiled, with a target directory of its own.
//!
//! The target directory must be another one: cargo identifies a crate of a workspace by its path in the workspace, so
//! the working tree would take the mutated crates for its own. Builds of registry crates are linked into it, because
//! RocksDB takes nine minutes to compile.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::command_line::CommandLine;
use crate::failure::Failure;
use crate::mutants::list::Mutant;
use crate::workspace::Workspace;

/// Directories that are not copied.
const SKIPPED: [&str; 2] = ["target", ".git"];

/// Files from this size on are linked; cargo may write to smaller ones.
const LINKED_BYTES: u64 = 1024 * 1024;

/// A copy of the workspace.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    target: PathBuf,
}

impl Tree {
    /// Creates the copy, or updates the one of an earlier run. Unchanged files keep their times, so that cargo does not
    /// compile them again.
    pub(crate) fn prepare(workspace: &Workspace) -> Result<Self, Failure> {
        let directory = workspace.target().join("mutants");
        let tree = Self { root: directory.join("tree"), target: directory.join("target") };
        synchronize(workspace.root(), &tree.root).map_err(|error| Failure::io("update", &tree.root, &error))?;
        if !tree.target.exists() {
            let seeded = link_registry_builds(workspace.build_directory(), &tree.target, workspace.members());
            seeded.map_err(|error| Failure::io("fill", &tree.target, &error))?;
        }
        Ok(tree)
    }

    /// Creates a cargo call in the copy.
    pub(crate) fn cargo(&self, workspace: &Workspace, command: &str) -> CommandLine {
        let target = self.target.to_string_lossy();
        // A mutant changes one function, so an incremental build saves most of the time.
        workspace
            .cargo([command])
            .directory(&self.root)
            .variable("CARGO_TARGET_DIR", target)
            .variable("CARGO_INCREMENTAL", "1")
    }

    /// Puts a mutant into the copy while `work` runs.
    pub(crate) fn with<T>(&self, mutant: &Mutant, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        let path = self.root.join(&mutant.file);
        let source = fs::read_to_string(&path).map_err(|error| Failure::io("read", &path, &error))?;
        let mutated = mutant.apply(&source).map_err(Failure::new)?;
        fs::write(&path, mutated).map_err(|error| Failure::io("write", &path, &error))?;
        let result = work();
        fs::write(&path, source).map_err(|error| Failure::io("restore", &path, &error))?;
        result
    }
}

/// Makes `to` a copy of `from`. Writes only files that differ, and removes files that `from` does not have.
fn synchronize(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        if SKIPPED.iter().any(|skipped| name == OsStr::new(skipped)) {
            continue;
        }
        let copy = to.join(&name);
        if kind.is_dir() {
            synchronize(&entry.path(), &copy)?;
        } else if kind.is_file() {
            let content = fs::read(entry.path())?;
            if fs::read(&copy).ok().as_ref() != Some(&content) {
                fs::write(&copy, content)?;
            }
        }
        names.insert(name);
    }
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            _ if names.contains(&entry.file_name()) => {}
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// Links the builds of all packages that are not members of the workspace into another target directory. cargo names
/// their files `NAME-HASH`, with one hash for each build of a package.
fn link_registry_builds(build: &Path, target: &Path, members: &BTreeSet<String>) -> io::Result<()> {
    let (from, to) = (build.join("debug"), target.join("debug"));
    let mut hashes = BTreeSet::new();
    for directory in [".fingerprint", "build"] {
        for (name, path) in entries(&from.join(directory))? {
            match name.rsplit_once('-') {
                Some((package, hash)) if !members.contains(package) => {
                    link(&path, &to.join(directory).join(&name))?;
                    hashes.insert(hash.to_owned());
                }
                _ => {}
            }
        }
    }
    for (name, path) in entries(&from.join("deps"))? {
        let stem = name.split_once('.').map_or(&*name, |(stem, _)| stem);
        if stem.rsplit_once('-').is_some_and(|(_, hash)| hashes.contains(hash)) {
            link(&path, &to.join("deps").join(&name))?;
        }
    }
    Ok(())
}

/// Returns the entries of a directory by name; none if there is no such directory.
fn entries(directory: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries.map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))).collect()
}

/// Links a file, or copies it with its time if it is small. Links the files of a directory.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = fs::metadata(from)?;
    if metadata.is_dir() {
        fs::create_dir_all(to)?;
        return entries(from)?.into_iter().try_for_each(|(name, path)| link(&path, &to.join(name)));
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    if metadata.len() >= LINKED_BYTES && fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to)?;
    fs::File::options().write(true).open(to)?.set_modified(metadata.modified()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, content: &str) -> io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        fs::write(path, content)
    }

    #[test]
    fn a_copy_has_the_files_of_the_workspace_and_keeps_the_times_of_unchanged_ones() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        for (path, content) in [("a/b.rs", "1"), ("a/c.rs", "2"), ("target/d", "3")] {
            write(&from.join(path), content)?;
        }
        synchronize(&from, &to)?;
        let before = fs::metadata(to.join("a/b.rs"))?.modified()?;
        write(&from.join("a/b.rs"), "1")?;
        fs::remove_file(from.join("a/c.rs"))?;
        write(&from.join("e.rs"), "4")?;
        write(&to.join("left/over.rs"), "5")?;
        synchronize(&from, &to)?;
        assert_eq!(fs::metadata(to.join("a/b.rs"))?.modified()?, before);
        assert_eq!(fs::read_to_string(to.join("e.rs"))?, "4");
        for absent in ["a/c.rs", "target", "left"] {
            assert!(!to.join(absent).exists(), "{absent}");
        }
        Ok(())
    }

    /// A member of the workspace has the same hash in the copy, so a link would give the copy the code of the working
    /// tree.
    #[test]
    fn builds_of_registry_crates_are_linked_and_builds_of_members_are_not() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let (build, target) = (directory.path().join("build"), directory.path().join("target"));
        let names = ["serde-1f", "es-core-2e"];
        for name in names {
            let of_crate = name.replace("es-core", "es_core");
            for path in
                [format!(".fingerprint/{name}/lib"), format!("build/{name}/out/x"), format!("deps/lib{of_crate}.rlib")]
            {
                write(&build.join("debug").join(path), name)?;
            }
        }
        link_registry_builds(&build, &target, &BTreeSet::from(["es-core".to_owned()]))?;
        let paths = |root: &str, name: &str| [format!("{root}/{name}"), format!("deps/lib{name}.rlib")];
        for path in paths(".fingerprint", "serde-1f").into_iter().chain(paths("build", "serde-1f")) {
            let (old, new) = (build.join("debug").join(&path), target.join("debug").join(&path));
            assert!(new.exists(), "{path}");
            if old.is_file() {
                assert_eq!(fs::metadata(old)?.modified()?, fs::metadata(new)?.modified()?, "{path}");
            }
        }
        for path in [".fingerprint/es-core-2e", "build/es-core-2e", "deps/libes_core-2e.rlib"] {
            assert!(!target.join("debug").join(path).exists(), "{path}");
        }
        Ok(())
    }
}
