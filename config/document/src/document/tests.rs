//! What reading a document says of every kind of mistake, and where.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::*;
use crate::{check::Empty, text::InvalidValue};

/// A garden: one key of each shape.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Garden {
    /// What the garden is called.
    #[schemars(extend("format" = "capital"))]
    name: String,
    #[serde(default)]
    address: Option<IpAddr>,
    #[serde(default)]
    #[schemars(length(min = 1, max = 2))]
    beds: Vec<Bed>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Bed {
    plants: Plants,
    #[serde(default)]
    width: u8,
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Plants {
    One(String),
    Many(Vec<String>),
}

fn is_capital(text: &str) -> Result<(), InvalidValue> {
    if text.starts_with(char::is_uppercase) {
        return Ok(());
    }
    Err(InvalidValue(format!("`{text}` has no capital")))
}

const DIALECT: Dialect = Dialect {
    formats: &[("capital", is_capital)],
    foreign_keys: &[("lawn", "a lawn is a bed with `plants: grass`")],
    empty: Empty::Mistake,
};

static GARDEN: Kind<Garden> = Kind::new(DIALECT);

fn garden(text: &str) -> Result<Document<Garden>, String> {
    GARDEN.read(text, Path::new("g.yaml"), |_| Problems::default()).map_err(|problems| problems.to_string())
}

fn mistakes(text: &str) -> Vec<String> {
    garden(text).unwrap_err().lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn a_document_becomes_a_value() {
    let garden =
        garden("name: North\nbeds:\n  - plants: rose\n  - {plants: [oak, ash], width: 3}\n").unwrap();
    assert_eq!((garden.value.name.as_str(), garden.value.address), ("North", None));
    let plants: Vec<_> = garden.value.beds.iter().map(|bed| (&bed.plants, bed.width)).collect();
    let several = Plants::Many(vec!["oak".into(), "ash".into()]);
    assert_eq!(plants, [(&Plants::One("rose".into()), 0), (&several, 3)]);
    let lines: Vec<_> = garden.layout.items("beds").map(|position| position.line).collect();
    assert_eq!(lines, [3, 4]);
    assert_eq!(garden.layout.items("nothing").count(), 0);
}

#[test]
fn every_mistake_comes_at_once_with_its_place() {
    let text = "name: north\nlawn: 1\nbeds:\n  - width: 300\n  - {plants: {a: b}}\n  - {plant: x}\n";
    assert_eq!(
        mistakes(text),
        [
            "g.yaml:1:7: `name`: `north` has no capital",
            "g.yaml:2:1: unknown key `lawn` at the top level",
            "help: a lawn is a bed with `plants: grass`",
            "g.yaml:4:3: `beds` has 3 entries; at most 2 are read",
            "g.yaml:4:5: `beds[0].plants` is missing",
            "g.yaml:4:12: `beds[0].width`: expected a whole number from 0 to 255, found `300`",
            "g.yaml:5:14: `beds[1].plants`: expected text, or a list, found keys with values",
            "g.yaml:6:6: unknown key `plant` in `beds[2]`",
            "help: did you mean `plants`?",
        ]
    );
}

/// What the parts are not together is found whether or not each of them is right.
#[test]
fn misfits_come_with_the_other_mistakes() {
    let read = |text| {
        GARDEN.read(text, Path::new("g.yaml"), |root| {
            let mut problems = Problems::default();
            if root.entry("name").and_then(|name| name.value.text()) == Some("Desert") {
                problems.add_about_key("beds", "nothing grows there", "water it");
            }
            problems
        })
    };
    assert!(read("name: North\nbeds: [{plants: rose}]\n").is_ok());
    assert_eq!(
        read("name: Desert\nbeds: [{plants: rose}]\n").unwrap_err().to_string(),
        "g.yaml:2:1: nothing grows there\n    help: water it"
    );
    assert_eq!(
        read("name: Desert\nbeds: [{plants: rose, width: x}]\n").unwrap_err().to_string(),
        "g.yaml:2:1: nothing grows there\n    help: water it\n\
         g.yaml:2:30: `beds[0].width`: expected a whole number from 0 to 255, found `x`"
    );
}

#[test]
fn what_is_missing_is_said_with_its_meaning() {
    assert_eq!(
        mistakes("beds: []\n"),
        [
            "g.yaml: `name` is missing",
            "help: What the garden is called.",
            "g.yaml:1:7: `beds` needs at least one value"
        ]
    );
}

#[test]
fn a_key_without_a_value_is_absent_or_a_mistake() {
    assert_eq!(mistakes("name: North\naddress:\n"), ["g.yaml:2:8: `address`: expected text, found nothing"]);
    let dialect = Dialect { empty: Empty::Absent, ..DIALECT };
    let gardens = Kind::<Garden>::new(dialect);
    let read = gardens.read("name: North\naddress:\n", Path::new("g.yaml"), |_| Problems::default());
    assert_eq!(read.unwrap().value.address, None);
}

#[test]
fn what_only_the_type_refuses_has_its_place_too() {
    assert_eq!(
        mistakes("name: North\naddress: behind the church\n"),
        ["g.yaml:2:10: `address`: invalid IP address syntax"]
    );
}

#[test]
fn problems_are_placed_by_key() {
    let document = garden("name: North\nbeds:\n- plants:\n    rose\n").unwrap();
    let mut problems = Problems::default();
    problems.add("beds[0].plants", "too dry");
    problems.add("beds[0].width", "too narrow");
    problems.add("address", "nobody finds it");
    problems.add_about_key("beds[0].plants", "not here", "plant it elsewhere");
    assert_eq!(
        document.place(problems).unwrap_err().to_string(),
        "g.yaml: `address`: nobody finds it\n\
         g.yaml:3:3: too narrow\n\
         g.yaml:3:3: not here\n    help: plant it elsewhere\n\
         g.yaml:4:5: too dry"
    );
    assert_eq!(document.place(Problems::default()), Ok(()));
}
