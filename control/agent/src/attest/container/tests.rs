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

#[test]
fn a_cgroup_is_believed_if_root_owns_all_above_it() {
    let root = tempfile::tempdir().unwrap();
    let is_root = nix::unistd::geteuid().is_root();
    fs::create_dir_all(root.path().join("system.slice/nginx.service")).unwrap();
    fs::create_dir_all(root.path().join("memory/batch")).unwrap();
    let id = ContainerId::parse(&"01".repeat(32)).unwrap();
    let service = format!("0::/system.slice/nginx.service/libpod-payload-{}\n", id.as_str());
    let batch = format!("4:memory:/batch/{}\n", id.as_str());
    let hidden = format!("0::/../{}\n", id.as_str());
    let gone = format!("0::/no/such/{}\n", id.as_str());
    let roots = |text: &str| roots_up_to(text, root.path());
    assert_eq!(roots(&gone), if is_root { None } else { Some(false) });
    assert_eq!(roots(&hidden), None);
    for text in [&service, &batch] {
        assert_eq!(roots(text), Some(is_root), "{text}");
        // One that cannot be seen proves nothing, and one that is another's disproves.
        assert_eq!(roots(&format!("{text}{hidden}")), if is_root { None } else { Some(false) });
    }
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(root.path().join("memory/batch"), open).unwrap();
    assert_eq!(roots(&format!("{hidden}{batch}")), Some(false));

    let judged = |delegation: Delegation, is_roots| {
        let id = ContainerId::parse(&"01".repeat(32)).unwrap();
        judge(vec![Container { id, runtime: Runtime::Podman, delegation }], is_roots).remove(0).delegation
    };
    let service = Delegation::Service("/system.slice/nginx.service".into());
    assert_eq!(judged(service.clone(), Some(true)), Delegation::None);
    assert_eq!(judged(service.clone(), Some(false)), service);
    assert_eq!(judged(service.clone(), None), service);
    assert_eq!(judged(Delegation::None, Some(false)), Delegation::Foreign);
    assert_eq!(judged(Delegation::None, None), Delegation::None);
    assert_eq!(judged(Delegation::User(1000), Some(false)), Delegation::User(1000));
    assert_eq!(judged(Delegation::Foreign, Some(true)), Delegation::Foreign);
}

/// On whatever this test runs: it is in the same place as the agent, which is itself.
#[tokio::test]
async fn the_place_of_this_process_is_found() {
    let caller = Caller::pin(i32::try_from(std::process::id()).unwrap()).unwrap();
    let locator = Locator::new(Own::read());
    match locator.place(&caller).unwrap() {
        Place::Host => assert!(locator.own.containers.is_empty() && locator.own.mounted.is_none()),
        Place::Containers(all) => assert!(all.iter().all(|c| locator.holds_the_agent(&c.id))),
        Place::Own(mounted) => assert_eq!(Some(mounted), locator.own.mounted),
        Place::Unclear(why) => panic!("{why}"),
    }
}
