#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use clap::CommandFactory as _;
use svidecar_process::{
    args,
    command::Failure as _,
    settings::SettingsArgs as _,
    testing::{captured, closed},
};

use super::*;

fn words(line: &str) -> impl Iterator<Item = OsString> {
    line.split(' ').map(OsString::from)
}

pub(super) fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(args::normalize(words(line)))
}

/// A file of a test, which lives as long as its directory.
pub(super) fn file(directory: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Runs a command and gives its output and exit code.
pub(super) fn execute_line(line: &str) -> Result<(String, ExitCode), CliError> {
    let (mut console, seen) = captured();
    let code = parse(line).map_err(|error| error.to_string()).unwrap().execute(&mut console)?;
    Ok((seen.out(), code))
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn what_comes_after_two_dashes_is_the_apps() {
    let cli = parse("svidecar run -config p.yaml --log-level debug -- ./app -spiffeID --help").unwrap();
    let Command::Run(args) = cli.command else { panic!("not run") };
    assert_eq!(args.settings.config, Some("p.yaml".into()));
    assert_eq!(args.command, ["./app", "-spiffeID", "--help"]);
    assert!(args.settings.flags().contains(&("log.level", "debug".into())));
    let Command::Run(args) = parse("svidecar run").unwrap().command else { panic!("not run") };
    assert!(args.command.is_empty());
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

#[test]
fn a_reader_that_went_away_is_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    file(&directory, "orders.yaml", super::policy::tests::ORDERS);
    let config = file(&directory, "proxy.yaml", PROXY);
    let invalid = file(&directory, "invalid.yaml", "inbuond: []\n");
    let (config, invalid) = (config.display(), invalid.display());
    for (line, code) in [
        ("svidecar completions bash".to_owned(), 1),
        ("svidecar config schema".to_owned(), 1),
        (format!("svidecar config show --effective --config {config}"), 1),
        (format!("svidecar check --config {config}"), 1),
        (format!("svidecar check --config {invalid} --output json"), 64),
        (format!("svidecar policy test --config {config}"), 1),
        (format!("svidecar policy explain --config {config} --peer none GET /"), 1),
    ] {
        let (mut console, seen) = closed();
        assert_eq!(command::run::<Cli>(words(&line), &mut console), ExitCode::from(code), "{line}");
        assert_eq!(seen.err(), "", "{line}");
    }
}
