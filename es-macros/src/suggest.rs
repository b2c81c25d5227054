//! Suggestions for misspelt keys and missing names.

/// Returns the candidate with the smallest edit distance to `found`, if it is similar.
pub(crate) fn closest<'a>(found: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may differ: `nmae` is similar to `name`, but `kind` to none.
    let tolerated = found.chars().count().max(3).div_ceil(3);
    let found = found.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&found, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= tolerated && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns `; did you mean `name`?`, or an empty string.
pub(crate) fn did_you_mean<'a>(found: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    closest(found, candidates).map_or_else(String::new, |candidate| format!("; did you mean `{candidate}`?"))
}

/// Returns `one of `name`, `version``, or the only name.
pub(crate) fn expected<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    let one_of = if names.len() > 1 { "one of " } else { "" };
    format!("{one_of}{}", names.join(", "))
}

/// Converts `OrderPlaced` to `order-placed`, the conventional form of a wire name.
pub(crate) fn kebab_case(ident: &str) -> String {
    let mut text = String::new();
    let mut after_lowercase = false;
    for letter in ident.chars() {
        if letter == '_' {
            after_lowercase = false;
            text.push('-');
            continue;
        }
        if letter.is_uppercase() && after_lowercase {
            text.push('-');
        }
        after_lowercase = !letter.is_uppercase();
        text.extend(letter.to_lowercase());
    }
    text
}

/// Converts `print_label` to `PrintLabel`, the conventional form of the name of a type.
pub(crate) fn camel_case(ident: &str) -> String {
    let capitalize = |word: &str| {
        let mut letters = word.chars();
        letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect::<String>()
    };
    ident.split('_').map(capitalize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_recognized() {
        let keys = ["name", "version", "upcast", "alias", "codec", "sample"];
        assert_eq!(closest("nmae", keys), Some("name"));
        assert_eq!(closest("Version", keys), Some("version"));
        assert_eq!(closest("aliases", keys), Some("alias"));
        assert_eq!(closest("upcasts", keys), Some("upcast"));
    }

    #[test]
    fn a_different_word_is_not_a_typing_error() {
        let keys = ["name", "version", "tag"];
        assert_eq!(closest("kind", keys), None);
        assert_eq!(closest("id", keys), None);
        assert_eq!(did_you_mean("kind", keys), "");
    }

    #[test]
    fn wire_names_follow_the_names_of_variants() {
        assert_eq!(kebab_case("OrderPlaced"), "order-placed");
        assert_eq!(kebab_case("Placed"), "placed");
        assert_eq!(kebab_case("VATChanged"), "vatchanged");
        assert_eq!(kebab_case("Placed_2"), "placed-2");
    }

    #[test]
    fn types_follow_the_names_of_functions() {
        assert_eq!(camel_case("print_label"), "PrintLabel");
        assert_eq!(camel_case("_pay"), "Pay");
    }
}
