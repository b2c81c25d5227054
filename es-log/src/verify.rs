//! Verification of all bytes of a log.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use es_core::Position;
use es_core::model::LogId;

use crate::active::read_trailer;
use crate::compressed::{ChunkDamage, CompressedFile};
use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, ReadError};
use crate::frame::Frame;
use crate::layout::{BLOCK_EVENTS, MARK_FILE, SEGMENT_HEADER_LEN};
use crate::mark;
use crate::reader::with_source;
use crate::recovery::events;
use crate::scan::{Chain, READ_LEN, Window, read_frame, search};
use crate::segment::{self, SegmentHeader, Trailer};

/// The result of a verification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// The number of segments.
    pub segments: u32,
    /// The number of valid frames.
    pub frames: u64,
    /// The number of events and tombstones in valid frames.
    pub events: u64,
    /// The number of bytes after the last frame. An opening removes them.
    pub torn_bytes: u64,
    /// All damage that was found.
    pub damages: Vec<Damage>,
}

impl VerifyReport {
    /// Returns whether no damage was found.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.damages.is_empty()
    }
}

/// Reads the whole log in a directory and verifies it: headers, frames, records, their order, footers, and the
/// high-water mark. Changes nothing, and can run while the log is open.
///
/// # Errors
/// [`ReadError::Io`]. Damage is in the report.
pub fn verify(disk: &Arc<dyn Disk>, directory: &Path) -> Result<VerifyReport, ReadError> {
    let verified = verify_and_visit(disk, directory, NonZeroUsize::MIN, |(): &mut (), _| {});
    Ok(verified?.0)
}

/// Verifies a log as [`verify`] does, with several threads, and calls `visit` with each valid frame and a value of its
/// segment. Returns the values of the segments in order. The frames of one segment are visited in order, by one thread.
/// After damage, the visits continue with the next valid frame.
///
/// # Errors
/// As [`verify`].
pub fn verify_and_visit<V: Default + Send>(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    threads: NonZeroUsize,
    visit: impl Fn(&mut V, &Frame) + Sync,
) -> Result<(VerifyReport, Vec<V>), ReadError> {
    let failed = |name: &str, source: io::Error| ReadError::Io { path: directory.join(name), source };
    // The mark is read first: frames that are written meanwhile are after it.
    let mark = mark::read(&**disk, directory).map_err(|error| failed(MARK_FILE, error))?;
    let names = disk.names(directory).map_err(|source| ReadError::Io { path: directory.to_owned(), source })?;
    let last = names.iter().filter_map(|name| segment::number_of(name)).max().unwrap_or_default();
    let next = AtomicU32::new(1);
    let verified = Mutex::new(BTreeMap::new());
    let verify_next = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number > last {
                return;
            }
            let name = segment::file_name(number);
            let mut segment = SegmentVerification::new(number, &visit);
            let result = match disk.open_read_only(&directory.join(&name)) {
                Ok(file) => segment.verify_file(&file, number == last),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    segment.found(0, "expected a segment, found no file".to_owned());
                    Ok(())
                }
                Err(error) => Err(error),
            };
            let result = result.map(|()| segment.summary).map_err(|error| failed(&name, error));
            verified.lock().unwrap_or_else(PoisonError::into_inner).insert(number, result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.get().min(last as usize) {
            scope.spawn(verify_next);
        }
        verify_next();
    });
    let mut joined = Joined::default();
    let mut values = Vec::new();
    for summary in verified.into_inner().unwrap_or_else(PoisonError::into_inner).into_values() {
        values.push(joined.add(summary?));
    }
    joined.mark(mark, last > 0);
    Ok((joined.report, values))
}

/// The result of one segment.
struct SegmentSummary<V> {
    number: u32,
    /// The valid header.
    header: Option<SegmentHeader>,
    /// The link to the frame before the segment, if its first frame is valid.
    first_link: Option<u32>,
    /// What follows the segment; `None` after damage at its end.
    end: Option<Chain>,
    /// The number of the last valid frame; 0 for none.
    last_frame: u64,
    report: VerifyReport,
    value: V,
}

/// The summaries of the segments so far.
#[derive(Default)]
struct Joined {
    report: VerifyReport,
    log_id: Option<LogId>,
    /// What the next segment must begin with; `None` after damage.
    chain: Option<Chain>,
    last_frame: u64,
}

impl Joined {
    fn add<V>(&mut self, summary: SegmentSummary<V>) -> V {
        let SegmentSummary { number, header, first_link, end, last_frame, report, value } = summary;
        if let Some(header) = header {
            self.compare(number, &header, first_link);
        }
        self.chain = header.and(end);
        let VerifyReport { segments, frames, events, torn_bytes, damages } = report;
        self.report.segments += segments;
        self.report.frames += frames;
        self.report.events += events;
        self.report.torn_bytes = torn_bytes;
        self.report.damages.extend(damages);
        self.last_frame = self.last_frame.max(last_frame);
        value
    }

