//! [`DeliveryScope`]: on which node the events of replicated streams are delivered.

use crate::model::RecordedEvent;
use crate::store::EventStore;

/// On which nodes a consumer with an effect receives an event of a replicated stream.
///
/// Every node has the event. Without a scope, every node would send the same letter. Events without a
/// [stamp](crate::model::Stamp) belong to the node that has them, and are always delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum DeliveryScope {
    /// On the node on which the event originated. This is the default.
    ///
    /// A node that takes a new origin still receives the events of its former origins. A node whose store was lost, or
    /// restored from a backup that is older than the origin, does not know them any more: the events that it wrote
    /// before are then delivered on no node. A store of a replica that was opened without the hook of the replica does
    /// not know its origins either, and delivers every event.
    #[default]
    Origin,
    /// On every node, when the event arrives there. The effect must be one of this node, such as a local cache, or
    /// recognize a repeat by the [delivery key](crate::consumer::group::DeliveryKey), which is the same on every node.
    EveryNode,
}

impl DeliveryScope {
    /// Returns `true` if the scope includes an event on the node of this store. A store without a replica has no other
    /// nodes: it includes every event.
    #[must_use]
    pub fn includes(self, store: &dyn EventStore, event: &RecordedEvent) -> bool {
        match (self, &event.data.stamp) {
            (Self::EveryNode, _) | (Self::Origin, None) => true,
            (Self::Origin, Some(stamp)) => store.is_own_origin(stamp.dot.origin),
        }
    }
}
