use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn find(pointers: &[&str], text: &str) -> Vec<Option<String>> {
    let pointers: Vec<Pointer> = pointers.iter().map(|pointer| pointer.parse().unwrap()).collect();
    let found = Search::new(pointers.iter()).find(text).unwrap();
    found
        .into_iter()
        .map(|found| found.map(|raw| raw.get().to_owned()))
        .collect()
}

/// RFC 6901, section 5.
#[test]
fn the_examples_of_the_standard_lead_where_they_should() {
    let text =
        r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;
    let cases = [
        ("", text),
        ("/foo", r#"["bar","baz"]"#),
        ("/foo/0", r#""bar""#),
        ("/", "0"),
        ("/a~1b", "1"),
        ("/c%d", "2"),
        ("/e^f", "3"),
        ("/g|h", "4"),
        (r"/i\j", "5"),
        ("/k\"l", "6"),
        ("/ ", "7"),
        ("/m~0n", "8"),
    ];
    let pointers = cases.map(|(pointer, _)| pointer);
    let expected: Vec<_> = cases.iter().map(|(_, value)| Some((*value).to_owned())).collect();
    assert_eq!(find(&pointers, text), expected);
    for pointer in pointers {
        assert_eq!(pointer.parse::<Pointer>().unwrap().to_string(), pointer);
    }
}

#[test]
fn what_is_no_pointer_is_told() {
    for (text, fault) in [
        ("a", PointerFault::NoSlash),
        ("#/a", PointerFault::NoSlash),
        ("/~", PointerFault::Tilde),
        ("/a~2", PointerFault::Tilde),
        ("/~é", PointerFault::Tilde),
    ] {
        assert_eq!(text.parse::<Pointer>(), Err(fault), "{text}");
    }
    assert_eq!("/a".repeat(65).parse::<Pointer>(), Err(PointerFault::TooDeep));
}

#[test]
fn what_is_not_there_is_not_found() {
    let text = r#"{"list":[10,[20]],"n":1}"#;
    let pointers = [
        "/list/2",
        "/list/-",
        "/list/01",
        "/list/1/0",
        "/n/x",
        "/list/x",
        "/0",
    ];
    let expected = [None, None, None, Some("20".to_owned()), None, None, None];
    assert_eq!(find(&pointers, text), expected);
    assert_eq!(find(&["/a", ""], "7"), [None, Some("7".to_owned())]);
}

/// `jsonb` keeps the last one of keys that are alike, with nothing of the others in it.
#[test]
fn the_last_one_of_keys_that_are_alike_counts() {
    let found = find(&["/a", "/a/x", "/a/y"], r#"{"a":{"x":1},"b":0,"a":{"y":2}}"#);
    assert_eq!(found, [Some(r#"{"y":2}"#.to_owned()), None, Some("2".to_owned())]);
}

#[test]
fn a_value_keeps_its_very_text_and_may_be_deep() {
    let number = "123456789012345678901234567890.1234567890";
    assert_eq!(
        find(&["/n"], &format!(r#"{{"n": {number} }}"#)),
        [Some(number.to_owned())]
    );
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let text = format!(r#"{{"skipped":{deep},"n":1,"deep":{deep}}}"#);
    assert_eq!(find(&["/n", "/deep"], &text), [Some("1".to_owned()), Some(deep)]);
}

#[test]
fn what_is_no_json_is_an_error() {
    let search = Search::new([&"/a".parse().unwrap()].into_iter());
    for text in ["", "{", r#"{"a":1"#, r#"{"a":1} 2"#, r#"{"\ud800":1}"#] {
        assert!(search.find(text).is_err(), "{text}");
    }
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c~/0-2\"]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-c~/0-2]{0,2}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// One pass over the text finds what a pointer finds in the parsed value.
    #[test]
    fn a_search_finds_what_serde_json_finds(
        value in json(),
        pointers in prop::collection::vec(prop::collection::vec("[a-c0-2]|~0|~1", 0..4), 1..8),
    ) {
        let pointer = |steps: &Vec<String>| steps.iter().map(|step| format!("/{step}")).collect::<String>();
        let pointers: Vec<_> = pointers.iter().map(pointer).collect();
        let texts: Vec<&str> = pointers.iter().map(String::as_str).collect();
        let found = find(&texts, &value.to_string());
        let expected: Vec<_> = texts.iter().map(|text| value.pointer(text).map(ToString::to_string)).collect();
        prop_assert_eq!(found, expected);
    }
}
