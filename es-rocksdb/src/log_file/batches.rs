//! [`survey`]: finds missing and unreachable changes of the write-ahead log.
//!
//! RocksDB numbers the changes consecutively, and each batch has the number of its first change. RocksDB does not check
//! these numbers when it reads the log, and silently loses changes: after a record with a wrong checksum it drops the
//! rest of the block of 32 KiB, in every recovery mode; a block of zeros or a missing file is no error. A gap in the
//! numbers shows such a loss.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{HEADER_LEN, TYPES, is_intact, length_of, repair_record, visit_blocks};

/// The length of a batch's header in bytes: the number of its first change, and the number of its changes.
const BATCH_HEADER_LEN: usize = 8 + 4;
/// The types of a whole record, and of the first and the last part of a record.
const WHOLE: u8 = 1;
const FIRST: u8 = 2;
const LAST: u8 = 4;

/// The findings in the files of a write-ahead log, in their order.
#[derive(Debug, Default)]
pub(crate) struct WalSurvey {
    files: Vec<FileSurvey>,
}

/// The findings in one file.
#[derive(Debug, Default, PartialEq)]
struct FileSurvey {
    number: u64,
    name: String,
    /// The numbers of the first and of the last change.
    changes: Option<(u64, u64)>,
    /// The first missing changes between two others.
    gap: Option<Gap>,
    /// The offset of the first record with one flipped bit.
    flipped_bit: Option<u64>,
    /// The first unreadable record.
    unreadable: Option<UnreadableRecord>,
}

/// A record that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct UnreadableRecord {
    /// The offset of its first byte in the file.
    at: u64,
    /// Whether a readable batch follows it.
    is_followed: bool,
}

/// The first and the last number of missing changes.
type Gap = (u64, u64);

/// Reads all files of the write-ahead log in a directory. Writes nothing.
pub(crate) fn survey(directory: &Path) -> io::Result<WalSurvey> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(number) = name.strip_suffix(".log").and_then(|number| number.parse().ok()) else { continue };
        match File::open(directory.join(&name)) {
            Ok(file) => files.push(FileSurvey { number, name, ..FileSurvey::read(file)? }),
            // Another process that has the store open can remove obsolete files.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    files.sort_by_key(|file| file.number);
    Ok(WalSurvey { files })
}

impl WalSurvey {
    /// Returns the number of the last readable change of all files; 0 if there is none.
    pub(crate) fn last(&self) -> u64 {
        self.files.iter().filter_map(|file| file.changes).map(|(_, last)| last).max().unwrap_or_default()
    }

    /// Returns the file and the offset of the first unreadable record that is followed by a readable batch.
    pub(crate) fn hole(&self) -> Option<(&str, u64)> {
        let unreadable = self.files.iter().filter_map(|file| Some((file.name.as_str(), file.unreadable?)));
        unreadable.filter(|(_, record)| record.is_followed).map(|(name, record)| (name, record.at)).next()
    }

    /// Returns the file and the offset of the first record with one flipped bit. A crash leaves no such record.
    pub(crate) fn flipped_bit(&self) -> Option<(&str, u64)> {
        self.files.iter().find_map(|file| Some((file.name.as_str(), file.flipped_bit?)))
    }

    /// Returns the first missing changes between others, and the file that has the next change. Files with numbers
    /// below `needed` are ignored: their changes are in table files, and any of them can remain after a crash.
    pub(crate) fn gap(&self, needed: u64) -> Option<(&str, Gap)> {
        let files = || self.files.iter().filter(|file| file.number >= needed);
        let within = files().find_map(|file| Some((file.name.as_str(), file.gap?)));
        let mut before: Option<u64> = None;
        let between = files().filter_map(|file| Some((file, file.changes?))).find_map(|(file, (first, last))| {
            let expected = before.replace(last).map_or(first, |before| before.saturating_add(1));
            (first > expected).then(|| (file.name.as_str(), (expected, first - 1)))
        });
        [within, between].into_iter().flatten().min_by_key(|(_, (from, _))| *from)
    }
}

impl FileSurvey {
    fn read(mut file: File) -> io::Result<Self> {
        let (mut found, mut partial) = (Self::default(), None);
        visit_blocks(&mut file, |start, block| {
            found.add_block(start, block, &mut partial);
            None::<()>
        })?;
        Ok(found)
    }

    /// Adds the findings of a block. `partial` has the header of a batch that continues in a later block.
    fn add_block(&mut self, start: u64, block: &mut [u8], partial: &mut Option<Vec<u8>>) {
        let mut at = 0;
        while let Some(record) = block.get_mut(at..).filter(|rest| rest.len() >= HEADER_LEN) {
            if record.iter().take(HEADER_LEN).all(|byte| *byte == 0) {
                // The rest of the block was never written, or was lost. A gap in the numbers shows a loss.
                break;
            }
            let length = length_of(record);
            let kind = record.get(HEADER_LEN - 1).copied().unwrap_or_default();
            if is_intact(record) && TYPES.contains(&kind) {
                let payload = record.get(HEADER_LEN..HEADER_LEN + length.unwrap_or_default()).unwrap_or_default();
                self.add_record(kind, payload, partial);
            } else {
                *partial = None;
                self.unreadable.get_or_insert(UnreadableRecord { at: start + at as u64, is_followed: false });
                if self.flipped_bit.is_none() && repair_record(record) {
                    self.flipped_bit = Some(start + at as u64);
                }
            }
            let Some(length) = length else { break };
            at += HEADER_LEN + length;
        }
    }

