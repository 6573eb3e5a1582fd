//! The one place where files are opened: settings, policies, whatever else the settings name.

use std::{fs::File, io::Read, path::Path};

use svidecar_document::{
    diagnostic::{Diagnostic, Diagnostics},
    yaml,
};

/// The text of a file, at most [`yaml::MAX_BYTES`] and one more byte, by which the parser sees that it is too large.
///
/// # Errors
/// When it cannot be read, or is not UTF-8.
pub fn read_text(file: &Path) -> Result<String, Diagnostics> {
    let failed = |message: String| Diagnostics::from(Diagnostic::new(message).at(file, 0, 0));
    let mut bytes = Vec::new();
    let limit = yaml::MAX_BYTES as u64 + 1;
    File::open(file)
        .and_then(|opened| opened.take(limit).read_to_end(&mut bytes))
        .map_err(|error| failed(format!("the file cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        failed(format!("the file is not UTF-8 text: byte {} is wrong", error.utf8_error().valid_up_to() + 1))
    })
}
