//! The arguments of the note that is recorded with an action of an operator.

use clap::Args;

/// Who acts without a name.
pub(super) const UNNAMED: &str = "command line";

/// Who and why.
#[derive(Debug, Clone, Args)]
pub(crate) struct NoteArgs {
    /// Reason, recorded with the action
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: String,
    /// Person, recorded with the action
    #[arg(long, value_name = "NAME")]
    pub(super) by: Option<String>,
}
