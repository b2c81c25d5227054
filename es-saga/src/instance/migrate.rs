//! Carries an instance to another version of its graph.

use std::sync::Arc;

use crate::id::Direction;
use crate::instance::event::{MigratedOutput, RecordedValue};
use crate::instance::state::{NodeState, Phase, SagaInstance, UnitState};
use crate::shape::{Effect, Fingerprint, NodeShape, SagaShape};

impl SagaInstance {
    /// Returns the reason why the instance cannot continue with another graph, if there is one.
    pub(crate) fn check_migration(&self, shape: &SagaShape) -> Result<(), String> {
        if let Some(defect) = shape.defect() {
            return Err(defect);
        }
        for (old, state) in self.shape.nodes.iter().zip(&self.nodes) {
            let is_kept = shape.nodes.iter().any(|new| is_same(old, new));
            let is_delay = matches!(old.effect, Effect::Delay { .. });
            if !is_kept && !is_delay && !state.units.iter().all(UnitState::is_clear) {
                return Err(format!("node {:?} has an effect, and the other graph does not have it", old.name));
            }
        }
        let mut migrated = self.clone();
        migrated.migrate(shape, None, &[]);
        if matches!(self.phase, Phase::Running | Phase::Stuck(Direction::Forward)) {
            migrated.check_order()?;
        }
        if self.is_past_pivot() != migrated.is_past_pivot() {
            return Err("only one of the graphs is past its pivot".to_owned());
        }
        Ok(())
    }

    /// Returns the reason why a node was started too early, if there is one.
    fn check_order(&self) -> Result<(), String> {
        let done: Vec<bool> = self.nodes.iter().map(NodeState::is_done).collect();
        for (shape, node) in self.shape.nodes.iter().zip(&self.nodes) {
            let open = shape.after.iter().find(|before| done.get(**before as usize) != Some(&true));
            if let Some(open) = open.filter(|_| node.is_started() || node.is_omitted) {
                let open = self.node_name(*open);
                return Err(format!("node {:?} was started, and comes after {open:?}, which is not done", shape.name));
            }
        }
        Ok(())
    }

    /// Replaces the graph. Nodes that are the same keep their states.
    pub(super) fn migrate(&mut self, shape: &SagaShape, input: Option<&RecordedValue>, outputs: &[MigratedOutput]) {
        let old = Arc::clone(&self.shape);
        let kept = |new: &NodeShape| {
            let position = old.nodes.iter().position(|old| is_same(old, new))?;
            self.nodes.get(position).cloned()
        };
        self.nodes = shape.nodes.iter().map(|new| kept(new).unwrap_or_else(|| NodeState::new(new.repeat))).collect();
        (self.shape, self.fingerprint) = (Arc::new(shape.clone()), Some(Fingerprint::of(shape)));
        if let Some(input) = input {
            self.input = Arc::new(input.value.clone());
        }
        for MigratedOutput { unit, output } in outputs {
            let node = self.nodes.get_mut(unit.node as usize);
            if let Some(state) = node.and_then(|node| node.units.get_mut(unit.item as usize)) {
                state.output = Some(output.clone());
            }
        }
    }
}

/// Returns whether a node of another graph keeps the state of a node. A delay in progress keeps its end if its time is
/// another one in the other graph.
fn is_same(old: &NodeShape, new: &NodeShape) -> bool {
    let effect = |node: &NodeShape| std::mem::discriminant(&node.effect);
    (&old.name, &old.step, effect(old), old.repeat) == (&new.name, &new.step, effect(new), new.repeat)
}
