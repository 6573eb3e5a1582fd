//! Layers, origins, and what the loader says about wrong input, over the real settings of the three programs.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{agent::AgentSettings, proxy::ProxySettings, server::ServerSettings};

const SERVER: &str = "trust_domain: demo.org\ndata_dir: /var/lib/svidecar\n";

/// A file in a directory of its own.
struct Input {
    dir: TempDir,
}

impl Input {
    fn new(text: &str) -> Self {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("f.yaml"), text).unwrap();
        Self { dir }
    }

    fn loader<T: Settings>(&self, prefix: &str) -> Loader<T> {
        Loader::new(prefix).file(self.dir.path().join("f.yaml"))
    }

    /// The text without the path of the directory, so that it can be compared.
    fn relative(&self, text: impl ToString) -> String {
        text.to_string().replace(&format!("{}/", self.dir.path().display()), "")
    }
}

fn server(text: &str) -> Result<Loaded<ServerSettings>, String> {
    let input = Input::new(text);
    input.loader("SVIDECAR_SERVER").load().map_err(|problems| input.relative(problems))
}

fn proxy(text: &str) -> Result<Loaded<ProxySettings>, String> {
    let input = Input::new(text);
    input.loader("SVIDECAR_PROXY").load().map_err(|problems| input.relative(problems))
}

