//! Types and bounds of generated implementations.

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::visit::Visit;
use syn::{DeriveInput, Generics, Path, Type};

use crate::ast::{AggregateInput, Declared};

/// Returns the `where` clause of an implementation: the clause of the type and, for a generic type, the bounds.
///
/// The bounds are on `Self`, not on the parameters: a type with a `PhantomData<T>` then needs no bound on `T`. A type
/// without parameters gets no bounds, because the compiler reports a missing implementation more precisely where it is
/// needed.
pub(crate) fn where_clause(source: &DeriveInput, bounds: &TokenStream, more: &[TokenStream]) -> TokenStream {
    let own = source.generics.where_clause.iter().flat_map(|clause| &clause.predicates);
    let own: Vec<TokenStream> = own.map(|predicate| quote!(#predicate)).collect();
    let predicates = own.iter().chain(more);
    if is_generic(&source.generics) {
        quote!(where Self: #bounds, #(#predicates,)*)
    } else {
        quote!(where #(#predicates,)*)
    }
}

/// Returns `Serialize + DeserializeOwned`.
pub(crate) fn serde_bounds(krate: &Path) -> TokenStream {
    quote!(#krate::__private::serde::Serialize + #krate::__private::serde::de::DeserializeOwned)
}

/// Returns whether a type has type or const parameters.
pub(crate) fn is_generic(generics: &Generics) -> bool {
    generics.type_params().next().is_some() || generics.const_params().next().is_some()
}

/// Returns a type without parentheses, and without the invisible ones around a `$ty` of a macro.
pub(crate) fn ungroup(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => ungroup(&group.elem),
        Type::Paren(paren) => ungroup(&paren.elem),
        ty => ty,
    }
}

/// Returns whether a type mentions one of the parameters.
pub(crate) fn mentions_parameter(ty: &Type, generics: &Generics) -> bool {
    struct Search<'a> {
        generics: &'a Generics,
        found: bool,
    }
    impl<'ast> Visit<'ast> for Search<'_> {
        fn visit_ident(&mut self, ident: &'ast Ident) {
            self.found |= self.generics.type_params().any(|parameter| parameter.ident == *ident);
            self.found |= self.generics.const_params().any(|parameter| parameter.ident == *ident);
        }
    }
    let mut search = Search { generics, found: false };
    search.visit_type(ty);
    search.found
}

/// Returns the type of the declared consistency level.
pub(crate) fn level(input: &AggregateInput<'_>) -> TokenStream {
    let krate = &input.krate;
    match &input.consistency {
        Some(Declared { name, .. }) => quote!(#krate::model::#name),
        None => quote!(#krate::model::Local),
    }
}
