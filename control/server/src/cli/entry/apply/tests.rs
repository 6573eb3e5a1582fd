#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{collections::HashMap, fs, path::Path};

use svidecar_api::spire::api::types::Entry;
use svidecar_process::testing::captured;

use super::*;
use crate::cli::entry::tests::{whole, without_each};

const FILE: &str = "
entries:
  - spiffe_id: spiffe://demo.org/shop
    parent_id: spiffe://demo.org/node
    selectors: [\"unix:uid:1001\", \"unix:path:/usr/bin/shop\"]
    x509_svid_ttl: 1h
    dns_names: [shop.internal]
  - {spiffe_id: spiffe://demo.org/db, parent_id: spiffe://demo.org/node, selectors: [\"unix:uid:5\"]}
";

fn parse(text: &str) -> Vec<Entry> {
    document::parse(text, Path::new("a.yaml"), "default", &mut HashMap::new()).unwrap()
}

fn problems(text: &str) -> String {
    document::parse(text, Path::new("a.yaml"), "default", &mut HashMap::new()).unwrap_err().to_string()
}

fn printed(plan: &Plan, prune: bool) -> String {
    let (mut console, seen) = captured();
    text::plan(plan, prune, &mut console).unwrap();
    seen.out()
}

#[test]
fn what_was_applied_once_changes_nothing_the_second_time() {
    let wanted = parse(FILE);
    let first = Plan::new(wanted.clone(), vec![], "default").unwrap();
    assert_eq!(first.create, wanted);
    // What the server makes of them: its own order of selectors, a revision, a creation time.
    let mut stored = wanted.clone();
    stored[0].selectors.reverse();
    stored[0].created_at = 5;
    stored[0].revision_number = 2;
    let second = Plan::new(wanted, stored, "default").unwrap();
    assert_eq!(second, Plan { unchanged: 2, ..Plan::default() });
}

#[test]
fn ids_depend_on_the_identity_and_the_owner_alone() {
    let one = parse(FILE);
    let other = parse(&FILE.replace("1h", "2h").replace(
        "\"unix:uid:1001\", \"unix:path:/usr/bin/shop\"",
        "\"unix:path:/usr/bin/shop\", \"unix:uid:1001\"",
    ));
    assert_eq!(one[0].id, other[0].id);
    assert_ne!(one[0].id, one[1].id);
    assert!(one[0].id.starts_with("apply.default."));
    let team = document::parse(FILE, Path::new("a.yaml"), "team", &mut HashMap::new()).unwrap();
    assert!(team[0].id.starts_with("apply.team."));
    let moved = parse(&FILE.replace("uid:1001", "uid:1002"));
    assert_ne!(one[0].id, moved[0].id);
}

#[test]
fn changes_are_shown_field_by_field() {
    let stored = parse(FILE);
    let wanted = parse(&FILE.replace("1h", "30m").replace("shop.internal", "a, b"));
    let plan = Plan::new(wanted, stored.clone(), "default").unwrap();
    let expected = format!(
        "~ spiffe://demo.org/shop  {}\n    x509_svid_ttl: 3600s -> 1800s\n    dns_names: shop.internal -> a, b\n\
         0 to create, 1 to change, 0 to delete, 1 unchanged\n",
        stored[0].id
    );
    assert_eq!(printed(&plan, true), expected);
}

/// Whatever fields the API has: what `apply` did not compare it would never change.
#[test]
fn every_field_is_compared_but_the_identity_and_the_servers_own() {
    const OTHERS: [&str; 6] = ["id", "spiffe_id", "parent_id", "selectors", "revision_number", "created_at"];
    for (field, entry) in without_each(&whole()) {
        let is_same = plan::fields(&entry) == plan::fields(&whole());
        assert_eq!(is_same, OTHERS.contains(&field.as_str()), "{field}");
    }
}

#[test]
fn only_the_owners_entries_are_stale() {
    let stored = parse(FILE);
    let foreign = [
        Entry { id: "apply.other.1".to_owned(), ..Entry::default() },
        Entry { id: "someone".to_owned(), ..Entry::default() },
    ];
    let existing: Vec<_> = stored.iter().chain(&foreign).cloned().collect();
    let plan = Plan::new(stored[..1].to_vec(), existing, "default").unwrap();
    assert_eq!(plan.stale, stored[1..]);
    let text = printed(&plan, false);
    assert!(
        text.ends_with("0 to delete, 1 unchanged\n1 in no file any more; --prune deletes them\n"),
        "{text}"
    );
    let text = printed(&plan, true);
    assert!(text.contains("- spiffe://demo.org/db"), "{text}");
    assert!(text.contains("    selector: unix:uid:5\n"), "{text}");
}

#[test]
fn a_foreign_entry_that_says_the_same_will_do_and_another_stops_everything() {
    let wanted = parse(FILE);
    let same = Entry { id: "by-hand".to_owned(), ..wanted[0].clone() };
    let plan = Plan::new(wanted.clone(), vec![same.clone()], "default").unwrap();
    assert_eq!((plan.unchanged, plan.create.len()), (1, 1));
    let other = Entry { admin: true, ..same };
    let error = Plan::new(wanted, vec![other], "default").unwrap_err().to_string();
    assert!(error.contains("spiffe://demo.org/shop exists as entry by-hand"), "{error}");
    assert!(error.contains("with another admin"), "{error}");
}

#[test]
fn every_problem_is_told_with_its_place() {
    let text = problems(
        "entries:\n  - spiffe_id: demo.org/shop\n    parent_id: spiffe://demo.org/node\n    selectors: [unix, \"a:b\"]\n  \
         - {spiffe_id: spiffe://demo.org/a, parent_id: spiffe://demo.org/node, selectors: []}\n",
    );
    assert!(text.contains("a.yaml:2:"), "{text}");
    assert!(text.contains("selector \"unix\" must be formatted as type:value"), "{text}");
    assert!(text.contains("at least one selector is required"), "{text}");
    let misspelt = problems(&FILE.replace("dns_names", "dns_name"));
    assert!(misspelt.contains("a.yaml:7:5") && misspelt.contains("dns_names"), "{misspelt}");
    let twice = problems(&format!("{FILE}{}", FILE.lines().last().unwrap()));
    assert!(
        twice.contains("the same SPIFFE ID, parent ID and selectors as in a.yaml, entries[1]"),
        "{twice}"
    );
}

#[test]
fn a_directory_is_read_in_order_and_across_files() {
    let directory = tempfile::TempDir::new().unwrap();
    let entry = |name: &str| {
        format!("entries: [{{spiffe_id: spiffe://d/{name}, parent_id: spiffe://d/n, selectors: [\"a:b\"]}}]")
    };
    for (file, name) in [("b.yml", "b"), ("a.yaml", "a"), ("c.json", "c"), ("notes.txt", "not this")] {
        fs::write(directory.path().join(file), entry(name)).unwrap();
    }
    let read = || document::read(&[directory.path().to_owned()], "default");
    let names: Vec<_> = read().unwrap().iter().map(|entry| plan::name(Some(entry))).collect();
    assert_eq!(names, ["spiffe://d/a", "spiffe://d/b", "spiffe://d/c"]);
    fs::write(directory.path().join("d.yaml"), entry("a")).unwrap();
    let error = read().unwrap_err().to_string();
    assert!(error.contains("d.yaml:1:") && error.contains("a.yaml, entries[0]"), "{error}");
}

#[test]
fn an_owner_is_a_plain_name() {
    assert_eq!(owner("team-a").as_deref(), Ok("team-a"));
    for wrong in ["", "a.b", "ä", &"x".repeat(65)] {
        assert!(owner(wrong).is_err(), "{wrong}");
    }
}
