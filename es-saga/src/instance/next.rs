//! What a saga does next, and when.

use std::ops::ControlFlow;

use es_core::Timestamp;

use crate::instance::event::Unit;
use crate::instance::state::{Phase, SagaInstance, UnitState, UnitStatus};
use crate::shape::{Effect, Undo};

/// Something that a saga is to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// Count the items of the list of a node.
    List(u32),
    /// Execute a step, unless a call of it is in progress.
    Execute(Unit),
    /// Start a delay.
    Delay(Unit),
    /// End a delay whose time has passed.
    EndDelay(Unit),
    /// Record a step as interrupted, unless a call of it is in progress.
    Interrupt(Unit),
    /// Undo a step, unless a call that undoes it is in progress.
    Undo(Unit),
    /// Turn back, because the deadline has passed.
    Expire,
}

impl SagaInstance {
    /// Returns what to do now. It does not know which calls are in progress in this process: it returns a step that was
    /// started and has no outcome, too.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Vec<Act> {
        if self.is_paused || self.defect.is_some() {
            return Vec::new();
        }
        match self.phase {
            Phase::Running if self.is_expired(now) => vec![Act::Expire],
            Phase::Running => {
                let mut acts = Vec::new();
                // Every act is wanted, so the search does not end early.
                let _ = self.forward(now, |act| {
                    acts.push(act);
                    ControlFlow::Continue(())
                });
                acts
            }
            Phase::Compensating => self.backward(now),
            _ => Vec::new(),
        }
    }

    /// Returns whether [`next`](Self::next) returns an act. Going forward, the search ends at the first one.
    pub(crate) fn has_next(&self, now: Timestamp) -> bool {
        if self.phase != Phase::Running || self.is_paused || self.defect.is_some() {
            return !self.next(now).is_empty();
        }
        self.is_expired(now) || self.forward(now, |_| ControlFlow::Break(())).is_break()
    }

    /// Returns the time at which there is something to do if nothing happens before, or `None`.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        if self.is_paused || self.defect.is_some() {
            return None;
        }
        let retry = |direction: Phase| {
            self.units().filter_map(move |(_, unit)| match unit.status {
                UnitStatus::Waiting(at) | UnitStatus::Delayed(at) if direction == Phase::Running => Some(at),
                UnitStatus::UndoWaiting(at) if direction == Phase::Compensating => Some(at),
                _ => None,
            })
        };
        match self.phase {
            Phase::Running => {
                let deadline = self.deadline.filter(|_| !self.is_past_pivot());
                retry(Phase::Running).chain(deadline).min()
            }
            Phase::Compensating => retry(Phase::Compensating).min(),
            _ => None,
        }
    }

    fn is_expired(&self, now: Timestamp) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now) && !self.is_past_pivot()
    }

    /// Visits the steps whose predecessors are done, until `visit` breaks.
    fn forward(&self, now: Timestamp, mut visit: impl FnMut(Act) -> ControlFlow<()>) -> ControlFlow<()> {
        // A node comes after all nodes on which it depends, so their values are known when it is visited.
        let mut done = Vec::with_capacity(self.nodes.len());
        for ((index, node), shape) in (0..).zip(&self.nodes).zip(&self.shape.nodes) {
            let is_done = node.is_done();
            let is_ready = !is_done && shape.after.iter().all(|before| done.get(*before as usize) == Some(&true));
            done.push(is_done);
            if !is_ready {
                continue;
            }
            if node.is_unlisted {
                visit(Act::List(index))?;
                continue;
            }
            let due = |unit: &UnitState| match unit.status {
                UnitStatus::Pending | UnitStatus::Running => true,
                UnitStatus::Waiting(at) | UnitStatus::Delayed(at) => at <= now,
                _ => false,
            };
            let is_delay = matches!(shape.effect, Effect::Delay { .. });
            for (item, state) in (0..).zip(&node.units).filter(|(_, unit)| due(unit)) {
                let unit = Unit { node: index, item };
                visit(match state.status {
                    UnitStatus::Delayed(_) => Act::EndDelay(unit),
                    _ if is_delay => Act::Delay(unit),
                    _ => Act::Execute(unit),
                })?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Returns the steps to undo whose successors have no effect any more, last first.
    fn backward(&self, now: Timestamp) -> Vec<Act> {
        let clear = self.clear_dependents();
        let mut acts = Vec::new();
        for (index, node) in (0..).zip(&self.nodes) {
            for (item, state) in (0..).zip(&node.units) {
                let unit = Unit { node: index, item };
                let can_undo = clear.get(index as usize) == Some(&true) && self.undo_of(index) != Undo::Ignore;
                match state.status {
                    UnitStatus::Running => acts.push(Act::Interrupt(unit)),
                    // The child saga turns back before the steps on which it depends.
                    UnitStatus::AwaitingChild => acts.push(Act::Undo(unit)),
                    UnitStatus::Succeeded | UnitStatus::Owed if can_undo => acts.push(Act::Undo(unit)),
                    UnitStatus::Undoing if self.is_child(index) => {}
                    UnitStatus::Undoing => acts.push(Act::Undo(unit)),
                    UnitStatus::UndoWaiting(at) if at <= now => acts.push(Act::Undo(unit)),
                    _ => {}
                }
            }
        }
        acts.reverse();
        acts
    }

    /// Returns for each node whether no node that depends on it, directly or not, has an effect or a call in progress.
    pub(super) fn clear_dependents(&self) -> Vec<bool> {
        let mut clear = vec![true; self.nodes.len()];
        // A node comes after all nodes on which it depends, so its own value is final when it is visited.
        for (index, (node, shape)) in self.nodes.iter().zip(&self.shape.nodes).enumerate().rev() {
            let is_clear = clear[index] && node.units.iter().all(|unit| is_clear(unit, shape.undo));
            for before in &shape.after {
                if let Some(clear) = clear.get_mut(*before as usize) {
                    *clear &= is_clear;
                }
            }
        }
        clear
    }

    /// Returns whether no step has an effect or a call in progress.
    pub(super) fn is_clear(&self) -> bool {
        let nodes = self.nodes.iter().zip(&self.shape.nodes);
        nodes
            .flat_map(|(node, shape)| node.units.iter().map(|unit| (unit, shape.undo)))
            .all(|(unit, undo)| is_clear(unit, undo))
    }
}

/// Returns whether a step has no effect that must be undone, and no call in progress.
fn is_clear(unit: &UnitState, undo: Undo) -> bool {
    let is_ignored = undo == Undo::Ignore && matches!(unit.status, UnitStatus::Succeeded | UnitStatus::Owed);
    unit.is_clear() || is_ignored
}
