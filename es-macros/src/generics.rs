//! Types and bounds of generated implementations.

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::visit::Visit;
use syn::{DeriveInput, Generics, Path, Type};

use crate::ast::AggregateInput;

/// The `where` clause of an implementation: that of the type, and for a generic type what the implementation needs of
/// it as a whole. A bound on the type and not on its parameters holds for a `PhantomData<T>`, too, whatever `T` is.
///
/// A type without parameters gets no bounds: what it lacks is reported where it is needed, in better words.
pub(crate) fn where_clause(source: &DeriveInput, bounds: &TokenStream, more: &[TokenStream]) -> TokenStream {
    let own = source.generics.where_clause.iter().flat_map(|clause| &clause.predicates);
    let own: Vec<TokenStream> = own.map(|predicate| quote!(#predicate)).collect();
    let own_and = own.iter().chain(more);
    if is_generic(&source.generics) { quote!(where Self: #bounds, #(#own_and,)*) } else { quote!(where #(#own_and,)*) }
}

/// `Serialize + DeserializeOwned`
pub(crate) fn serde_bounds(krate: &Path) -> TokenStream {
    quote!(#krate::__private::serde::Serialize + #krate::__private::serde::de::DeserializeOwned)
}

/// Whether a type has parameters that are types or constants.
pub(crate) fn is_generic(generics: &Generics) -> bool {
    generics.type_params().next().is_some() || generics.const_params().next().is_some()
}

/// Whether a type depends on one of the parameters.
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

/// The type of the declared consistency level.
pub(crate) fn level(input: &AggregateInput<'_>) -> TokenStream {
    let krate = &input.krate;
    match &input.consistency {
        Some(level) => quote!(#krate::model::#level),
        None => quote!(#krate::model::Local),
    }
}