fn variables(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn from_environment<T: Settings>(prefix: &str, all: &[(&str, &str)]) -> Result<Loaded<T>, String> {
    Loader::new(prefix).env(variables(all)).load().map_err(|problems| problems.to_string())
}

/// The first lines of all problems, without their help.
fn sentences(error: &str) -> Vec<&str> {
    error.lines().filter(|line| !line.starts_with(' ')).collect()
}

#[test]
fn a_small_file_is_the_defaults_and_what_it_says() {
    let loaded = server(SERVER).unwrap();
    let expected = ServerSettings::new("demo.org".parse().unwrap(), "/var/lib/svidecar");
    assert_eq!(loaded.value, expected);
}

#[test]
fn settings_made_in_code_have_the_same_defaults() {
    let read: AgentSettings = serde_json::from_value(
        json!({"trust_domain": "demo.org", "server_address": "localhost", "data_dir": "/d"}),
    )
    .unwrap();
    assert_eq!(read, AgentSettings::new("demo.org".parse().unwrap(), "localhost", "/d"));
    let read: ProxySettings = serde_json::from_value(json!({})).unwrap();
    assert_eq!(read, ProxySettings::default());
}

#[test]
fn each_layer_wins_over_the_one_before() {
    let input = Input::new(
        "trust_domain: demo.org\ndata_dir: /d\nbind_port: 1\nlog:\n  level: warn\n  format: json\nca_ttl: 48h\n",
    );
    let loaded = input
        .loader::<ServerSettings>("SVIDECAR_SERVER")
        .env(variables(&[
            ("SVIDECAR_SERVER_LOG__LEVEL", "debug"),
            ("SVIDECAR_SERVER_BIND_PORT", "2"),
            ("PATH", "/bin"),
        ]))
        .flags(vec![("bind_port".into(), json!(3)), ("socket_path".into(), json!(null))])
        .load()
        .unwrap();
    assert_eq!(loaded.value.bind_port, 3);
    assert_eq!(loaded.value.log.level.as_str(), "debug");
    assert_eq!(loaded.value.log.format, crate::log::LogFormat::Json);

    let origin = |key: &str| input.relative(loaded.origin(key));
    assert_eq!(origin("bind_port"), "command line");
    assert_eq!(origin("log.level"), "environment variable SVIDECAR_SERVER_LOG__LEVEL");
    assert_eq!(origin("log.format"), "f.yaml:6:11");
    assert_eq!(origin("ca_ttl"), "f.yaml:7:9");
    assert_eq!(origin("socket_path"), "default");
}

/// A variable or a flag sets its own key. What is wrong with another key of the same group is not its fault.
#[test]
fn a_group_of_several_layers_stands_in_the_file() {
    let input = Input::new("trust_domain: demo.org\ndata_dir: /d\nca_subject:\n  country: [DE]\n");
    let loaded = input
        .loader::<ServerSettings>("SVIDECAR_SERVER")
        .env(variables(&[
            ("SVIDECAR_SERVER_CA_SUBJECT__COMMON_NAME", "demo"),
            ("SVIDECAR_SERVER_LOG__LEVEL", "debug"),
        ]))
        .flags(vec![("health.listen".into(), json!("127.0.0.1:9"))])
        .load()
        .unwrap();
    let origin = |key: &str| input.relative(loaded.origin(key));
    assert_eq!(origin("ca_subject.country[0]"), "f.yaml:4:13");
    assert_eq!(
        origin("ca_subject.common_name"),
        "environment variable SVIDECAR_SERVER_CA_SUBJECT__COMMON_NAME"
    );
    assert_eq!(origin("ca_subject.organization"), "default");
    assert_eq!(origin("health.listen"), "command line");
    let error = loaded
        .check(|_, problems| {
            problems.add("ca_subject.organization", "nobody");
            problems.add("ca_subject.common_name", "too short");
            problems.add("log.format", "unreadable");
        })
        .unwrap_err();
    assert_eq!(
        input.relative(error),
        "environment variable `SVIDECAR_SERVER_CA_SUBJECT__COMMON_NAME`: too short\n\
         f.yaml: `log.format`: unreadable\n\
         f.yaml:4:3: nobody"
    );
}

#[test]
fn what_only_a_type_refuses_is_placed_like_the_rest() {
    let error = server(&format!("{SERVER}bind_address: nowhere\n")).unwrap_err();
    assert_eq!(error, "f.yaml:3:15: `bind_address`: invalid IP address syntax");
    let error = from_environment::<ServerSettings>(
        "SVIDECAR_SERVER",
        &[
            ("SVIDECAR_SERVER_TRUST_DOMAIN", "demo.org"),
            ("SVIDECAR_SERVER_DATA_DIR", "/d"),
            ("SVIDECAR_SERVER_BIND_ADDRESS", "nowhere"),
        ],
    )
    .unwrap_err();
    assert_eq!(
        error,
        "environment variable `SVIDECAR_SERVER_BIND_ADDRESS`: `bind_address`: invalid IP address syntax"
    );
}

#[test]
fn effective_settings_are_all_of_them_with_their_origin() {
    let loaded = proxy(
        "inbound:\n- {name: a, listen: 8443, forward: 8080, policy: p.yaml}\noutbound: []\nworkers: 2\n",
    )
    .unwrap();
    let settings = loaded.effective();
    let one =
        |key: &str| settings.iter().find(|setting| setting.key == key).unwrap_or_else(|| panic!("{key}"));
    assert_eq!(one("inbound[0].listen").value, json!("127.0.0.1:8443"));
    assert!(one("inbound[0].listen").origin.to_string().ends_with("f.yaml:2:21"));
    assert_eq!(one("inbound[0].timeouts.idle").value, json!("1m"));
    assert_eq!(one("inbound[0].timeouts.idle").origin, Origin::Default);
    assert_eq!(one("inbound[0].identity_headers.xfcc_details").value, json!(["by", "hash", "uri"]));
    assert_eq!(one("trust_domain").value, json!(null));
    assert_eq!(one("outbound").value, json!([]));
}

#[test]
fn secrets_are_hidden_in_what_is_shown_and_in_what_is_said() {
    let input = Input::new("trust_domain: demo.org\nserver_address: s\ndata_dir: /d\njoin_token: tok-123\n");
    let loaded = input.loader::<AgentSettings>("SVIDECAR_AGENT").load().unwrap();
    assert_eq!(loaded.value.join_token.as_ref().unwrap().expose(), "tok-123");
    assert!(!format!("{:?}", loaded.effective()).contains("tok-123"));
}

#[test]
fn all_problems_come_at_once_with_their_places() {
    let error = server(
        "trust_domain: Demo.Org\nbind_prt: 8081\nbind_port: many\nca_ttl: 24\nca_key_type: ec-p265\nlog:\n  levle: info\n  \
         format: xml\nadmin_ids: spiffe://demo.org/admin\ndisable_jwt_svids: yes\n",
    )
    .unwrap_err();
    assert_eq!(
        sentences(&error),
        [
            "f.yaml:1:15: `trust_domain`: `Demo.Org` is not a trust domain: the trust domain has the character 'D'; only a-z, 0-9, `.`, `-` and `_` are allowed",
            "f.yaml:2:1: unknown key `bind_prt` at the top level",
            "f.yaml:3:12: `bind_port`: expected a whole number from 0 to 65535, found `many`",
            "f.yaml:4:9: `ca_ttl`: `24` is not a duration: the unit is missing; write `24s`, `24m` or `24h`",
            "f.yaml:5:14: `ca_key_type`: expected one of ec-p256, ec-p384, rsa-2048, rsa-4096, found `ec-p265`",
            "f.yaml:7:3: unknown key `levle` in `log`",
            "f.yaml:8:11: `log.format`: expected one of text, json, found `xml`",
            "f.yaml:9:12: `admin_ids`: expected a list, found `spiffe://demo.org/admin`",
            "f.yaml:10:20: `disable_jwt_svids`: expected `true` or `false`, found `yes`",
        ],
        "{error}"
    );
    for help in [
        "did you mean `bind_port`?",
        "did you mean `ec-p256`?",
        "did you mean `level`?",
        "write `[spiffe://demo.org/admin]`",
    ] {
        assert!(error.contains(help), "{help} is not in\n{error}");
    }
}

#[test]
fn a_key_at_the_wrong_place_is_shown_the_right_one() {
    let error = server(&format!("{SERVER}format: json\n")).unwrap_err();
    assert!(
        error.contains("f.yaml:3:1: unknown key `format`") && error.contains("`log.format` exists"),
        "{error}"
    );
    let error = server(&format!("{SERVER}log:\n  bind_port: 1\n")).unwrap_err();
    assert!(error.contains("`bind_port` exists"), "{error}");
    let error = server(&format!("{SERVER}log:\n  zzz: 1\n")).unwrap_err();
    assert!(error.contains("known keys here: level, format"), "{error}");
}

#[test]
fn spire_users_are_shown_the_way() {
    for (text, part) in [
        ("server:\n  trust_domain: demo.org\n", "put its keys at the top level"),
        ("log_level: DEBUG\n", "`log: {level: …}`"),
        ("plugins: {}\n", "has no plugins"),
    ] {
        let error = server(text).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn empty_keys_are_as_if_they_were_not_there() {
    let loaded = server(&format!("{SERVER}log:\nca_ttl:\nadmin_ids: ~\n")).unwrap();
    assert_eq!(loaded.value.ca_ttl.to_string(), "24h");
    let error = server("trust_domain:\ndata_dir: /d\n").unwrap_err();
    assert!(error.contains("`trust_domain` is missing"), "{error}");
}

#[test]
fn numbers_and_truth_may_stand_in_quotes() {
    let loaded = server(&format!("{SERVER}bind_port: \"9\"\ndisable_jwt_svids: \"true\"\n")).unwrap();
    assert_eq!((loaded.value.bind_port, loaded.value.disable_jwt_svids), (9, true));
}

#[test]
fn problems_in_list_items_name_the_item() {
    let error = proxy(
        "inbound:\n  - name: a\n    listen: 0.0.0.0\n    forward: 127.0.0.1:1\n    policy: p.yaml\n  - {name: b, listen: 1, policy: q.yaml}\n\
         outbound:\n  - name: c\n    listen: 2\n    upstream: {endpoints: [], server_id: [\"spiffe://demo.org\"]}\n",
    )
    .unwrap_err();
    assert_eq!(
        sentences(&error),
        [
            "f.yaml:3:13: `inbound[0].listen`: `0.0.0.0` is not an address: expected `HOST:PORT`, `PORT` or `unix:/PATH`",
            "f.yaml:6:5: `inbound[1].forward` is missing",
            "f.yaml:10:27: `outbound[0].upstream.endpoints` needs at least one value",
            "f.yaml:10:43: `outbound[0].upstream.server_id[0]`: `spiffe://demo.org` is not a pattern: spiffe://demo.org names the trust domain itself, which is no workload's ID; write spiffe://demo.org/** for every workload in it",
        ],
        "{error}"
    );
}

#[test]
fn one_mistake_is_one_problem() {
    let error = proxy("inbound:\n  - a\n  - {name: b, listen: 1, forward: 2, polcy: x}\n").unwrap_err();
    assert_eq!(
        error,
        "f.yaml:2:5: `inbound[0]`: expected keys with values, found `a`\n\
         f.yaml:3:38: unknown key `polcy` in `inbound[1]`\n    help: did you mean `policy`?"
    );
    let error = proxy("workers:2\n").unwrap_err();
    assert!(error.ends_with("help: put a space after the colon: `workers: 2`"), "{error}");
    let error = proxy("inbound: [{name: b, listen: 1, forward: 2}]\n").unwrap_err();
    assert_eq!(
        error,
        "f.yaml:1:11: `inbound[0].policy` is missing\n    \
         help: File of the policy; a relative path begins at the directory of this file."
    );
}

#[test]
fn the_environment_alone_is_enough() {
    let loaded = from_environment::<ServerSettings>(
        "SVIDECAR_SERVER",
        &[
            ("SVIDECAR_SERVER_TRUST_DOMAIN", "demo.org"),
            ("SVIDECAR_SERVER_DATA_DIR", "/d"),
            ("SVIDECAR_SERVER_ADMIN_IDS", "spiffe://demo.org/a, spiffe://demo.org/b"),
            ("SVIDECAR_SERVER_CA_SUBJECT__COMMON_NAME", "demo"),
            ("SVIDECAR_SERVER_DISABLE_JWT_SVIDS", "true"),
            ("SVIDECAR_SERVER_JWT_ISSUER", ""),
        ],
    )
    .unwrap();
    assert_eq!(loaded.value.admin_ids.len(), 2);
    assert_eq!(loaded.value.ca_subject.common_name, "demo");
    assert_eq!(loaded.value.ca_subject.country, ["US"]);
    assert!(loaded.value.disable_jwt_svids);
    assert_eq!(loaded.value.jwt_issuer, None);
    assert_eq!(loaded.file(), None);
}

#[test]
fn variables_that_look_like_ours_are_errors() {
    let error = from_environment::<ProxySettings>(
        "SVIDECAR_PROXY",
        &[
            ("SVIDECAR_PROXY_LOG_LEVEL", "debug"),
            ("SVIDECAR_PROXY_LOG", "debug"),
            ("SVIDECAR_PROXY_INBOUND", "x"),
            ("SVIDECAR_PROXY_WORKERS", "0"),
            ("SVIDECAR_PROXY_SERVICE_HOST", "10.0.0.1"),
            ("SVIDECAR_SERVER_TRUST_DOMAIN", "other.org"),
        ],
    )
    .unwrap_err();
    assert_eq!(
        sentences(&error),
        [
            "environment variable `SVIDECAR_PROXY_LOG_LEVEL`: no setting has this name",
            "environment variable `SVIDECAR_PROXY_LOG`: `log` is a group of settings",
            "environment variable `SVIDECAR_PROXY_INBOUND`: `inbound` can only be set in the configuration file",
            "environment variable `SVIDECAR_PROXY_WORKERS`: `workers`: `0` is not a number of workers; expected `auto` or 1 to 256",
        ],
        "{error}"
    );
    assert!(error.contains("did you mean `SVIDECAR_PROXY_LOG__LEVEL`?"), "{error}");
    assert!(error.contains("such as `SVIDECAR_PROXY_LOG__"), "{error}");
}

#[test]
fn documents_are_read_like_settings() {
    let read = |text: &str| read_document::<crate::proxy::UpstreamSettings>(text, Path::new("u.yaml"));
    let document = read("endpoints: [a:1]\nserver_id: [\"spiffe://demo.org/a\"]\n").unwrap();
    let mut problems = Problems::default();
    problems.add("endpoints[0]", "too far");
    assert_eq!(document.place(problems).unwrap_err().to_string(), "u.yaml:1:13: too far");
    assert_eq!(
        read("endpoints: [a:1]\n").unwrap_err().to_string(),
        "u.yaml: `server_id` is missing\n    help: Who may answer: SPIFFE IDs or patterns; a whole trust domain is \
         written out as `spiffe://TRUST-DOMAIN/**`."
    );
}

/// I2: the variable of the SPIFFE Workload Endpoint is the default of the setting.
#[test]
fn variables_of_the_field_are_below_the_file() {
    let spiffe = [("SPIFFE_ENDPOINT_SOCKET", "unix:///run/spire.sock"), ("SPIFFE_TRUST_DOMAIN", "demo.org")];
    let loaded = from_environment::<ProxySettings>("SVIDECAR_PROXY", &spiffe).unwrap();
    assert_eq!(loaded.value.workload_api.as_deref(), Some("unix:///run/spire.sock"));
    assert_eq!(loaded.origin("trust_domain").to_string(), "environment variable SPIFFE_TRUST_DOMAIN");

    let input = Input::new("workload_api: unix:///run/file.sock\n");
    let loaded = input.loader::<ProxySettings>("SVIDECAR_PROXY").env(variables(&spiffe)).load().unwrap();
    assert_eq!(loaded.value.workload_api.as_deref(), Some("unix:///run/file.sock"));
}

#[test]
fn the_environment_may_name_the_file() {
    let input = Input::new(SERVER);
    let path = input.dir.path().join("f.yaml").display().to_string();
    let loaded =
        from_environment::<ServerSettings>("SVIDECAR_SERVER", &[("SVIDECAR_SERVER_CONFIG", &path)]).unwrap();
    assert_eq!(loaded.file(), Some(Path::new(&path)));
}

#[test]
fn wrong_flags_say_so() {
    let error = Loader::<ServerSettings>::new("SVIDECAR_SERVER")
        .flags(vec![
            ("trust_domain".into(), json!("demo.org")),
            ("data_dir".into(), json!("/d")),
            ("log.level".into(), json!("loud")),
        ])
        .load()
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "command line: `log.level`: `loud` is not a log level; expected one of error, warn, info, debug, trace, off"
    );
}

#[test]
fn what_a_check_finds_wrong_with_a_flag_names_its_key() {
    let error = Loader::<crate::agent::AgentSettings>::new("SVIDECAR_AGENT")
        .flags(vec![
            ("trust_domain".into(), json!("demo.org")),
            ("server_address".into(), json!("127.0.0.1")),
            ("data_dir".into(), json!("/d")),
            ("join_token".into(), json!("")),
        ])
        .load()
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "command line: `join_token`: it is empty\n    help: `svidecar-server token generate` makes one"
    );
}

#[test]
fn unreadable_files_are_named() {
    let error = Loader::<ServerSettings>::new("SVIDECAR_SERVER")
        .file("/nonexistent/s.yaml")
        .load()
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("/nonexistent/s.yaml: the file cannot be read: No such file"), "{error}");

    let input = Input::new("");
    fs::write(input.dir.path().join("f.yaml"), b"a: \xff\n").unwrap();
    let error = input.loader::<ServerSettings>("SVIDECAR_SERVER").load().unwrap_err();
    assert_eq!(input.relative(error), "f.yaml: the file is not UTF-8 text: byte 4 is wrong");
}

