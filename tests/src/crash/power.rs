//! [`Power`]: simulates a power failure. A child runs under a shim that records changes and syncs; after the child was
//! killed, changes that were not synced are taken back.
//!
//! The model is stricter than most file systems: only synced changes are certain.
//!
//! - A file has its content as of its last sync. Later writes are kept or lost, also in the middle of the file, as
//!   [`Loss`] has it.
//! - A new name, a rename and a removal are certain after the directory was synced, and only if the directory itself
//!   has a certain name. New names that are not certain are kept or lost independently; renames and removals are kept
//!   up to a random one of them.
//!
//! A kill without a power failure takes nothing back. The journal continues with the next child then.

mod content;
mod journal;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Random;
use journal::{Entry, Journal, Names};

/// The loss of content that was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of it is lost.
    Drop,
    /// Each file keeps all of it or none, because the system has written back some files.
    WriteBack,
    /// Each file keeps a part: any of its blocks can have its content after any of the writes. The file can end between
    /// its old and its new end.
    Tear,
}

/// The shim and its files.
#[derive(Debug)]
pub struct Power {
    library: PathBuf,
    scratch: tempfile::TempDir,
}

impl Power {
    /// Compiles the shim into the temporary directory of the target directory. Returns `None` on systems other than
    /// Linux.
    ///
    /// # Panics
    /// If the C compiler fails. (RocksDB needs a C compiler, too.)
    #[must_use]
    pub fn new() -> Option<Self> {
        if !cfg!(target_os = "linux") {
            return None;
        }
        let scratch =
            tempfile::tempdir_in(option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, Into::into))
                .expect("a directory");
        let library = scratch.path().join("libpower.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("shim/power.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-Wall", "-shared", "-fPIC", "-pthread", "-o"]).arg(&library).arg(source).arg("-ldl");
        let output = compiler.output().expect("cc runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(Self { library, scratch })
    }

    fn control(&self) -> PathBuf {
        self.scratch.path().join("control")
    }

    /// Makes calls of the child fail from now on: `sync`, `write` or `full` (no space left); `None` stops this.
    ///
    /// # Panics
    /// If the control file cannot be written.
    pub fn refuse(&self, calls: Option<&str>) {
        // ORDER: write a new file, then rename it, so that the child never reads a partial file.
        let new = self.scratch.path().join("control.new");
        fs::write(&new, calls.unwrap_or("none")).expect("write the control file");
        fs::rename(new, self.control()).expect("rename the control file");
    }

    /// Prepares for a child that changes this directory, and returns its environment variables. The current content of
    /// the directory is certain, unless a child ran before and no power failure followed.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn begin(&self, dir: &Path) -> io::Result<[(&'static str, PathBuf); 5]> {
        let dir = dir.canonicalize()?;
        let (kept, journal) = (kept(&dir), journal(&dir));
        self.refuse(None);
        if kept.is_dir() {
            // The kill may have cut off the last record.
            let complete = Journal::read(&fs::read(&journal)?).complete;
            OpenOptions::new().write(true).open(&journal)?.set_len(complete)?;
        } else {
            fs::create_dir(&kept)?;
            let mut file = File::create(&journal)?;
            for (path, entry) in entries(&dir)? {
                writeln!(file, "{}", journal::certain(&path, entry))?;
            }
        }
        Ok([
            ("LD_PRELOAD", self.library.clone()),
            ("ES_POWER_DIR", dir),
            ("ES_POWER_KEPT", kept),
            ("ES_POWER_JOURNAL", journal),
            ("ES_POWER_CONTROL", self.control()),
        ])
    }

    /// Takes back changes in the directory that a power failure may lose. Call it after the child was killed. Returns
    /// the number of lost bytes of logs.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn fail(&self, dir: &Path, loss: Loss, random: &mut Random) -> io::Result<u64> {
        let dir = dir.canonicalize()?;
        let kept = kept(&dir);
        let journal = Journal::read(&fs::read(self::journal(&dir))?);
        let mut names = journal.names_after_failure(random);
        let mut logs = BTreeSet::new();
        for (path, entry) in entries(&dir)? {
            let file = content_of(&kept, entry);
            if !entry.is_directory && !file.exists() {
                fs::hard_link(&path, &file)?;
            }
            if path.extension().is_some_and(|extension| extension == "log" || extension == "seg") {
                logs.insert(entry.inode);
            }
            if !journal.knows(entry) {
                // The C library has created it, such as the information log of RocksDB.
                names.insert(path, entry);
            }
        }
        let mut lost = 0;
        for (inode, writes) in journal.unsynced() {
            let bytes = content::lose(&kept.join(inode.to_string()), writes, loss, random)?;
            lost += if logs.contains(&inode) { bytes } else { 0 };
        }
        replace(&dir, &names, &kept)?;
        fs::remove_dir_all(&kept)?;
        Ok(lost)
    }
}

/// Returns the directory beside the store that has the journal, and a name for each file that has lost one.
fn kept(dir: &Path) -> PathBuf {
    dir.with_extension("power")
}

fn journal(dir: &Path) -> PathBuf {
    kept(dir).join("journal")
}

/// Returns the kept name of a file.
fn content_of(kept: &Path, entry: Entry) -> PathBuf {
    kept.join(entry.inode.to_string())
}

/// Returns all files and directories below a directory.
fn entries(dir: &Path) -> io::Result<Names> {
    let mut found = Names::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let (path, metadata) = (entry.path(), entry.metadata()?);
            if metadata.is_dir() {
                pending.push(path.clone());
            }
            found.insert(path, Entry { inode: inode(&metadata), is_directory: metadata.is_dir() });
        }
    }
    Ok(found)
}

#[cfg(unix)]
fn inode(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    unreachable!("the shim needs Linux")
}

/// Replaces the content of a directory. Names in a directory that does not exist are left out.
fn replace(dir: &Path, names: &Names, kept: &Path) -> io::Result<()> {
    fs::remove_dir_all(dir)?;
    fs::create_dir(dir)?;
    // A directory comes before the names in it.
    for (path, entry) in names {
        if !path.parent().is_some_and(Path::is_dir) {
            continue;
        }
        if entry.is_directory {
            fs::create_dir(path)?;
        } else {
            fs::hard_link(content_of(kept, *entry), path)?;
        }
    }
    Ok(())
}
