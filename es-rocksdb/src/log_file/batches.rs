//! The write-ahead log as the row of batches that it is: which changes stand in it, and whether one is missing or out of reach.
//!
//! RocksDB gives each change a number, one after the other, and each batch says the first of its own. It reads the log without
//! looking at them, and forgives more than it should: behind a record whose checksum does not fit it drops the rest of a block of
//! 32 KiB, in every recovery mode, and a block of zeros, or a whole file that is gone, is no error. Numbers that do not follow each
//! other tell.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{HEADER_LEN, TYPES, is_whole, length_of, repair_record, visit_blocks};

/// What a batch begins with: the number of its first change, and how many there are.
const BATCH_HEAD: usize = 8 + 4;
/// The types of a whole record, and of the first and the last part of one.
const WHOLE: u8 = 1;
const FIRST: u8 = 2;
const LAST: u8 = 4;

/// What was found in the files of a write-ahead log, in their order.
#[derive(Debug, Default)]
pub(crate) struct WalSurvey {
    files: Vec<FileSurvey>,
}

/// What was found in one file.
#[derive(Debug, Default, PartialEq)]
struct FileSurvey {
    number: u64,
    name: String,
    /// The numbers of the first change and of the last one.
    changes: Option<(u64, u64)>,
    /// Where changes are missing between two others.
    gap: Option<Gap>,
    /// Where a record begins that is whole but for one bit.
    one_bit: Option<u64>,
    /// The first record that cannot be read.
    broken: Option<BrokenRecord>,
}

/// A record that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BrokenRecord {
    /// The offset of its first byte in the file.
    at: u64,
    /// Whether a batch that can be read follows it.
    is_followed: bool,
}

/// Changes that are missing: from this one to this one.
type Gap = (u64, u64);

/// Looks at all files of the write-ahead log in a directory. Writes nothing.
pub(crate) fn survey(directory: &Path) -> io::Result<WalSurvey> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(number) = name.strip_suffix(".log").and_then(|number| number.parse().ok()) else { continue };
        match File::open(directory.join(&name)) {
            Ok(file) => files.push(FileSurvey { number, name, ..FileSurvey::read(file)? }),
            // NOTE: another process that has the store open may remove what it needs no more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    files.sort_by_key(|file| file.number);
    Ok(WalSurvey { files })
}

impl WalSurvey {
    /// The number of the last change that can be read, wherever it stands; 0 for none.
    pub(crate) fn last(&self) -> u64 {
        self.files.iter().filter_map(|file| file.changes).map(|(_, last)| last).max().unwrap_or_default()
    }

    /// The first record that cannot be read and has a batch behind it that can: its file and place.
    pub(crate) fn hole(&self) -> Option<(&str, u64)> {
        let holes = self.files.iter().filter_map(|file| Some((file.name.as_str(), file.broken?)));
        holes.filter(|(_, broken)| broken.is_followed).map(|(name, broken)| (name, broken.at)).next()
    }

    /// The first record that is whole but for one bit: its file and place. No crash leaves one.
    pub(crate) fn one_bit(&self) -> Option<(&str, u64)> {
        self.files.iter().find_map(|file| Some((file.name.as_str(), file.one_bit?)))
    }

