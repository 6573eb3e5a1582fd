//! SPIRE's spelling of flags (Go's: `-spiffeID X`) as the GNU spelling that our command lines define
//! (`--spiffe-id X`), so that scripts written for SPIRE run unchanged.
//!
//! Works on words only, before any parsing: it knows how names are spelt, and which flags are switches. It
//! must never touch a value, or anything after `--`.

use std::ffi::OsString;

/// Abbreviations that SPIRE writes in capitals inside a name.
const ACRONYMS: [&str; 11] = ["SVID", "X509", "JSON", "TTL", "URL", "DNS", "JWT", "SDS", "API", "JTI", "ID"];

/// Flags of SPIRE that take no value; Go lets a switch be written `-admin=true`.
const SWITCHES: [&str; 17] = [
    "admin",
    "allow-unauthenticated-verifiers",
    "disable-sds-api",
    "disable-workload-api",
    "disable-x509-svid-prefetch",
    "downstream",
    "dry-run",
    "expand-env",
    "insecure-bootstrap",
    "jwt-svid-include-jti",
    "log-source-location",
    "node",
    "reusable",
    "shallow",
    "silent",
    "store-svid",
    "verbose",
];

/// Rewrites a command line, the program's name first.
///
/// `-spiffeID X`, `-spiffeID=X` and `--spiffeID X` become `--spiffe-id …`; `-admin=true` becomes `--admin`, and
/// `-admin=false` goes away. Flags of one letter, a lone `-`, numbers, and words that are no flags stay.
#[must_use]
pub fn normalize(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args = args.into_iter();
    let mut normal: Vec<OsString> = args.next().into_iter().collect();
    for arg in args.by_ref() {
        if arg == "--" {
            normal.push(arg);
            break;
        }
        match arg.to_str().map(rewrite) {
            Some(Rewrite::Flag(flag)) => normal.push(flag.into()),
            Some(Rewrite::Nothing) => {}
            Some(Rewrite::AsItIs) | None => normal.push(arg),
        }
    }
    normal.extend(args);
    normal
}

/// Whether the command line announces a command and has none: `--` is its last word.
///
/// A parser gives the same for `run --`, which an image without a CMD comes to, as for `run`.
#[must_use]
pub fn ends_with_separator(args: &[OsString]) -> bool {
    args.iter().position(|arg| arg == "--").is_some_and(|at| at + 1 == args.len())
}

enum Rewrite {
    AsItIs,
    Flag(String),
    /// A switch that is off.
    Nothing,
}

fn rewrite(arg: &str) -> Rewrite {
    let Some(flag) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else { return Rewrite::AsItIs };
    let (name, value) = match flag.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (flag, None),
    };
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if name.len() < 2 || !is_name {
        return Rewrite::AsItIs;
    }
    let name = kebab(name);
    match value {
        None => Rewrite::Flag(format!("--{name}")),
        Some(value) => match switch(&name, value) {
            Some(true) => Rewrite::Flag(format!("--{name}")),
            Some(false) => Rewrite::Nothing,
            None => Rewrite::Flag(format!("--{name}={value}")),
        },
    }
}

/// What a switch is set to, in the words of Go's `strconv.ParseBool`. Other words stay, for the parser to refuse.
fn switch(name: &str, value: &str) -> Option<bool> {
    if !SWITCHES.contains(&name) {
        return None;
    }
    match value {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// `disableX509SVIDPrefetch` → `disable-x509-svid-prefetch`.
fn kebab(name: &str) -> String {
    let mut words = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let (word, after) = rest.split_at_checked(word_length(rest)).unwrap_or((rest, ""));
        words.push(word.to_ascii_lowercase());
        rest = after.strip_prefix('-').unwrap_or(after);
    }
    words.join("-")
}

/// Length of the first word of a name in bytes; the name is ASCII.
fn word_length(name: &str) -> usize {
    let is_lower = |index: usize| name.as_bytes().get(index).is_some_and(u8::is_ascii_lowercase);
    let acronym = ACRONYMS.iter().find(|acronym| name.starts_with(**acronym) && !is_lower(acronym.len()));
    if let Some(acronym) = acronym {
        return acronym.len();
    }
    let capitals = name.bytes().take_while(u8::is_ascii_uppercase).count();
    if capitals > 1 {
        // An abbreviation that we do not know; its last capital may begin the next word.
        return if is_lower(capitals) { capitals - 1 } else { capitals };
    }
    let tail = name.bytes().skip(1).take_while(|b| !b.is_ascii_uppercase() && *b != b'-').count();
    tail + 1
}

#[cfg(test)]
mod tests;
