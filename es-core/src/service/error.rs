use std::fmt;

use crate::model::ErrorChain;

/// A component of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Component {
    /// The intake with this name.
    Intake(String),
    /// The reactor with this name.
    Reactor(String),
    /// The consumer group with this name.
    Group(String),
    /// The projection with this name.
    Projection(String),
    /// The store.
    Store,
    /// The receiver of signals.
    Signals,
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intake(name) => write!(f, "intake {name:?}"),
            Self::Reactor(name) => write!(f, "reactor {name:?}"),
            Self::Group(name) => write!(f, "group {name:?}"),
            Self::Projection(name) => write!(f, "projection {name:?}"),
            Self::Store => f.write_str("store"),
            Self::Signals => f.write_str("signals"),
        }
    }
}

/// A component that failed, panicked, or stopped while the service was running.
#[derive(Debug)]
pub struct ComponentFailure {
    /// The component.
    pub component: Component,
    /// The failure.
    pub error: Box<dyn std::error::Error + Send + Sync>,
}

/// A component of a service failed, or the shutdown was not complete. The log is intact: unfinished work is done at the
/// next start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub struct ServiceError {
    /// The components that failed, in the order of their failures. Unless the caller or a signal stopped the service,
    /// the first failure did.
    pub failed: Vec<ComponentFailure>,
    /// The components that were aborted, and projections that had not caught up.
    pub unfinished: Vec<Component>,
    /// Whether the shutdown was forced before its deadline, for example by a second signal.
    pub was_forced: bool,
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the service did not shut down cleanly")?;
        for ComponentFailure { component, error } in &self.failed {
            write!(f, "; {component}: {}", ErrorChain(&**error))?;
        }
        for component in &self.unfinished {
            write!(f, "; {component} did not finish")?;
        }
        if self.was_forced { f.write_str("; the shutdown was forced") } else { Ok(()) }
    }
}