    /// The first changes that are missing between others, and the file that goes on behind them. Files with numbers below `needed`
    /// do not count: what is in them is in tables, and a crash may leave any of them behind.
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
        let (mut found, mut part) = (Self::default(), None);
        visit_blocks(&mut file, |start, block| {
            found.take_block(start, block, &mut part);
            None::<()>
        })?;
        Ok(found)
    }

    /// Takes in a block. `part` has the head of a batch whose end is in a later block.
    fn take_block(&mut self, start: u64, block: &mut [u8], part: &mut Option<Vec<u8>>) {
        let mut at = 0;
        while let Some(record) = block.get_mut(at..).filter(|rest| rest.len() >= HEADER_LEN) {
            if record.iter().take(HEADER_LEN).all(|byte| *byte == 0) {
                // NOTE: never written, or lost. What is missing then, the numbers tell.
                break;
            }
            let length = length_of(record);
            let kind = record.get(HEADER_LEN - 1).copied().unwrap_or_default();
            if is_whole(record) && TYPES.contains(&kind) {
                let payload = record.get(HEADER_LEN..HEADER_LEN + length.unwrap_or_default()).unwrap_or_default();
                self.take_record(kind, payload, part);
            } else {
                *part = None;
                self.broken.get_or_insert(BrokenRecord { at: start + at as u64, is_followed: false });
                if self.one_bit.is_none() && repair_record(record) {
                    self.one_bit = Some(start + at as u64);
                }
            }
            let Some(length) = length else { break };
            at += HEADER_LEN + length;
        }
    }

    fn take_record(&mut self, kind: u8, payload: &[u8], part: &mut Option<Vec<u8>>) {
        let head = payload.get(..BATCH_HEAD.min(payload.len())).unwrap_or_default();
        if kind == WHOLE || kind == FIRST {
            *part = Some(head.to_vec());
        } else if let Some(part) = part {
            part.extend_from_slice(head);
        }
        if (kind == WHOLE || kind == LAST)
            && let Some(part) = part.take()
        {
            self.take_batch(&part);
        }
    }

    fn take_batch(&mut self, head: &[u8]) {
        let Some((first, rest)) = head.split_first_chunk::<8>() else { return };
        let Some((count, _)) = rest.split_first_chunk::<4>() else { return };
        let (first, count) = (u64::from_le_bytes(*first), u64::from(u32::from_le_bytes(*count)));
        if let Some(broken) = &mut self.broken {
            broken.is_followed = true;
        }
        // NOTE: RocksDB writes an empty batch after it has dropped a torn end.
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

    fn found(bytes: &[u8]) -> FileSurvey {
        let (mut found, mut part) = (FileSurvey::default(), None);
        for (start, block) in (0..).step_by(BLOCK_LEN as usize).zip(bytes.to_vec().chunks_mut(BLOCK_LEN as usize)) {
            found.take_block(start, block, &mut part);
        }
        found
    }

    fn survey_of(files: &[&[u8]]) -> WalSurvey {
        let named =
            |(number, bytes): (u64, &&[u8])| FileSurvey { number, name: format!("{number}.log"), ..found(bytes) };
        WalSurvey { files: (1..).zip(files).map(named).collect() }
    }

    #[test]
    fn a_log_that_is_whole_has_its_changes_and_no_fault() {
        let log =
            [record_of(1, &batch(5, 3, 100)), record_of(1, &batch(8, 1, 9)), record_of(1, &batch(8, 0, 0))].concat();
        let whole = found(&log);
        assert_eq!(whole, FileSurvey { changes: Some((5, 8)), ..FileSurvey::default() });
        for len in 0..log.len() {
            let cut = found(&log[..len]);
            assert_eq!((cut.gap, cut.one_bit), (None, None), "cut at {len}");
            assert!(cut.broken.is_none_or(|broken| !broken.is_followed), "cut at {len}");
        }
    }

    #[test]
    fn a_batch_in_parts_counts_where_all_parts_are_whole() {
        let batch = batch(1, 4, 300);
        let [head, middle, end] = [&batch[..5], &batch[5..200], &batch[200..]];
        let parts = [record_of(2, head), record_of(3, middle), record_of(4, end)];
        assert_eq!(found(&parts.concat()).changes, Some((1, 4)));
        for missing in 0..3 {
            let mut left = parts.to_vec();
            left.remove(missing);
            // NOTE: only the checksums of parts are looked at; that one in the middle is missing, RocksDB cannot tell either.
            assert_eq!(found(&left.concat()).changes.is_some(), missing == 1, "without {missing}");
        }
    }

    /// RocksDB drops the rest of the block with a record that it cannot read: what was behind it went in silence.
    #[test]
    fn what_is_behind_a_broken_record_is_found() {
        let mut log =
            [record_of(1, &batch(1, 1, 50)), record_of(1, &batch(2, 1, 50)), record_of(1, &batch(3, 1, 50))].concat();
        log[80..90].fill(0xaa);
        let survey = survey_of(&[&log]);
        assert_eq!((survey.last(), survey.hole()), (3, Some(("1.log", 69))));
        assert_eq!(survey.gap(0), Some(("1.log", (2, 2))));
        assert_eq!(survey.one_bit(), None);
        log.truncate(138);
        let survey = survey_of(&[&log]);
        assert_eq!((survey.last(), survey.hole(), survey.gap(0)), (1, None, None), "that may be a torn end");
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let log = [record_of(1, &batch(1, 1, 50)), record_of(1, &batch(2, 1, 50))].concat();
        for bit in 0..log.len() * 8 {
            let mut flipped = log.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(survey_of(&[&flipped]).one_bit().is_some(), "bit {bit}");
        }
    }

    /// A file of the write-ahead log that was gone was no error to RocksDB: revisions were given a second time.
    #[test]
    fn a_file_that_is_gone_and_a_block_of_zeros_leave_a_gap() {
        let [one, two, three] = [(1, 2), (3, 4), (7, 1)].map(|(first, count)| record_of(1, &batch(first, count, 20)));
        assert_eq!(survey_of(&[&one, &two, &three]).gap(0), None);
        assert_eq!(survey_of(&[&one, &[], &three]).gap(0), Some(("3.log", (3, 6))));
        assert_eq!(survey_of(&[&one, &[], &three]).gap(2), None, "what is below is in tables");
        let mut blocks = one.clone();
        blocks.resize(2 * BLOCK_LEN as usize, 0);
        blocks.extend(three);
        assert_eq!(survey_of(&[&blocks]).gap(0), Some(("1.log", (3, 6))));
    }
}
