//! The fingerprint of a state type: a number that changes with its fields, their types and what serde is told of them,
//! and with nothing else. Comments, layout, visibility and other attributes may change at will.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Data, DeriveInput, Fields};

/// The fingerprint of a definition, and of the version that `snapshot(version = ...)` gives it.
pub(crate) fn of(input: &DeriveInput, version: u32) -> u64 {
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
            }
        }
        Data::Union(_) => {}
    }
    digest.0
}

/// FNV-1a: small, and the same on every machine and for ever.
struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }

    /// A text and an end, so that `ab, c` and `a, bc` differ.
    fn text(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.byte(byte));
        self.byte(0);
    }

    /// Tokens one by one, without the white space between them and without the invisible groups that a macro leaves.
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

    fn fingerprint(definition: &str) -> u64 {
        of(&syn::parse_str(definition).expect("a definition"), 1)
    }

    #[test]
    fn comments_layout_and_other_attributes_do_not_count() {
        let plain = fingerprint("struct Order { id: u64, lines: Vec<Line> }");
        let dressed = fingerprint(
            "/// An order.\n#[derive(Clone)] #[aggregate(category = \"order\")] pub struct Order {\n\
             /// Its id.\npub(crate) id: u64, /* the lines */ lines: Vec < Line >, }",
        );
        assert_eq!(plain, dressed);
    }

    #[test]
    fn names_types_order_and_what_serde_is_told_count() {
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
        ];
        let mut seen: Vec<u64> = definitions.iter().map(|definition| fingerprint(definition)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), definitions.len());
    }

    #[test]
    fn the_version_counts() {
        let order = syn::parse_str("struct Order { id: u64 }").expect("a definition");
        assert_ne!(of(&order, 1), of(&order, 2));
    }

    #[test]
    fn the_fingerprint_of_a_definition_is_the_same_for_ever() {
        assert_eq!(fingerprint("struct Order { id: u64 }"), 18_341_752_575_063_457_309);
    }
}
