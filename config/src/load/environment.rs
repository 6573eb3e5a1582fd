//! The environment: which variables are ours, and the values they hold.

use std::path::PathBuf;

use svidecar_document::{
    finding::Finding,
    keys,
    node::Node,
    schema::{Schemas, Shape},
};

use super::nodes;

/// The variables of this process. What is not UTF-8 is read with replacement characters.
#[must_use]
pub fn process_environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect()
}

/// Name of the variable for a key: `SVIDECAR_SERVER_LOG__LEVEL`.
pub(super) fn variable(prefix: &str, key: &str) -> String {
    format!("{prefix}_{}", key.replace('.', "__").to_uppercase())
}

/// The configuration file that the environment names.
pub(super) fn config_file(prefix: &str, environment: &[(String, String)]) -> Option<PathBuf> {
    let name = variable(prefix, "config");
    let value = environment.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value);
    value.filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// A variable that sets a key.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) key: String,
    pub(super) value: Node,
}

/// Variables that the field agrees on, by name and key.
pub(super) fn aliases(known: &[(&str, &str)], environment: &[(String, String)]) -> Vec<Variable> {
    known
        .iter()
        .filter_map(|(name, key)| {
            let (_, value) = environment.iter().find(|(variable, _)| variable == name)?;
            Some(Variable { name: (*name).to_owned(), key: (*key).to_owned(), value: nodes::scalar(value) })
        })
        .collect()
}

/// Our variables, and the names of those that look like ours and are none, with what is wrong with each.
pub(super) fn ours(
    prefix: &str,
    environment: &[(String, String)],
    schemas: &Schemas<'_>,
) -> (Vec<Variable>, Vec<(String, Finding)>) {
    let known: Vec<_> = schemas
        .keys()
        .into_iter()
        .map(|(key, schema)| (variable(prefix, &key), key, schemas.shape(schema)))
        .collect();
    let mut values = Vec::new();
    let mut findings = Vec::new();
    for (name, value) in environment {
        let rest = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_'));
        let Some(rest) = rest.filter(|rest| *rest != "CONFIG") else { continue };
        let found = known.iter().find(|(variable, ..)| variable == name);
        let found = found.map(|(_, key, shape)| (key, &**shape));
        let mut refuse = |message: String, help: Option<String>| {
            findings.push((name.clone(), Finding { key: rest.to_owned(), position: None, message, help }));
        };
        match found {
            None if is_service_variable(rest) => {}
            None => {
                let settable = known.iter().filter(|(.., shape)| is_settable(shape, schemas));
                let meant = keys::nearest(name, settable.map(|(variable, ..)| variable.as_str()));
                refuse(
                    "no setting has this name".into(),
                    meant.map(|name| format!("did you mean `{name}`?")),
                );
            }
            Some((key, Shape::Group { properties, .. })) => {
                let first = properties.keys().next().map(String::as_str).unwrap_or_default();
                let example = variable(prefix, &keys::child(key, first));
                refuse(
                    format!("`{key}` is a group of settings"),
                    Some(format!("set one of them, such as `{example}`")),
                );
            }
            Some((key, shape)) if !is_settable(shape, schemas) => {
                refuse(format!("`{key}` can only be set in the configuration file"), None);
            }
            Some((key, shape)) => {
                let value = match shape {
                    Shape::List { .. } => nodes::comma_separated(value),
                    _ => nodes::scalar(value),
                };
                values.push(Variable { name: name.clone(), key: key.clone(), value });
            }
        }
    }
    (values, findings)
}

/// Whether one line of text can say it: a single value, or a list of those.
fn is_settable<'s>(shape: &Shape<'s>, schemas: &Schemas<'s>) -> bool {
    match shape {
        Shape::List { items, .. } => {
            !matches!(*schemas.shape(items), Shape::Group { .. } | Shape::Table { .. } | Shape::List { .. })
        }
        Shape::Group { .. } | Shape::Table { .. } => false,
        _ => true,
    }
}

/// Kubernetes tells every pod where the services of its namespace are (`X_SERVICE_HOST`, `X_PORT_443_TCP_ADDR`, …).
/// For a service named like the program these begin as our variables do; they are not meant for us.
fn is_service_variable(rest: &str) -> bool {
    let rest = format!("_{rest}");
    let after_port = rest.rsplit_once("_PORT").map(|(_, after)| after);
    let protocol = |after: &str| {
        let mut parts = after.trim_start_matches('_').splitn(3, '_');
        parts.next().is_some_and(|port| port.parse::<u16>().is_ok())
            && parts.next().is_some_and(|protocol| ["TCP", "UDP", "SCTP"].contains(&protocol))
            && parts.next().is_none_or(|what| ["PROTO", "ADDR"].contains(&what))
    };
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT")
        || match after_port {
            Some("") => true,
            Some(after) => protocol(after),
            None => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_the_prefix_and_the_key() {
        assert_eq!(variable("SVIDECAR_SERVER", "log.level"), "SVIDECAR_SERVER_LOG__LEVEL");
    }

    #[test]
    fn variables_of_kubernetes_services_are_not_ours() {
        for name in [
            "SERVICE_HOST",
            "SERVICE_PORT",
            "SERVICE_PORT_GRPC",
            "PORT",
            "PORT_8081_TCP",
            "PORT_8081_TCP_PROTO",
            "PORT_8081_TCP_PORT",
            "PORT_8081_UDP_ADDR",
            "METRICS_SERVICE_HOST",
            "METRICS_PORT_9090_TCP_ADDR",
        ] {
            assert!(is_service_variable(name), "{name}");
        }
        for name in ["TRUST_DOMAIN", "TRUSTDOMAIN", "PORTS", "PORT_X", "LOG__LEVEL", "SERVICE"] {
            assert!(!is_service_variable(name), "{name}");
        }
    }
}
