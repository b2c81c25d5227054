//! The fingerprint of a state type: a hash of its fields, their types and their serde attributes. Comments, layout,
//! visibility and other attributes do not change it.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Data, DeriveInput, Fields};

/// Computes the fingerprint of a definition and of `snapshot(version = ...)`.
pub(crate) fn fingerprint(input: &DeriveInput, version: u32) -> u64 {
    let mut digest = Fnv::new();
    digest.text(&version.to_string());
    digest.text(&input.ident.to_string());
    digest.tokens(input.generics.to_token_stream());
    digest.tokens(input.generics.where_clause.to_token_stream());
    digest.serde(&input.attrs);
    match &input.data {
        Data::Struct(data) => {
            digest.text("struct");
            digest.fields(&data.fields);
        }
        Data::Enum(data) => {
            for variant in &data.variants {
                digest.text("variant");
                digest.text(&variant.ident.to_string());
                digest.serde(&variant.attrs);
                digest.fields(&variant.fields);
                // An encoding may contain the discriminant, as that of serde_repr.
                if let Some((_, discriminant)) = &variant.discriminant {
                    digest.text("discriminant");
                    digest.tokens(discriminant.to_token_stream());
                }
            }
        }
        Data::Union(_) => {}
    }
    digest.0
}

/// The FNV-1a hash, which is the same on every platform and in every version of Rust.
struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }

    /// Adds a string and a terminator, so that `ab, c` and `a, bc` differ.
    fn text(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.byte(byte));
        self.byte(0);
    }

    /// Adds tokens one by one, without white space and without the invisible groups of macros.
    fn tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            let TokenTree::Group(group) = token else {
                self.text(&token.to_string());
                continue;
            };
            let (open, close) = match group.delimiter() {
                proc_macro2::Delimiter::Parenthesis => ("(", ")"),
                proc_macro2::Delimiter::Brace => ("{", "}"),
                proc_macro2::Delimiter::Bracket => ("[", "]"),
                proc_macro2::Delimiter::None => {
                    self.tokens(group.stream());
                    continue;
                }
            };
            self.text(open);
            self.tokens(group.stream());
            self.text(close);
        }
    }

    fn serde(&mut self, attributes: &[Attribute]) {
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
            self.tokens(attribute.meta.to_token_stream());
        }
    }

    fn fields(&mut self, fields: &Fields) {
        for field in fields {
            self.text("field");
            self.serde(&field.attrs);
            self.text(&field.ident.as_ref().map_or_else(String::new, ToString::to_string));
            self.tokens(field.ty.to_token_stream());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(definition: &str) -> u64 {
        fingerprint(&syn::parse_str(definition).expect("a definition"), 1)
    }

    #[test]
    fn comments_layout_and_other_attributes_do_not_change_it() {
        let plain = of("struct Order { id: u64, lines: Vec<Line> }");
        let decorated = of("/// An order.\n#[derive(Clone)] #[aggregate(category = \"order\")] pub struct Order {\n\
             /// Its id.\npub(crate) id: u64, /* the lines */ lines: Vec < Line >, }");
        assert_eq!(plain, decorated);
    }

    #[test]
    fn names_types_order_and_serde_attributes_change_it() {
        let definitions = [
            "struct Order { id: u64, total: u64 }",
            "struct Order { id: u64, sum: u64 }",
            "struct Order { id: u32, total: u64 }",
            "struct Order { total: u64, id: u64 }",
            "struct Order { id: u64, #[serde(rename = \"t\")] total: u64 }",
            "#[serde(rename_all = \"camelCase\")] struct Order { id: u64, total: u64 }",
            "struct Order(u64, u64);",
            "enum Order { A(u64), B }",
            "enum Order { A, B(u64) }",
            "enum Order { B(u64), A }",
            "enum Order { A, B }",
            "enum Order { A = 1, B = 2 }",
            "enum Order { A = 2, B = 1 }",
        ];
        let mut seen: Vec<u64> = definitions.iter().map(|definition| of(definition)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), definitions.len());
    }

    #[test]
    fn the_version_changes_it() {
        let order = syn::parse_str("struct Order { id: u64 }").expect("a definition");
        assert_ne!(fingerprint(&order, 1), fingerprint(&order, 2));
    }

    #[test]
    fn the_fingerprint_is_stable() {
        assert_eq!(of("struct Order { id: u64 }"), 18_341_752_575_063_457_309);
    }
}
