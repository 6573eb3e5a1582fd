//! What the reader accepts, where it says things stand, and what it refuses.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

fn read(text: &str) -> Result<Node, String> {
    parse(text, Path::new("f.yaml")).map_err(|problems| problems.to_string())
}

fn entries(node: &Node) -> &[Entry] {
    match &node.content {
        Content::Map(entries) => entries,
        other => panic!("{other:?} is no mapping"),
    }
}

fn scalar(node: &Node) -> (&str, bool) {
    match &node.content {
        Content::Scalar { text, plain } => (text, *plain),
        other => panic!("{other:?} is no scalar"),
    }
}

#[test]
fn keys_and_values_know_their_places() {
    let root = read("a: 1\nb:\n  - x\n  - key: \"two\"\n").unwrap();
    let [a, b] = entries(&root) else { panic!("{root:?}") };
    assert_eq!(
        (a.key.as_str(), a.key_position, a.value.position),
        ("a", Position { line: 1, column: 1 }, Position { line: 1, column: 4 })
    );
    assert_eq!(scalar(&a.value), ("1", true));
    let Content::List(items) = &b.value.content else { panic!("{b:?}") };
    assert_eq!(items.first().unwrap().position, Position { line: 3, column: 5 });
    let inner = entries(items.last().unwrap()).first().unwrap();
    assert_eq!(
        (scalar(&inner.value), inner.value.position),
        (("two", false), Position { line: 4, column: 10 })
    );
}

#[test]
fn nothing_is_an_empty_mapping() {
    for text in ["", "# only a comment\n", "---\n", "\u{feff}", "{}", "~"] {
        assert_eq!(entries(&read(text).unwrap()), [], "{text:?}");
    }
}

#[test]
fn json_is_read() {
    let root = read("{\"a\": [1, true, null], \"b\": {\"c\": \"d\"}}").unwrap();
    assert_eq!(entries(&root).len(), 2);
}

#[test]
fn only_unquoted_nothing_is_null() {
    let root = read("a:\nb: ~\nc: null\nd: \"\"\ne: 'null'\n").unwrap();
    let nulls: Vec<_> = entries(&root).iter().map(|entry| entry.value.is_null()).collect();
    assert_eq!(nulls, [true, true, true, false, false]);
}

#[test]
fn what_is_refused_is_refused_all_at_once_with_its_place() {
    let error = read("a: &anchor 1\nb: *anchor\nc: !!str 5\na: 2\n[x]: 1\n").unwrap_err();
    let lines: Vec<_> = error.lines().filter(|line| line.starts_with("f.yaml")).collect();
    assert_eq!(
        lines,
        [
            "f.yaml:1:4: anchors (`&name`) are not supported",
            "f.yaml:2:4: aliases (`*name`) are not supported",
            "f.yaml:3:4: tags (`!name`) are not supported",
            "f.yaml:4:1: the key `a` is here for the second time; the first is in line 1",
            "f.yaml:5:1: a key is plain text, found a list or a mapping",
        ]
    );
}

#[test]
fn a_second_document_is_refused() {
    assert!(read("a: 1\n---\nb: 2\n").unwrap_err().starts_with("f.yaml:2:1: a second document"));
}

#[test]
fn broken_yaml_names_the_place() {
    for (text, place) in [
        ("a: [1, 2\n", "f.yaml:2:"),
        ("a: 'x\n", "f.yaml:"),
        ("a: b: c\n", "f.yaml:1:"),
        ("a:\n\t- b\n", "f.yaml:2:"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.starts_with(place) && error.contains("not YAML"), "{text:?}: {error}");
    }
}

#[test]
fn sizes_are_bounded() {
    let deep = format!("{}{}", "[".repeat(MAX_DEPTH + 5), "]".repeat(MAX_DEPTH + 5));
    assert!(read(&deep).unwrap_err().contains("nested deeper"));
    let long = format!("a: \"{}\"", "x".repeat(MAX_BYTES));
    assert!(read(&long).unwrap_err().contains("at most"));
    let many = format!("[{}]", "a,".repeat(MAX_NODES + 1));
    assert!(read(&many).unwrap_err().contains("values in one file"));
}

#[test]
fn hcl_is_recognized() {
    for text in [
        "server {\n  trust_domain = \"demo.org\"\n}\n",
        "# comment\n\nagent {\n}\n",
        "  trust_domain = \"demo.org\"\n",
        "// comment\nplugins \"x\" {\n",
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains("SPIRE's HCL") && error.contains("help: keep the names"), "{error}");
    }
    for text in ["server: {}\n", "{\"server\": {}}", "a: x = y\n", "- a = b\n"] {
        assert!(read(text).is_ok(), "{text}");
    }
}

proptest::proptest! {
    /// Whatever the bytes: an answer, never a panic.
    #[test]
    fn any_text_is_answered(text in "[-:\\[\\]{}a-b\"'#&*!|>%@`, \n\t0-9]{0,80}") {
        let _ = read(&text);
    }
}
