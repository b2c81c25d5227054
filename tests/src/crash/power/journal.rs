//! [`Journal`]: the records of the shim. `shim/power.c` has their format.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::crash::Random;

/// Files and directories by path.
pub(super) type Names = BTreeMap<PathBuf, Entry>;

/// The file or the directory that a name has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) inode: u64,
    pub(super) is_directory: bool,
}

/// Returns the record of a name that is certain.
pub(super) fn certain(path: &Path, entry: Entry) -> String {
    format!("=\t{}\t{}\t{}", path.display(), entry.inode, if entry.is_directory { 'd' } else { 'f' })
}

/// A write, with what it has replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    number: u64,
    /// The size of the file before the write.
    pub(super) size: u64,
    pub(super) offset: u64,
    /// The old bytes; fewer than were written at the end of the file.
    pub(super) old: Vec<u8>,
}

/// A change of the names in a directory.
#[derive(Debug)]
struct NameChange {
    number: u64,
    directory: PathBuf,
    added: Option<(PathBuf, Entry)>,
    removed: Option<PathBuf>,
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        if let Some(path) = &self.removed {
            names.remove(path);
        }
        if let Some((path, entry)) = &self.added {
            names.insert(path.clone(), *entry);
        }
    }
}

/// The changes that were not synced.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// The number of bytes of whole records.
    pub(super) complete: u64,
    /// The number of changes, and of those before the last process.
    changes: u64,
    before_process: u64,
    writes: BTreeMap<u64, Vec<Write>>,
    certain: Names,
    /// The names as the program sees them.
    current: Names,
    name_changes: Vec<NameChange>,
    /// All files and directories that the journal names.
    known: BTreeSet<u64>,
}

