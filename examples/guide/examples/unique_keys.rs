//! How do I allow one customer per e-mail address?
//!
//! ```text
//! cargo run -p es-examples --example unique_keys
//! ```

use std::sync::Arc;

use es_core::model::{NameError, UniqueKey};
use es_core::prelude::*;
use es_core::retention::{DeleteKind, Note};
use es_core::store::memory::MemoryStore;
use es_core::store::{FailedCheck, delete_stream};
use serde::{Deserialize, Serialize};

/// An e-mail address in one form, so that `Ada@example.org` and `ada@example.org` are one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Email(String);

impl Email {
    fn new(text: &str) -> Result<Self, NameError> {
        let email = Self(text.trim().to_lowercase());
        UniqueKey::new("customer-email", &email.0)?; // refuses an empty and a too long text
        Ok(email)
    }

    fn key(&self) -> Result<UniqueKey, NameError> {
        UniqueKey::new("customer-email", &self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
enum CustomerEvent {
    #[event(name = "customer-registered")]
    Registered { email: Email },
    #[event(name = "customer-email-changed")]
    EmailChanged { email: Email },
}

#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "customer", id = u64, event = CustomerEvent)]
struct Customer {
    email: Option<Email>,
}

impl Evolve for Customer {
    fn initial(_: &u64) -> Self {
        Self { email: None }
    }

    fn evolve(&mut self, event: &CustomerEvent, _: &EventContext<'_>) {
        let (CustomerEvent::Registered { email } | CustomerEvent::EmailChanged { email }) = event;
        self.email = Some(email.clone());
    }
}

/// Registers a customer, or changes the address of a registered one.
#[derive(Clone)]
struct SetEmail {
    email: Email,
}

impl Decide<SetEmail> for Customer {
    type Rejection = NameError;

    fn decide(&self, SetEmail { email }: SetEmail, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, NameError> {
        let key = email.key()?;
        match &self.email {
            None => Ok(Decision::from(CustomerEvent::Registered { email }).claiming(key)),
            Some(before) if *before == email => Ok(Decision::unchanged()),
            Some(before) => {
                let changed = Decision::from(CustomerEvent::EmailChanged { email });
                Ok(changed.releasing(before.key()?).claiming(key))
            }
        }
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new());
    let customers = Repository::<Customer>::new(Arc::clone(&store));
    let set = |email| Ok::<_, NameError>(SetEmail { email: Email::new(email)? });
    customers.execute(&1, set("Ada@example.org")?).await?;

    // The claim is checked in the commit: of two concurrent registrations one fails.
    let conflict = customers.execute(&2, set("ada@example.org")?).await.expect_err("customer 1 holds the key");
    let conflict = conflict.conflict().expect("the key is held");
    assert!(matches!(conflict.failed[..], [FailedCheck::UniqueKey { .. }]));
    println!("{conflict}");

    // A change releases the old address with the same event.
    customers.execute(&1, set("ada@example.net")?).await?;
    customers.execute(&2, set("ada@example.org")?).await?;
    assert_eq!(store.owner(&Email::new("ada@example.org")?.key()?).await?, Some(Customer::stream(&2)?));

    // A deletion frees the keys of the stream.
    let note = Note { by: Some("ada".into()), reason: Some("asked to be forgotten".into()) };
    delete_stream(&*store, &Customer::stream(&2)?, DeleteKind::Hard, ExpectedRevision::Any, note).await?;
    customers.execute(&3, set("ada@example.org")?).await?;
    Ok(())
}
