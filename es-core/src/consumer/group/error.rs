use crate::consumer::lifecycle::GroupError;

/// A delivery could not be settled.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The delivery timed out, and the event is delivered again with the same delivery key. If this happens often,
    /// increase [`answer_within`](super::ConsumerGroup::answer_within).
    #[error("the delivery timed out and the event is delivered again; settle it sooner, or increase `answer_within`")]
    TooLate,
    /// The group stopped. It is unknown whether the settlement was written; if not, the event is delivered again.
    #[error(transparent)]
    Group(#[from] GroupError),
}
