//! How do I read the state of an aggregate at a past time?
//!
//! ```text
//! cargo run -p es-examples --example state_at_a_time
//! ```

use std::sync::Arc;
use std::time::Duration;

use es_core::Timestamp;
use es_core::aggregate::LoadError;
use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_core::testing::ManualClock;
use es_examples::order::{Order, Place, Ship, Status};

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A clock that the example sets. A program uses the clock of the system, which is the default.
    let monday: Timestamp = "2026-03-02T09:00:00Z".parse()?;
    let clock = Arc::new(ManualClock::at(monday));
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::with_clock(clock.clone()));
    let orders = Repository::<Order>::new(store).with_clock(clock.clone());
    let day = Duration::from_secs(24 * 60 * 60);
    let (tuesday, wednesday) = (monday + day, monday + 2 * day);

    orders.execute(&1, Place { customer: "ada".into(), cents: 500 }).await?;
    // The parcel left on Tuesday. The report of it is recorded on Wednesday.
    clock.set(wednesday);
    orders.execute(&1, Ship).occurred_at(tuesday).await?;

    let as_known = orders.load_at(&1, AsOf::Recorded(tuesday)).await?;
    assert_eq!(as_known.state.status, Status::Placed); // what the store knew on Tuesday
    let as_it_was = orders.load_at(&1, AsOf::Occurred(tuesday)).await?;
    assert_eq!(as_it_was.state.status, Status::Shipped); // what was true on Tuesday

    let first = orders.load_at_revision(&1, Revision::FIRST).await?;
    assert_eq!(first.state.status, Status::Placed);
    let later = orders.load_at_revision(&1, Revision::new(7)).await;
    assert!(matches!(later, Err(LoadError::NotYet { .. })));
    println!("known on Tuesday: {:?}; true on Tuesday: {:?}", as_known.state.status, as_it_was.state.status);
    Ok(())
}
