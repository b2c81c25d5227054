//! Tests of metadata.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;

/// Case 05: large integers became floats, digits and repeated keys were dropped.
#[test]
fn every_digit_is_kept() {
    let text = r#"{"f":0.1234567890123456789,"k":1,"n":12345678901234567890123,"p":1.10,"u":[1E400,-0,{"d":1e-999}]}"#;
    let metadata: Metadata = text.parse().expect("metadata");
    assert_eq!(metadata.to_string(), text);
    assert_eq!(serde_json::from_str::<Metadata>(text).expect("metadata"), metadata);
    assert_eq!(metadata.get("n").and_then(|n| n.parse::<u128>().ok()), Some(12_345_678_901_234_567_890_123));
    assert_ne!(Metadata::new().with("p", 1.1), r#"{"p":1.10}"#.parse().expect("metadata"));
    let wide = Metadata::new().with("i", i128::MIN).with("u", u128::MAX).with("f", 0.1_f32);
    assert_eq!(wide.to_string(), format!(r#"{{"f":0.1,"i":{},"u":{}}}"#, i128::MIN, u128::MAX));
}

/// A store of format 3 has the text that `serde_json::Value` writes.
#[test]
fn the_text_is_that_of_a_value_for_what_a_value_can_represent() {
    let value = json!({"b": [1, -2.5, 1e300, null, true, "é\n\"\u{7f}"], "a": {"z": {}, "y": []}, "c": ""});
    let spelled =
        r#" { "c":"", "b": [1,-2.5, 1e+300, null ,true,"\u00e9\u000a\"\u007F"], "a":{ "z":{ }, "y" : [ ] } } "#;
    let parsed: Metadata = spelled.parse().expect("metadata");
    let built: Metadata = value.as_object().expect("an object").clone().into_iter().collect();
    assert_eq!(built.to_string(), value.to_string());
    assert_eq!(parsed.to_string(), value.to_string());
    assert_eq!(parsed.get_str("c"), Some(""));
    assert_eq!(parsed.get("b").and_then(|b| b.parse::<Vec<Value>>().ok()).map(|b| b.len()), Some(6));
    assert_eq!(serde_json::from_value::<Metadata>(value).expect("metadata"), built);
}

#[test]
fn a_repeated_key_is_refused_at_every_level() {
    for text in [r#"{"k":1,"k":2}"#, r#"{"o":{"k":1,"\u006b":2}}"#, r#"{"o":[[{"k":1,"k":1}]]}"#] {
        let error = text.parse::<Metadata>().expect_err("a repeated key");
        assert!(matches!(&error, MetadataError::DuplicateKey { key } if key == "k"), "{error}");
        let error = serde_json::from_str::<Metadata>(text).expect_err("a repeated key");
        assert!(error.to_string().contains("key \"k\" occurs twice in one object"), "{error}");
    }
}

#[test]
fn what_is_not_metadata_is_refused() {
    let deep = |levels: usize| format!(r#"{{"d":{}1{}}}"#, "[".repeat(levels), "]".repeat(levels));
    assert!(deep(MAX_METADATA_DEPTH - 1).parse::<Metadata>().is_ok());
    for levels in [MAX_METADATA_DEPTH, 10_000] {
        assert!(matches!(deep(levels).parse::<Metadata>(), Err(MetadataError::TooDeep)), "{levels}");
    }
    let reserved = r#"{"r":[{"$serde_json::private::RawValue":"1"}]}"#;
    assert!(matches!(reserved.parse::<Metadata>(), Err(MetadataError::ReservedKey { .. })));
    for text in ["", "[]", "1", "{", r#"{"a":01}"#, r#"{"a":NaN}"#, r#"{"a":"\ud800"}"#, r#"{"a":[1,]}"#, "{}x"] {
        assert!(matches!(text.parse::<Metadata>(), Err(MetadataError::Json(_))), "{text:?}");
    }
}

#[test]
fn a_float_that_is_not_finite_is_converted_and_not_encoded() {
    let values: [MetadataValue; 3] = [f64::NAN.into(), vec![1.0, f64::INFINITY].into(), Some(f32::NEG_INFINITY).into()];
    for value in values {
        let metadata = Metadata::new().with("f", value);
        assert!(metadata.get("f").is_some_and(|value| value.invalid().is_some()), "{metadata:?}");
        assert!(serde_json::to_string(&metadata).is_err());
    }
    assert_eq!(Metadata::new().with("f", [Some(1.5), None]).to_string(), r#"{"f":[1.5,null]}"#);
}

#[test]
fn message_pack_has_plain_values_and_refuses_a_number_that_it_would_round() {
    let metadata = Metadata::new().with("user", "ada").with("nested", json!({"a": [1, -2, 0.5, null]}));
    let packed = rmp_serde::to_vec_named(&metadata).expect("encodes");
    let plain: BTreeMap<String, Value> = rmp_serde::from_slice(&packed).expect("decodes");
    assert_eq!(plain["nested"], json!({"a": [1, -2, 0.5, null]}));
    assert_eq!(rmp_serde::from_slice::<Metadata>(&packed).expect("decodes"), metadata);
    let error = rmp_serde::to_vec_named(&Metadata::new().with("n", u128::MAX)).expect_err("it has too many digits");
    assert!(error.to_string().contains("only JSON keeps every digit of 34028236692093"), "{error}");
}
