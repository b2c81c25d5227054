//! [`PersonalField`]: the declaration of a field of personal data, and [`Personal`], a sealed value.

use std::fmt;
use std::marker::PhantomData;

use es_core::model::SubjectId;
use serde::{Deserialize, Serialize};

/// The declaration of a field of personal data: its name and the type of its values.
///
/// The name is part of the authentication of each value, so that a value cannot be moved to another field. It must not
/// change.
///
/// ```
/// use es_personal::PersonalField;
/// const EMAIL: PersonalField<String> = PersonalField::new("customer-email");
/// ```
pub struct PersonalField<T> {
    name: &'static str,
    of: PhantomData<fn() -> T>,
}

impl<T> PersonalField<T> {
    /// Declares the field with this name, which is unique in the application.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, of: PhantomData }
    }

    /// Returns the name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<T> fmt::Debug for PersonalField<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PersonalField").field(&self.name).finish()
    }
}

/// A sealed value of a field of personal data: the subject and the ciphertext, never the value itself.
///
/// Use it as a field of events, states and rows of views. Two sealed values are equal if one is a copy of the other;
/// the same value sealed twice gives two different ciphertexts.
///
/// ```
/// # use es_core::prelude::*;
/// # use serde::{Deserialize, Serialize};
/// use es_personal::Personal;
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
/// enum CustomerEvent {
///     #[event(name = "customer-registered")]
///     Registered { email: Personal<String> },
/// }
/// ```
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Personal<T> {
    subject: SubjectId,
    /// Version, nonce and ciphertext, as base64.
    sealed: String,
    #[serde(skip)]
    of: PhantomData<fn() -> T>,
}

impl<T> Personal<T> {
    pub(crate) const fn new(subject: SubjectId, sealed: String) -> Self {
        Self { subject, sealed, of: PhantomData }
    }

    /// Returns the subject under whose key the value is sealed.
    #[must_use]
    pub const fn subject(&self) -> &SubjectId {
        &self.subject
    }

    pub(crate) fn sealed(&self) -> &str {
        &self.sealed
    }
}

impl<T> Clone for Personal<T> {
    fn clone(&self) -> Self {
        Self::new(self.subject.clone(), self.sealed.clone())
    }
}

impl<T> PartialEq for Personal<T> {
    fn eq(&self, other: &Self) -> bool {
        (&self.subject, &self.sealed) == (&other.subject, &other.sealed)
    }
}

impl<T> Eq for Personal<T> {}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Personal(of {:?}, sealed)", self.subject)
    }
}
