#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use super::*;

pub(super) fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(svidecar_config::args::normalize(line.split(' ').map(OsString::from)))
}

/// A file of a test, which lives as long as its directory.
pub(super) fn file(directory: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Runs a command and gives its output and exit code.
pub(super) fn execute_line(line: &str) -> Result<(String, ExitCode), CliError> {
    let (mut console, output) = Console::captured();
    let code = execute(parse(line).map_err(|error| error.to_string()).unwrap().command, &mut console)?;
    let text = String::from_utf8(output.lock().unwrap().clone()).unwrap();
    Ok((text, code))
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn what_comes_after_two_dashes_is_the_apps() {
    let cli = parse("svidecar run -config p.yaml --log-level debug -- ./app -spiffeID --help").unwrap();
    let Command::Run(args) = cli.command else { panic!("not run") };
    let options = ProxyOptions::from(args);
    assert_eq!(options.config, Some("p.yaml".into()));
    assert_eq!(options.child.unwrap(), ["./app", "-spiffeID", "--help"]);
    assert!(options.overrides.contains(&("log.level".into(), "debug".into())));
    let Command::Run(args) = parse("svidecar run").unwrap().command else { panic!("not run") };
    assert!(ProxyOptions::from(args).child.is_none());
}

#[test]
fn wrong_usage_ends_with_64() {
    assert_eq!(main(["svidecar", "nonsense"].map(OsString::from)), ExitCode::from(64));
    let error = execute_line("svidecar check --config /nonexistent/p.yaml").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::from(64));
}

#[test]
fn completions_and_schema_are_printed() {
    let (text, _) = execute_line("svidecar completions bash").unwrap();
    assert!(text.contains("_svidecar()"), "{text}");
    let (text, _) = execute_line("svidecar config schema").unwrap();
    let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(schema["properties"]["inbound"].is_object());
}

const PROXY: &str = "
inbound:
  - {name: web, listen: 8443, forward: 127.0.0.1:8080, policy: orders.yaml}
";

#[test]
fn check_reports_policies_and_their_problems() {
    let directory = tempfile::tempdir().unwrap();
    let config = file(&directory, "proxy.yaml", PROXY);
    let line = format!("svidecar check --config {}", config.display());
    file(&directory, "orders.yaml", super::policy::tests::ORDERS);
    let (text, code) = execute_line(&line).unwrap();
    assert!(text.contains("orders.yaml: 2 rules, 2 tests passed"), "{text}");
    assert_eq!(code, ExitCode::SUCCESS);

    file(&directory, "orders.yaml", "service: orders\nrules: [{name: r, form: any}]\n");
    let error = execute_line(&line).unwrap_err();
    assert!(error.to_string().contains("orders.yaml:2:19: unknown key `form`"), "{error}");
    assert_eq!(error.exit_code(), ExitCode::from(64));
    let (text, code) = execute_line(&format!("{line} -o json")).unwrap();
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["valid"], false);
    assert_eq!((&answer["problems"][0]["line"], &answer["problems"][0]["column"]), (&2.into(), &19.into()));
    assert_eq!(code, ExitCode::from(64));
}

#[test]
fn config_show_says_where_values_come_from() {
    let directory = tempfile::tempdir().unwrap();
    let config = file(&directory, "proxy.yaml", PROXY);
    let line = format!("svidecar config show --config {} --workers 2", config.display());
    let (text, _) = execute_line(&line).unwrap();
    assert!(text.lines().any(|line| line.starts_with("workers") && line.ends_with("command line")), "{text}");
    assert!(!text.contains("drain_timeout"), "{text}");
    let (text, _) = execute_line(&format!("{line} --effective --output json")).unwrap();
    let settings: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(
        settings
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["key"] == "drain_timeout" && one["origin"] == "default")
    );
}
