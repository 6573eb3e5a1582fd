//! Where a whole layer is from. figment keeps it beside every value of the layer, as metadata.

use std::{path::PathBuf, sync::Arc};

use figment::Metadata;
use svidecar_document::node::Position;

use super::origin::{COMMAND_LINE, ENVIRONMENT, Origin};

/// Where a layer is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// The file.
    File(Arc<PathBuf>),
    /// One variable of the environment, by name.
    Variable(String),
    /// A flag.
    Flag,
}

impl Source {
    /// The source as figment keeps it.
    pub(super) fn metadata(&self) -> Metadata {
        match self {
            Self::File(file) => Metadata::from("file", file.as_path()),
            Self::Variable(name) => Metadata::from(ENVIRONMENT, name.as_str()),
            Self::Flag => Metadata::named(COMMAND_LINE),
        }
    }

    /// The source that figment has kept.
    pub(super) fn of(metadata: &Metadata) -> Option<Self> {
        match &metadata.source {
            Some(figment::Source::File(file)) => Some(Self::File(Arc::new(file.clone()))),
            Some(figment::Source::Custom(name)) => Some(Self::Variable(name.clone())),
            None if metadata.name == COMMAND_LINE => Some(Self::Flag),
            _ => None,
        }
    }

    /// The origin of a value of this layer. Only a file has positions; without one, the file as a whole is meant.
    pub(super) fn origin(&self, position: Option<Position>) -> Origin {
        match self {
            Self::File(file) => {
                let Position { line, column } = position.unwrap_or(Position { line: 0, column: 0 });
                Origin::File { file: Arc::clone(file), line, column }
            }
            Self::Variable(name) => Origin::Environment(name.clone()),
            Self::Flag => Origin::CommandLine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figment_keeps_every_source() {
        for source in [
            Source::File(Arc::new("a/proxy.yaml".into())),
            Source::Variable("SVIDECAR_PROXY_WORKERS".into()),
            Source::Flag,
        ] {
            assert_eq!(Source::of(&source.metadata()), Some(source));
        }
        assert_eq!(Source::of(&Metadata::default()), None);
    }
}
