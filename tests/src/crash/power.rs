//! What a power failure leaves: the shim is compiled, a child runs under it, and then what was not synced goes.
//!
//! The model, stricter than most file systems: only what was synced is certain. The bytes of a file count up to its
//! length at its last sync; a new name, a new content under a name and a removal count when the directory was synced
//! behind them. All else is lost or not, as the seed will have it; in torn mode, a part of the bytes is there, with
//! holes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Random;

/// What is left of bytes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    Drop,
    /// A part of unknown length, in which some blocks of 64 bytes were never written.
    Tear,
}

/// The shim and its files.
#[derive(Debug)]
pub struct Power {
    library: PathBuf,
    scratch: tempfile::TempDir,
}

/// The one file that is overwritten in place: its last content that is certain is that of the beginning.
const OVERWRITTEN: &str = "ACKNOWLEDGED";

impl Power {
    /// Compiles the shim into the directory for temporary files of the target directory. `None` where this is not
    /// Linux.
    ///
    /// # Panics
    /// When the C compiler, which RocksDB needs as well, refuses.
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

    /// Makes calls of the child fail from now on: `sync`, `write`, `full`; `None` ends it.
    ///
    /// # Panics
    /// When the file for it cannot be written.
    pub fn refuse(&self, what: Option<&str>) {
        // ORDER: written aside and renamed, so that the child never reads a part of it.
        let aside = self.scratch.path().join("control.new");
        fs::write(&aside, what.unwrap_or("none")).expect("written");
        fs::rename(aside, self.control()).expect("renamed");
    }

    /// The variables for a child.
    pub(super) fn environment(&self, dir: &Path) -> [(&'static str, PathBuf); 4] {
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        [
            ("LD_PRELOAD", self.library.clone()),
            ("ES_POWER_DIR", dir),
            ("ES_POWER_JOURNAL", self.journal()),
            ("ES_POWER_CONTROL", self.control()),
        ]
    }

    /// Begins a journal: what is in the directory now is certain.
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

    /// Takes from the directory what a power failure may take, after the child was killed; says how many bytes of
    /// write-ahead logs that were.
    ///
    /// # Errors
    /// Those of the file system.
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

    /// The system writes a page back when it likes: the new content is there, or the old one, or a part of each.
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

/// Drops or tears what a file has behind a length.
fn lose(path: &Path, synced: u64, len: u64, loss: Loss, random: &mut Random) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    if loss == Loss::Drop {
        return file.set_len(synced);
    }
    let left = synced + random.below(len - synced + 1);
    file.set_len(left)?;
    let mut file = file;
    for _ in 0..random.below(4) {
        if left > synced {
            let hole = synced + random.below(left - synced);
            file.seek(SeekFrom::Start(hole))?;
            let zeros = [0; 64];
            let len = usize::try_from(left - hole).map_or(64, |len| len.min(64));
            file.write_all(&zeros[..len])?;
        }
    }
    Ok(())
}

/// What the shim has noted.
#[derive(Debug, Default)]
struct Journal {
    synced: BTreeMap<PathBuf, u64>,
    /// New names behind which the directory was not synced.
    new: BTreeSet<PathBuf>,
    /// Renames and removals behind which the directory was not synced: new name, what stood there before, old name.
    names: Vec<(PathBuf, PathBuf, Option<PathBuf>)>,
}

impl Journal {
    fn read(text: &str) -> Self {
        let mut journal = Self::default();
        // NOTE: the kill may have cut the last line.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            journal.note(&fields);
        }
        journal
    }

    fn note(&mut self, fields: &[&str]) {
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
                self.names.push((path(to), path(kept), Some(path(from))));
            }
            // NOTE: a file whose name was never certain is simply gone.
            ["U", file, kept] if !self.new.remove(&path(file)) => {
                self.names.push((path(file), path(kept), None));
            }
            ["D", dir] => {
                self.new.retain(|name| name.parent() != Some(Path::new(dir)));
                self.names.retain(|(name, ..)| name.parent() != Some(Path::new(dir)));
            }
            _ => {}
        }
    }

    fn is_new(&self, path: &Path) -> bool {
        self.new.contains(path)
    }

    /// Takes back some renames and removals that are not certain: from a moment on, all of them.
    fn undo_names(&self, random: &mut Random) -> io::Result<()> {
        let certain = usize::try_from(random.below(self.names.len() as u64 + 1)).unwrap_or_default();
        for (name, kept, from) in self.names[certain..].iter().rev() {
            let is_log = name.file_name().is_some_and(|name| name.to_string_lossy().starts_with("LOG"));
            if is_log {
                continue;
            }
            if let Some(from) = from
                && name.exists()
            {
                fs::rename(name, from)?;
            }
            if kept.exists() {
                fs::rename(kept, name)?;
            }
        }
        Ok(())
    }
}