    /// Compares a header with the segment before.
    fn compare(&mut self, number: u32, header: &SegmentHeader, first_link: Option<u32>) {
        let log_id = *self.log_id.get_or_insert(header.place.log_id);
        let first = Chain { frame: 1, position: 1, previous: Some(0) };
        let expected = if number == 1 { Some(first) } else { self.chain };
        let found = (header.first_frame, header.first_position);
        let fits = expected.is_none_or(|expected| (expected.frame, expected.position) == found);
        if log_id != header.place.log_id || !fits {
            let reason = format!("expected the segment after the one before, found frame {}", header.first_frame);
            self.found(header, 0, reason);
        }
        let previous = expected.filter(|_| fits).and_then(|expected| expected.previous);
        if previous.zip(first_link).is_some_and(|(expected, found)| expected != found) {
            let frame = header.first_frame;
            let reason = format!("expected frame {frame} after another frame {}", frame.saturating_sub(1));
            self.found(header, SEGMENT_HEADER_LEN as u64, reason);
        }
    }

    fn found(&mut self, header: &SegmentHeader, offset: u64, reason: String) {
        let position = Position::new(header.first_position);
        let file = segment::file_name(header.place.segment);
        self.report.damages.push(Damage { file, offset, position, reason });
    }

    fn mark(&mut self, mark: Option<mark::Mark>, has_segments: bool) {
        let reason = match mark {
            None if has_segments => "expected a high-water mark, found none that is valid".to_owned(),
            Some(mark) if mark.frame > self.last_frame => format!(
                "expected the log up to frame {} (position {}), which was acknowledged, found it up to frame {}",
                mark.frame, mark.head, self.last_frame
            ),
            _ => return,
        };
        self.report.damages.push(Damage { file: MARK_FILE.to_owned(), offset: 0, position: None, reason });
    }
}

/// The verification of one segment.
struct SegmentVerification<'a, V, F> {
    summary: SegmentSummary<V>,
    /// What the next frame must be.
    chain: Option<Chain>,
    visit: &'a F,
}

/// What the frames of a segment add up to.
struct SegmentTotals {
    offsets: Vec<u32>,
    frames: u32,
    times: Option<(i64, i64)>,
    end: u64,
    is_sound: bool,
}

impl<'a, V: Default, F: Fn(&mut V, &Frame)> SegmentVerification<'a, V, F> {
    fn new(number: u32, visit: &'a F) -> Self {
        let report = VerifyReport::default();
        let summary = SegmentSummary {
            number,
            header: None,
            first_link: None,
            end: None,
            last_frame: 0,
            report,
            value: V::default(),
        };
        Self { summary, chain: None, visit }
    }

    fn found(&mut self, offset: u64, reason: String) {
        let position = self.chain.and_then(|chain| Position::new(chain.position));
        let file = segment::file_name(self.summary.number);
        self.summary.report.damages.push(Damage { file, offset, position, reason });
    }

    /// Verifies a file. Damage of a compressed segment is found in its frames, as that of a plain one; the damaged
    /// chunks are reported in addition.
    fn verify_file(&mut self, file: &Arc<dyn DiskFile>, is_last: bool) -> io::Result<()> {
        let Some(compressed) = CompressedFile::detect(file, self.summary.number)? else {
            return self.verify(file, is_last);
        };
        let compressed = Arc::new(compressed);
        let content: Arc<dyn DiskFile> = Arc::clone(&compressed) as _;
        self.verify(&content, is_last)?;
        let file = segment::file_name(self.summary.number);
        let damaged = |ChunkDamage { offset, reason }| Damage { file: file.clone(), offset, position: None, reason };
        self.summary.report.damages.extend(compressed.damages().into_iter().map(damaged));
        Ok(())
    }

    fn verify(&mut self, file: &Arc<dyn DiskFile>, is_last: bool) -> io::Result<()> {
        self.summary.report.segments = 1;
        let number = self.summary.number;
        let header = Window::new(Arc::clone(file), SEGMENT_HEADER_LEN).at(0, SEGMENT_HEADER_LEN, u64::MAX)?;
        let header = match SegmentHeader::decode(&header) {
            Ok(header) if header.place.segment == number => header,
            _ => {
                self.found(0, format!("expected the header of segment {number}, found other bytes"));
                return Ok(());
            }
        };
        self.summary.header = Some(header);
        self.chain = Some(Chain { frame: header.first_frame, position: header.first_position, previous: None });
        let trailer = read_trailer(&**file, &header)?;
        let limit = trailer.map_or(header.size, |trailer| trailer.blocks).into();
        let totals = self.frames(file, &header, limit, trailer.is_some() || !is_last)?;
        self.summary.end = self.chain;
        match trailer {
            Some(trailer) => self.footer(file, &header, &trailer, &totals),
            None if is_last => Ok(()),
            None => {
                let at = u64::from(header.size).saturating_sub(crate::layout::TRAILER_LEN as u64);
                self.found(at, "expected a footer, found other bytes".to_owned());
                Ok(())
            }
        }
    }