    fn add_record(&mut self, kind: u8, payload: &[u8], partial: &mut Option<Vec<u8>>) {
        let header = payload.get(..BATCH_HEADER_LEN.min(payload.len())).unwrap_or_default();
        if kind == WHOLE || kind == FIRST {
            *partial = Some(header.to_vec());
        } else if let Some(partial) = partial {
            partial.extend_from_slice(header);
        }
        if (kind == WHOLE || kind == LAST)
            && let Some(complete) = partial.take()
        {
            self.add_batch(&complete);
        }
    }

    fn add_batch(&mut self, header: &[u8]) {
        let Some((first, rest)) = header.split_first_chunk::<8>() else { return };
        let Some((count, _)) = rest.split_first_chunk::<4>() else { return };
        let (first, count) = (u64::from_le_bytes(*first), u64::from(u32::from_le_bytes(*count)));
        if let Some(unreadable) = &mut self.unreadable {
            unreadable.is_followed = true;
        }
        // RocksDB writes an empty batch after it has dropped a torn end.
        let Some(last) = count.checked_sub(1).map(|more| first.saturating_add(more)) else { return };
        let changes = self.changes.get_or_insert((first, last));
        let expected = changes.1.saturating_add(1);
        if first > expected {
            self.gap.get_or_insert((expected, first - 1));
        }
        changes.1 = changes.1.max(last);
    }
}

#[cfg(test)]
mod tests {
    use super::super::BLOCK_LEN;
    use super::super::tests::record_of;
    use super::*;

    fn batch(first: u64, count: u32, content: usize) -> Vec<u8> {
        [first.to_le_bytes().as_slice(), &count.to_le_bytes(), &vec![7; content]].concat()
    }

    fn survey_file(bytes: &[u8]) -> FileSurvey {
        let (mut found, mut partial) = (FileSurvey::default(), None);
        for (start, block) in (0..).step_by(BLOCK_LEN as usize).zip(bytes.to_vec().chunks_mut(BLOCK_LEN as usize)) {
            found.add_block(start, block, &mut partial);
        }
        found
    }

    fn survey_of(files: &[&[u8]]) -> WalSurvey {
        let named =
            |(number, bytes): (u64, &&[u8])| FileSurvey { number, name: format!("{number}.log"), ..survey_file(bytes) };
        WalSurvey { files: (1..).zip(files).map(named).collect() }
    }

    #[test]
    fn an_intact_log_has_all_changes_and_no_finding() {
        let log =
            [record_of(1, &batch(5, 3, 100)), record_of(1, &batch(8, 1, 9)), record_of(1, &batch(8, 0, 0))].concat();
        let intact = survey_file(&log);
        assert_eq!(intact, FileSurvey { changes: Some((5, 8)), ..FileSurvey::default() });
        for len in 0..log.len() {
            let cut = survey_file(&log[..len]);
            assert_eq!((cut.gap, cut.flipped_bit), (None, None), "cut at {len}");
            assert!(cut.unreadable.is_none_or(|record| !record.is_followed), "cut at {len}");
        }
    }

    #[test]
    fn a_batch_in_parts_needs_its_first_and_last_part() {
        let batch = batch(1, 4, 300);
        let [first, middle, last] = [&batch[..5], &batch[5..200], &batch[200..]];
        let parts = [record_of(2, first), record_of(3, middle), record_of(4, last)];
        assert_eq!(survey_file(&parts.concat()).changes, Some((1, 4)));
        for missing in 0..3 {
            let mut remaining = parts.to_vec();
            remaining.remove(missing);
            // Only the checksums of parts are verified. RocksDB does not detect a missing middle part either.
            assert_eq!(survey_file(&remaining.concat()).changes.is_some(), missing == 1, "without {missing}");
        }
    }

    /// Regression: RocksDB silently drops the rest of the block after an unreadable record.
    #[test]
    fn a_batch_after_an_unreadable_record_is_found() {
        let mut log =
            [record_of(1, &batch(1, 1, 50)), record_of(1, &batch(2, 1, 50)), record_of(1, &batch(3, 1, 50))].concat();
        log[80..90].fill(0xaa);
        let survey = survey_of(&[&log]);
        assert_eq!((survey.last(), survey.hole()), (3, Some(("1.log", 69))));
        assert_eq!(survey.gap(0), Some(("1.log", (2, 2))));
        assert_eq!(survey.flipped_bit(), None);
        log.truncate(138);
        let survey = survey_of(&[&log]);
        assert_eq!((survey.last(), survey.hole(), survey.gap(0)), (1, None, None), "it can be a torn end");
    }

    #[test]
    fn any_single_flipped_bit_is_found() {
        let log = [record_of(1, &batch(1, 1, 50)), record_of(1, &batch(2, 1, 50))].concat();
        for bit in 0..log.len() * 8 {
            let mut flipped = log.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(survey_of(&[&flipped]).flipped_bit().is_some(), "bit {bit}");
        }
    }

    /// Regression: a missing file of the write-ahead log was no error of RocksDB, and revisions were assigned twice.
    #[test]
    fn a_missing_file_and_a_block_of_zeros_leave_a_gap() {
        let [one, two, three] = [(1, 2), (3, 4), (7, 1)].map(|(first, count)| record_of(1, &batch(first, count, 20)));
        assert_eq!(survey_of(&[&one, &two, &three]).gap(0), None);
        assert_eq!(survey_of(&[&one, &[], &three]).gap(0), Some(("3.log", (3, 6))));
        assert_eq!(survey_of(&[&one, &[], &three]).gap(2), None, "the changes of file 1 are in table files");
        let mut blocks = one.clone();
        blocks.resize(2 * BLOCK_LEN as usize, 0);
        blocks.extend(three);
        assert_eq!(survey_of(&[&blocks]).gap(0), Some(("1.log", (3, 6))));
    }
}
