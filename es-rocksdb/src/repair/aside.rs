//! [`AsideCommits`]: passes on the readable events that are not in the repaired store.

use std::path::Path;

use es_core::RecordedEvent;
use es_core::model::CommitPart;

use super::{RepairError, SetAside, io_error};

/// Passes on events, by commit. An event of an incomplete commit is passed on as a commit of its own.
pub(super) struct AsideCommits<'a> {
    commit: Vec<RecordedEvent>,
    count: u64,
    set_aside: SetAside<'a>,
}

impl<'a> AsideCommits<'a> {
    pub(super) fn new(set_aside: SetAside<'a>) -> Self {
        Self { commit: Vec::new(), count: 0, set_aside }
    }

    /// Adds the next event.
    pub(super) fn add(&mut self, event: RecordedEvent) -> Result<(), RepairError> {
        if event.part.index == 0 {
            self.pass_on()?;
        }
        let is_last = event.part.is_last();
        self.commit.push(event);
        if is_last { self.pass_on() } else { Ok(()) }
    }

    /// Ends the commit, because an event is missing.
    pub(super) fn gap(&mut self) -> Result<(), RepairError> {
        self.pass_on()
    }

    /// Passes on the last commit. Returns the number of events.
    pub(super) fn finish(mut self) -> Result<u64, RepairError> {
        self.pass_on()?;
        Ok(self.count)
    }

    fn pass_on(&mut self) -> Result<(), RepairError> {
        let failed = io_error("write", Path::new("the events that are set aside"));
        let is_complete = self
            .commit
            .first()
            .is_some_and(|first| first.part.index == 0 && first.part.size as usize == self.commit.len());
        for mut event in self.commit.drain(..) {
            if !is_complete {
                event.part = CommitPart { index: 0, size: 1 };
            }
            self.count += 1;
            (self.set_aside)(&event).map_err(&failed)?;
        }
        Ok(())
    }
}
