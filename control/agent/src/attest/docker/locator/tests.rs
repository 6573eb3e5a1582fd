//! The corpus: `tests/corpus/CASE/{cgroup,mountinfo,expected}`; its README says where each text is from.

use std::{collections::BTreeSet, fs, path::Path};

use super::*;

/// What the corpus expects of two texts, one line each; of the mounts only if the cgroups name no container.
fn describe(cgroup: &str, mountinfo: &str) -> Vec<String> {
    let named = |runtime: &Runtime| match runtime {
        Runtime::Docker => "docker".to_owned(),
        Runtime::Podman => "podman".to_owned(),
        Runtime::Unnamed => "unnamed".to_owned(),
        Runtime::Other(name) => format!("other({name})"),
    };
    let line = |container: &Container| {
        let by = match &container.delegation {
            Delegation::None => String::new(),
            Delegation::User(uid) => format!(" by user {uid}"),
            Delegation::Service(path) => format!(" by service {path}"),
            Delegation::Foreign => " by a foreigner".to_owned(),
        };
        format!("{} {}{by}", named(&container.runtime), container.id.as_str())
    };
    match containers(cgroup) {
        Err(error) => vec![format!("error {error}")],
        Ok(chain) if !chain.is_empty() => chain.iter().map(line).collect(),
        Ok(_) => match mounted(mountinfo) {
            Err(error) => vec![format!("error {error}")],
            Ok(None) => vec!["none".to_owned()],
            Ok(Some(found)) => {
                let upper_dir = found.upper_dir.as_deref().unwrap_or("-");
                vec![format!("mounts of {} {} on {upper_dir}", named(&found.runtime), found.id.as_str())]
            }
        },
    }
}

#[test]
fn the_corpus_is_understood() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut cases: BTreeSet<_> = fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|case| case.is_dir());
    assert!(cases.len() >= 40, "the corpus has shrunk to {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let read = |name: &str| fs::read_to_string(case.join(name)).unwrap_or_default();
        let found = describe(&read("cgroup"), &read("mountinfo")).join("\n");
        let expected = read("expected");
        if found != expected.trim_end() {
            wrong.push(format!("{}\n  expected {expected}\n  found    {found}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_64_lower_case_hex_digits_are_an_id() {
    assert!(ContainerId::parse(&"a0".repeat(32)).is_some());
    for text in ["", "a0", &"A0".repeat(32), &"g0".repeat(32), &"a0".repeat(33), &"é".repeat(32)] {
        assert!(ContainerId::parse(text).is_none(), "{text}");
    }
}

#[test]
fn nesting_is_bounded() {
    let deep: String = (0..1000).map(|level| format!("/docker/{level:064x}")).collect();
    assert_eq!(containers(&format!("0::{deep}\n")).unwrap().len(), 16);
}

#[test]
fn texts_that_the_kernel_would_not_write_name_nothing() {
    for text in
        ["", "\n", "0:", "::", ":::::", "0::", "no colons", "0::/docker", "0::/docker-.scope", "0::/:-:"]
    {
        assert_eq!(containers(text), Ok(Vec::new()), "{text}");
        assert_eq!(mounted(text), Ok(None), "{text}");
    }
    for text in [" - ", "1 2 3 4 5 - ", "1 2 0:1 / / - x y upperdir=", "1 2 0:1 a/b /etc/hosts rw - x y z"] {
        assert_eq!(mounted(text), Ok(None), "{text}");
    }
}
