use crate::consumer::lifecycle::GroupError;

/// What a consumer said of a delivery does not count.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The consumer took too long: the event has been given to another, or comes again. What was done for it is done
    /// twice, under the same delivery key. Where that happens often, allow more time.
    #[error("the answer came too late, the event is delivered again; answer sooner, or let the group allow more time")]
    TooLate,
    /// The group does not run any more. Whether the answer was written is unknown; if not, the event comes again.
    #[error(transparent)]
    Group(#[from] GroupError),
}
