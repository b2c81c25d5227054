//! The commands of `projections` and their arguments.

use clap::{Args, Subcommand};
use es_core::Position;

/// A command of `projections`.
#[derive(Debug, Subcommand)]
pub enum ProjectionsCommand {
    /// List the projections of the service with their states
    #[command(after_help = "Example:\n  es --url http://127.0.0.1:9000 projections list")]
    List,
    /// List the parked keys of a projection: keys with an event that could not be applied
    Parked {
        /// The projection
        name: String,
    },
    /// Pause a projection; it stays paused after a restart
    Pause(ReasonArgs),
    /// Resume a paused projection
    Resume(ReasonArgs),
    /// Rebuild the view beside the active one, and switch to it when it has caught up
    Rebuild(ReasonArgs),
    /// Empty the view and rebuild it; readers see an incomplete view meanwhile
    Reset(ReasonArgs),
    /// Retry the parked events of a key
    Retry {
        /// The projection
        name: String,
        /// The key, as `parked` lists it
        key: String,
    },
    /// Skip the event that parked a key; the view lacks it until it is rebuilt
    Skip {
        /// The projection
        name: String,
        /// The key, as `parked` lists it
        key: String,
        /// The position of the event, as `parked` lists it
        position: Position,
        /// The reason, stored in the log
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// A projection, and the reason of a request.
#[derive(Debug, Args)]
pub struct ReasonArgs {
    /// The projection
    pub name: String,
    /// The reason, stored in the log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
}
