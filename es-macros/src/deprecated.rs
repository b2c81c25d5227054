//! The lint `deprecated` in generated code, which names what the user has marked with `#[deprecated]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Data, DeriveInput};

/// Returns `#[allow(deprecated)]` if one of the attributes is `#[deprecated]`. Otherwise nothing is returned, because a
/// crate with `#![forbid(deprecated)]` does not accept the attribute.
pub(crate) fn allow_deprecated<'a>(attributes: impl IntoIterator<Item = &'a Attribute>) -> Option<TokenStream> {
    let is_deprecated = |attribute: &Attribute| attribute.path().is_ident("deprecated");
    attributes.into_iter().any(is_deprecated).then(|| quote!(#[allow(deprecated)]))
}

/// Returns the attributes of a type, its variants and its fields.
pub(crate) fn all_attributes(source: &DeriveInput) -> Vec<&Attribute> {
    let mut attributes: Vec<&Attribute> = source.attrs.iter().collect();
    match &source.data {
        Data::Struct(data) => attributes.extend(data.fields.iter().flat_map(|field| &field.attrs)),
        Data::Enum(data) => {
            for variant in &data.variants {
                attributes.extend(variant.attrs.iter().chain(variant.fields.iter().flat_map(|field| &field.attrs)));
            }
        }
        Data::Union(_) => {}
    }
    attributes
}