impl Journal {
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut journal = Self::default();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, content) = (String::from_utf8_lossy(&rest[..end]), &rest[end + 1..]);
            let fields: Vec<&str> = line.split('\t').collect();
            let Some(content) = journal.add(&fields, content) else { break };
            rest = content;
            journal.complete = (bytes.len() - rest.len()) as u64;
        }
        journal
    }

    /// Adds a record. Returns the bytes after its content; `None` if that was cut off.
    fn add<'a>(&mut self, fields: &[&str], content: &'a [u8]) -> Option<&'a [u8]> {
        let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("expected a number in {fields:?}"));
        let entry = |inode, kind| Entry { inode: number(inode), is_directory: kind == "d" };
        match *fields {
            ["P"] => self.before_process = self.changes,
            ["=", path, inode, kind] => {
                self.known.insert(number(inode));
                self.certain.insert(path.into(), entry(inode, kind));
                self.current.insert(path.into(), entry(inode, kind));
            }
            ["W", inode, size, offset, _, length] => {
                let (old, rest) = content.split_at_checked(usize::try_from(number(length)).expect("small"))?;
                let (size, offset) = (number(size), number(offset));
                let write = Write { number: self.changes, size, offset, old: old.to_vec() };
                self.writes.entry(number(inode)).or_default().push(write);
                self.changes += 1;
                return Some(rest);
            }
            ["+", path, inode, kind] => {
                self.known.insert(number(inode));
                self.change(Some((path.into(), entry(inode, kind))), None);
            }
            ["-", path] => self.change(None, Some(path.into())),
            ["R", from, to] => {
                // Files that the C library has created are not in the journal.
                if let Some(renamed) = self.current.get(Path::new(from)).copied() {
                    self.change(Some((to.into(), renamed)), Some(from.into()));
                }
            }
            ["S", inode, before] => {
                let before = self.before_process + number(before);
                if let Some(writes) = self.writes.get_mut(&number(inode)) {
                    writes.retain(|write| write.number >= before);
                }
            }
            ["D", path, before] => self.sync_names(Path::new(path), self.before_process + number(before)),
            _ => panic!("expected a record, found {fields:?}"),
        }
        Some(content)
    }

    fn change(&mut self, added: Option<(PathBuf, Entry)>, removed: Option<PathBuf>) {
        let path = added.as_ref().map(|(path, _)| path).or(removed.as_ref());
        let directory = path.and_then(|path| path.parent()).map(Path::to_owned).unwrap_or_default();
        let change = NameChange { number: self.changes, directory, added, removed };
        change.apply(&mut self.current);
        self.name_changes.push(change);
        self.changes += 1;
    }

    fn sync_names(&mut self, directory: &Path, before: u64) {
        let is_synced = |change: &mut NameChange| change.directory == directory && change.number < before;
        for change in self.name_changes.extract_if(.., is_synced) {
            change.apply(&mut self.certain);
        }
    }

    /// Returns whether the journal has a record of this file or directory.
    pub(super) fn knows(&self, entry: Entry) -> bool {
        self.known.contains(&entry.inode)
    }

    /// Returns the files with writes that were not synced, and these writes in order.
    pub(super) fn unsynced(&self) -> impl Iterator<Item = (u64, &[Write])> {
        self.writes.iter().map(|(inode, writes)| (*inode, &writes[..])).filter(|(_, writes)| !writes.is_empty())
    }

    /// Returns the certain names with a random part of the other changes.
    pub(super) fn names_after_failure(&self, random: &mut Random) -> Names {
        let mut names = self.certain.clone();
        let kept = random.below(self.name_changes.len() as u64 + 1);
        for (index, change) in (0..).zip(&self.name_changes) {
            let is_kept = if change.removed.is_none() { random.once_in(2) } else { index < kept };
            if is_kept {
                change.apply(&mut names);
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Journal {
        Journal::read(text.as_bytes())
    }

    /// Returns the names after many failures.
    fn possible(journal: &Journal) -> BTreeSet<Vec<String>> {
        let mut random = Random::new(1);
        let names = (0..100).map(|_| journal.names_after_failure(&mut random));
        names.map(|names| names.keys().map(|path| path.display().to_string()).collect()).collect()
    }

    #[test]
    fn a_sync_makes_the_writes_before_it_certain() {
        let journal = read("P\nW\t7\t0\t0\t4\t0\nW\t7\t4\t1\t2\t2\nabW\t8\t0\t0\t1\t0\nS\t7\t1\n");
        let unsynced: Vec<_> = journal.unsynced().collect();
        let [(7, [write]), (8, [_])] = unsynced[..] else { panic!("{unsynced:?}") };
        assert_eq!(write, &Write { number: 1, size: 4, offset: 1, old: b"ab".to_vec() });
    }

    #[test]
    fn a_record_that_was_cut_off_is_ignored_and_the_next_process_continues() {
        let text = "P\nW\t7\t0\t0\t4\t0\nW\t7\t4\t1\t2\t2\na";
        let journal = read(text);
        assert_eq!(journal.unsynced().map(|(_, writes)| writes.len()).sum::<usize>(), 1);
        let complete = &text[..usize::try_from(journal.complete).expect("small")];
        assert_eq!(complete, "P\nW\t7\t0\t0\t4\t0\n");
        // The second process syncs the write of the first one, and none of its own.
        let journal = read(&format!("{complete}P\nS\t7\t0\nW\t7\t4\t4\t1\t0\n"));
        assert_eq!(journal.unsynced().map(|(_, writes)| writes.len()).sum::<usize>(), 1);
    }

    #[test]
    fn names_are_certain_after_a_sync_of_their_own_directory() {
        let new = "=\t/s\t1\td\nP\n+\t/s/d\t2\td\n+\t/s/d/f\t3\tf\n";
        let names = |text: &str| possible(&read(&format!("{new}{text}")));
        assert_eq!(
            names("D\t/s\t2\nD\t/s/d\t2\n"),
            BTreeSet::from([vec!["/s".to_owned(), "/s/d".to_owned(), "/s/d/f".to_owned()]])
        );
    }
}
