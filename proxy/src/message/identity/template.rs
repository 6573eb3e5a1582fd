//! Headers made of parts of the peer's ID.
//!
//! Owns `{name}` in the value of a header: it stands for the segment that the pattern captured.

use http::{HeaderName, HeaderValue};
use svidecar_config::proxy::HeadersFromPath;
use svidecar_id::SpiffeId;
use svidecar_policy::pattern::IdPattern;

use super::names::{HeaderError, header_name};

/// One pattern and the headers that it gives.
#[derive(Debug)]
pub(super) struct PathHeaders {
    pattern: IdPattern,
    headers: Vec<(HeaderName, Vec<Part>)>,
}

/// A part of a template.
#[derive(Debug)]
enum Part {
    Text(String),
    /// The name of a capture of the pattern.
    Capture(String),
}

impl PathHeaders {
    pub(super) fn compile(settings: &HeadersFromPath) -> Result<Self, HeaderError> {
        let names: Vec<_> = settings.id.capture_names().collect();
        let compile = |(name, template): (&String, &String)| {
            let parts = parse(template, &names).map_err(|problem| HeaderError::Template {
                name: name.clone(),
                template: template.clone(),
                problem,
            })?;
            Ok((header_name(name)?, parts))
        };
        let headers = settings.headers.iter().map(compile).collect::<Result<_, _>>()?;
        Ok(Self { pattern: settings.id.clone(), headers })
    }

    /// The headers that the pattern can give.
    pub(super) fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.headers.iter().map(|(name, _)| name)
    }

    /// The headers of one ID; none when the pattern does not match it.
    pub(super) fn fill(&self, id: &SpiffeId) -> Vec<(HeaderName, HeaderValue)> {
        let Some(captures) = self.pattern.captures(id) else { return Vec::new() };
        let value = |parts: &[Part]| {
            let mut text = String::new();
            for part in parts {
                match part {
                    Part::Text(part) => text.push_str(part),
                    Part::Capture(name) => {
                        text.extend(
                            captures.iter().find(|(known, _)| known == name).map(|(_, value)| *value),
                        );
                    }
                }
            }
            HeaderValue::try_from(text).ok()
        };
        self.headers.iter().filter_map(|(name, parts)| Some((name.clone(), value(parts)?))).collect()
    }
}

fn parse(template: &str, names: &[&str]) -> Result<Vec<Part>, String> {
    if HeaderValue::from_str(template).is_err() {
        return Err("a header's value has visible ASCII characters and spaces only".to_owned());
    }
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or("a `{` is not closed")?;
        if !names.contains(&name) {
            return Err(format!("the pattern has no {{{name}}}; it has {}", list(names)));
        }
        parts.push(Part::Text(text.to_owned()));
        parts.push(Part::Capture(name.to_owned()));
        rest = after;
    }
    if rest.contains('}') {
        return Err("a `}` is not opened".to_owned());
    }
    parts.push(Part::Text(rest.to_owned()));
    Ok(parts)
}

fn list(names: &[&str]) -> String {
    match names {
        [] => "no captures".to_owned(),
        _ => names.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", "),
    }
}
