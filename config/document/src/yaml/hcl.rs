//! Recognizes SPIRE's configuration language, to say what to do instead of "this is not YAML".

use crate::{finding::Finding, node::Position};

/// A finding if the first line that is not a comment is HCL: `server {`, `plugins "x" {` or `key = value`.
pub(super) fn recognize(text: &str) -> Option<Finding> {
    let (index, line) = text.lines().enumerate().find(|(_, line)| {
        !line.trim().is_empty() && !["#", "//", "/*"].iter().any(|c| line.trim_start().starts_with(c))
    })?;
    let content = line.trim();
    let word = content.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    let rest = content.get(word..).unwrap_or_default().trim_start();
    let block = rest == "{" || (rest.starts_with('"') && rest.ends_with('{'));
    let assignment = rest.starts_with('=');
    if word == 0 || !(block || assignment) {
        return None;
    }
    let column = line.chars().take_while(|c| c.is_whitespace()).count() + 1;
    Some(
        Finding::at(Position { line: index + 1, column }, "this looks like SPIRE's HCL; svidecar reads YAML").help(
            "keep the names of the keys, write `key: value` instead of `key = value`, and put the keys of the \
             `server` or `agent` block at the top level",
        ),
    )
}