    /// Verifies all frames up to `limit`. After an invalid frame, continues with the next valid one.
    fn frames(
        &mut self,
        file: &Arc<dyn DiskFile>,
        header: &SegmentHeader,
        limit: u64,
        is_sealed: bool,
    ) -> io::Result<SegmentTotals> {
        let end = SEGMENT_HEADER_LEN as u64;
        let mut totals = SegmentTotals { offsets: Vec::new(), frames: 0, times: None, end, is_sound: true };
        let mut window = Window::new(Arc::clone(file), READ_LEN);
        loop {
            let error = match read_frame(&mut window, totals.end, limit, header.place)? {
                Ok(frame) => {
                    self.frame(&frame, &mut totals);
                    continue;
                }
                Err(error) => error,
            };
            let rest = search(file, totals.end, limit, header.place)?;
            match rest.frame {
                // The process that writes the log may have completed the frame after it was read.
                Some(_) if !is_sealed && self.is_valid_now(file, totals.end, limit, header)? => {
                    window = Window::new(Arc::clone(file), READ_LEN);
                }
                Some((offset, next)) => {
                    self.found(totals.end, with_source(&error));
                    totals.is_sound = false;
                    totals.end = offset;
                    self.chain =
                        Some(Chain { frame: next.number, position: next.first_position.get(), previous: None });
                }
                None => {
                    let has_rest = rest.end > totals.end;
                    if has_rest && is_sealed {
                        self.found(totals.end, with_source(&error));
                        totals.is_sound = false;
                        self.chain = None;
                    } else {
                        self.summary.report.torn_bytes = rest.end - totals.end;
                    }
                    return Ok(totals);
                }
            }
        }
    }

    fn is_valid_now(&self, file: &Arc<dyn DiskFile>, at: u64, limit: u64, header: &SegmentHeader) -> io::Result<bool> {
        let mut window = Window::new(Arc::clone(file), READ_LEN);
        Ok(read_frame(&mut window, at, limit, header.place)?.is_ok())
    }

    fn frame(&mut self, frame: &Frame, totals: &mut SegmentTotals) {
        let at = totals.end;
        let followed = self.chain.as_mut().map_or(Ok(()), |chain| chain.follow(frame));
        if let Err(reason) = followed {
            self.found(at, reason);
            totals.is_sound = false;
            let mut chain =
                Chain { frame: frame.header().number, position: frame.header().first_position.get(), previous: None };
            // The frame follows itself.
            let _ = chain.follow(frame);
            self.chain = Some(chain);
        }
        match events(frame) {
            Ok((offsets, times)) => {
                let start = u32::try_from(at).unwrap_or(u32::MAX);
                totals.offsets.extend(offsets.iter().map(|offset| start + offset));
                if let Some((first, last)) = times {
                    totals.times = Some((totals.times.map_or(first, |(first, _)| first), last));
                }
            }
            Err(reason) => {
                self.found(at, reason);
                totals.is_sound = false;
            }
        }
        totals.frames += 1;
        totals.end += frame.bytes().len() as u64;
        if totals.frames == 1 && Some(frame.header().number) == self.summary.header.map(|header| header.first_frame) {
            self.summary.first_link = Some(frame.header().previous);
        }
        self.summary.last_frame = frame.header().number;
        (self.visit)(&mut self.summary.value, frame);
        self.summary.report.frames += 1;
        self.summary.report.events += u64::from(frame.events());
    }

    /// Compares the footer with the frames.
    fn footer(
        &mut self,
        file: &Arc<dyn DiskFile>,
        header: &SegmentHeader,
        trailer: &Trailer,
        totals: &SegmentTotals,
    ) -> io::Result<()> {
        // After damage to the frames, their totals are not known.
        if !totals.is_sound {
            return Ok(());
        }
        let expected = (totals.frames, totals.offsets.len(), totals.end, totals.times.unwrap_or_default());
        let found = (trailer.frames, trailer.events as usize, u64::from(trailer.end), trailer.times);
        if expected != found {
            let reason = format!("expected {expected:?} as frames, events, end and times, found {found:?}");
            self.found(header.size.into(), reason);
            return Ok(());
        }
        for (index, expected) in totals.offsets.chunks(BLOCK_EVENTS).enumerate() {
            let range = segment::block_range(index, totals.offsets.len());
            let start = u64::from(trailer.blocks) + range.start as u64;
            let end = start + range.len() as u64;
            let bytes = Window::new(Arc::clone(file), range.len()).at(start, range.len(), end)?;
            if segment::decode_block(&bytes).as_deref() != Some(expected) {
                self.found(start, format!("expected the offsets of {} events, found others", expected.len()));
            }
        }
        Ok(())
    }
}
