//! [`Power`]: simulates a power failure. A child runs under a shim that records syncs; after the child was killed, data
//! that was not synced is removed.
//!
//! The model is stricter than most file systems: only synced data is certain. The bytes of a file are certain up to its
//! length at its last sync. A new name, a rename and a removal are certain after the directory was synced. All other
//! changes are kept or lost at random, by the seed. In torn mode, a part of the bytes is kept, with holes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Random;

/// The loss of bytes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All bytes are lost.
    Drop,
    /// A prefix of random length is kept, in which some blocks of 64 bytes are zero.
    Tear,
}

/// The shim and its files.
#[derive(Debug)]
pub struct Power {
    library: PathBuf,
    scratch: tempfile::TempDir,
}

/// The file that is overwritten in place. Its certain content is that at the start of the journal.
const OVERWRITTEN: &str = "ACKNOWLEDGED";

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

    fn journal(&self) -> PathBuf {
        self.scratch.path().join("journal")
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

    /// Returns the environment variables for a child.
    pub(super) fn environment(&self, dir: &Path) -> [(&'static str, PathBuf); 4] {
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        [
            ("LD_PRELOAD", self.library.clone()),
            ("ES_POWER_DIR", dir),
            ("ES_POWER_JOURNAL", self.journal()),
            ("ES_POWER_CONTROL", self.control()),
        ]
    }

    /// Starts a journal. The current content of the directory is certain.
    pub(super) fn begin(&self, dir: &Path) -> io::Result<()> {
        for entry in fs::read_dir(self.scratch.path())? {
            let path = entry?.path();
            if path != self.library {
                fs::remove_file(path)?;
            }
        }
        self.refuse(None);
        let mut journal = File::create(self.journal())?;
        let Ok(entries) = dir.canonicalize().and_then(fs::read_dir) else { return Ok(()) };
        for entry in entries {
            let entry = entry?;
            writeln!(journal, "S {} {}", entry.path().display(), entry.metadata()?.len())?;
            if entry.file_name() == OVERWRITTEN {
                fs::copy(entry.path(), self.scratch.path().join(OVERWRITTEN))?;
            }
        }
        Ok(())
    }

    /// Removes from the directory the changes that a power failure may lose. Call it after the child was killed.
    /// Returns the number of lost bytes of write-ahead logs.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn fail(&self, dir: &Path, loss: Loss, random: &mut Random) -> io::Result<u64> {
        let journal = Journal::read(&fs::read_to_string(self.journal())?);
        journal.undo_names(random)?;
        let mut lost = 0;
        let Ok(entries) = dir.canonicalize().and_then(fs::read_dir) else { return Ok(lost) };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("LOG") || name == "LOCK" {
                continue;
            }
            let synced = journal.synced.get(&path).copied().unwrap_or_default();
            let len = path.metadata()?.len();
            if name == OVERWRITTEN {
                self.forget_overwritten(&path, synced, loss, random)?;
            } else if journal.is_new(&path) && random.once_in(2) {
                fs::remove_file(&path)?;
            } else if len > synced {
                lost += if name.ends_with(".log") { len - synced } else { 0 };
                lose(&path, synced, len, loss, random)?;
            }
        }
        Ok(lost)
    }

    /// Restores the overwritten file to its new content, its old content, or a mix of both, because the system may
    /// write a page back at any time.
    fn forget_overwritten(&self, path: &Path, synced: u64, loss: Loss, random: &mut Random) -> io::Result<()> {
        let before = self.scratch.path().join(OVERWRITTEN);
        match random.below(3) {
            0 => Ok(()),
            1 if before.exists() => fs::copy(before, path).map(drop),
            _ if loss == Loss::Tear => {
                let len = path.metadata()?.len();
                let mut file = OpenOptions::new().write(true).open(path)?;
                file.seek(SeekFrom::Start(random.below(len.max(1))))?;
                file.write_all(&[0; 9])
            }
            _ => OpenOptions::new().write(true).open(path)?.set_len(synced),
        }
    }
}

/// Drops or tears the bytes of a file after its synced length.
fn lose(path: &Path, synced: u64, len: u64, loss: Loss, random: &mut Random) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    if loss == Loss::Drop {
        return file.set_len(synced);
    }
    let kept = synced + random.below(len - synced + 1);
    file.set_len(kept)?;
    let mut file = file;
    for _ in 0..random.below(4) {
        if kept > synced {
            let hole = synced + random.below(kept - synced);
            file.seek(SeekFrom::Start(hole))?;
            let zeros = [0; 64];
            let len = usize::try_from(kept - hole).map_or(64, |len| len.min(64));
            file.write_all(&zeros[..len])?;
        }
    }
    Ok(())
}

/// The journal of the shim.
#[derive(Debug, Default)]
struct Journal {
    /// The synced length of each file.
    synced: BTreeMap<PathBuf, u64>,
    /// New files since the last sync of their directory.
    new: BTreeSet<PathBuf>,
    /// Renames and removals since the last sync of their directory.
    names: Vec<NameChange>,
}

/// A rename or a removal.
#[derive(Debug)]
struct NameChange {
    /// The new name, or the name of the removed file.
    name: PathBuf,
    /// A copy of the previous file of this name, if there was one.
    previous: PathBuf,
    /// The old name of a renamed file.
    from: Option<PathBuf>,
}

impl Journal {
    fn read(text: &str) -> Self {
        let mut journal = Self::default();
        // The last line may be cut off by the kill.
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in complete.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            journal.add(&fields);
        }
        journal
    }

    fn add(&mut self, fields: &[&str]) {
        let path = |text: &str| PathBuf::from(text);
        match *fields {
            ["C", created] => {
                self.new.insert(path(created));
                self.synced.insert(path(created), 0);
            }
            ["S", file, len] => {
                self.synced.insert(path(file), len.parse().unwrap_or_default());
            }
            ["T", file, len] => {
                let synced = self.synced.entry(path(file)).or_default();
                *synced = (*synced).min(len.parse().unwrap_or_default());
            }
            ["R", from, to, kept] => {
                let synced = self.synced.remove(&path(from)).unwrap_or_default();
                self.synced.insert(path(to), synced);
                self.new.remove(&path(from));
                self.names.push(NameChange { name: path(to), previous: path(kept), from: Some(path(from)) });
            }
            // The removal of a file whose name was never certain needs no undo.
            ["U", file, kept] if !self.new.remove(&path(file)) => {
                self.names.push(NameChange { name: path(file), previous: path(kept), from: None });
            }
            ["D", dir] => {
                self.new.retain(|name| name.parent() != Some(Path::new(dir)));
                self.names.retain(|change| change.name.parent() != Some(Path::new(dir)));
            }
            _ => {}
        }
    }

    fn is_new(&self, path: &Path) -> bool {
        self.new.contains(path)
    }

    /// Undoes the renames and removals after a random point, of those that are not certain.
    fn undo_names(&self, random: &mut Random) -> io::Result<()> {
        let certain = usize::try_from(random.below(self.names.len() as u64 + 1)).unwrap_or_default();
        for NameChange { name, previous, from } in self.names[certain..].iter().rev() {
            let is_log = name.file_name().is_some_and(|name| name.to_string_lossy().starts_with("LOG"));
            if is_log {
                continue;
            }
            if let Some(from) = from
                && name.exists()
            {
                fs::rename(name, from)?;
            }
            if previous.exists() {
                fs::rename(previous, name)?;
            }
        }
        Ok(())
    }
}