#[test]
fn further_checks_are_placed_like_our_own() {
    let input = Input::new(&format!("{SERVER}ca_ttl: 1h\n"));
    let loaded = input.loader::<ServerSettings>("SVIDECAR_SERVER").load().unwrap();
    let error = loaded
        .check(|settings, problems| {
            problems.add("ca_ttl", format!("{} is too short", settings.ca_ttl));
            problems.add_with_help("default_x509_svid_ttl", "too long for it", "write 10m");
        })
        .unwrap_err();
    assert_eq!(
        input.relative(error),
        "f.yaml: `default_x509_svid_ttl`: too long for it\n    help: write 10m\nf.yaml:3:9: 1h is too short"
    );
}

#[test]
fn policies_are_found_beside_the_file() {
    let input = Input::new("inbound:\n- {name: a, listen: 1, forward: 2, policy: policies/p.yaml}\n");
    let loaded = input.loader::<ProxySettings>("SVIDECAR_PROXY").load().unwrap();
    assert_eq!(loaded.value.inbound.first().unwrap().policy, input.dir.path().join("policies/p.yaml"));
}

#[test]
fn every_format_of_the_schemas_has_its_check() {
    fn formats(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                if map.get("type") == Some(&json!("string"))
                    || map.get("type") == Some(&json!(["string", "null"]))
                {
                    found.extend(map.get("format").and_then(Value::as_str).map(str::to_owned));
                }
                map.values().for_each(|value| formats(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| formats(value, found)),
            _ => {}
        }
    }
    let mut found = vec![];
    for schema in
        [json_schema::<ServerSettings>(), json_schema::<AgentSettings>(), json_schema::<ProxySettings>()]
    {
        formats(&schema, &mut found);
    }
    assert!(found.len() > 30, "{found:?}");
    // `ip` is checked by its type, a password is not checked at all.
    found.retain(|format| !["ip", "password"].contains(&format.as_str()));
    for format in found {
        assert!(FORMATS.iter().any(|(name, _)| *name == format), "{format}");
    }
}
