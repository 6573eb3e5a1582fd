//! What an engine says of a container, and the selectors that follow from it.
//!
//! Owns SPIRE's spelling of the `docker:` selectors.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use crate::{attest::container::ContainerId, selector::Selector};

/// The type of all selectors made here.
pub const KIND: &str = "docker";

/// A container as the agent keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// `label`, `env`, `image_id` and `image_config_digest`.
    pub selectors: Vec<Selector>,
    /// Where its root file system is written to, if the engine's storage driver has such a place.
    pub upper_dir: Option<Arc<str>>,
}

/// The part of `GET /containers/ID/json` that matters here; the Docker Engine's API from 1.12 on, and podman's.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    id: String,
    /// The image's ID, which is the digest of its configuration.
    #[serde(default)]
    image: Option<String>,
    config: Config,
    #[serde(default)]
    graph_driver: Option<GraphDriver>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    /// The image as it was named when the container was made.
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GraphDriver {
    #[serde(default)]
    data: Option<BTreeMap<String, serde_json::Value>>,
}

/// Reads the engine's answer about the container `id`.
///
/// # Errors
/// What is wrong with it.
pub fn read(json: &[u8], id: &ContainerId) -> Result<Inspected, String> {
    let answer: Answer = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if answer.id != id.as_str() {
        return Err(format!("it is about another container, `{:.64}`", answer.id));
    }
    let Config { image, env, labels } = answer.config;
    let labels = labels.unwrap_or_default();
    let labels = labels.iter().map(|(name, value)| format!("label:{name}:{value}"));
    let env = env.unwrap_or_default().into_iter().map(|variable| format!("env:{variable}"));
    let image = image.filter(|image| !image.is_empty()).map(|image| format!("image_id:{image}"));
    let digest = answer.image.filter(|digest| !digest.is_empty()).map(|digest| {
        // podman before 4 leaves the algorithm out.
        let algorithm = if digest.contains(':') { "" } else { "sha256:" };
        format!("image_config_digest:{algorithm}{digest}")
    });
    let values = labels.chain(env).chain(image).chain(digest);
    let upper_dir = answer.graph_driver.and_then(|driver| driver.data).and_then(|data| {
        let upper_dir = data.get("UpperDir")?.as_str()?;
        (!upper_dir.is_empty()).then(|| upper_dir.into())
    });
    Ok(Inspected { selectors: values.map(|value| Selector::new(KIND, value)).collect(), upper_dir })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ContainerId {
        ContainerId::parse(&"ab".repeat(32)).unwrap()
    }

    fn read_text(json: &serde_json::Value) -> Result<Vec<String>, String> {
        let found = read(json.to_string().as_bytes(), &id())?;
        Ok(found.selectors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn selectors_are_spelled_as_spire_does() {
        let digest = format!("sha256:{}", "cd".repeat(32));
        let found = read_text(&serde_json::json!({
            "Id": id().as_str(), "Image": digest, "Name": "/shop",
            "Config": {
                "Image": "envoyproxy/envoy:contrib-v1.29.1", "Env": ["VAR=val", "EMPTY="],
                "Labels": {"com.example.name": "foo", "url": "http://a:1/"},
            },
        }));
        let expected = [
            "docker:label:com.example.name:foo",
            "docker:label:url:http://a:1/",
            "docker:env:VAR=val",
            "docker:env:EMPTY=",
            "docker:image_id:envoyproxy/envoy:contrib-v1.29.1",
            &format!("docker:image_config_digest:{digest}"),
        ];
        assert_eq!(found.unwrap(), expected);
    }

    #[test]
    fn what_a_container_does_not_have_makes_no_selector() {
        let found = read_text(&serde_json::json!({
            "Id": id().as_str(), "Image": "", "Config": {"Image": "", "Env": null, "Labels": null}, "GraphDriver": null,
        }));
        assert_eq!(found.unwrap(), Vec::<String>::new());
        assert_eq!(
            read_text(&serde_json::json!({"Id": id().as_str(), "Config": {}})).unwrap(),
            Vec::<String>::new()
        );
    }

    #[test]
    fn an_image_without_an_algorithm_is_sha256() {
        let found = read_text(&serde_json::json!({"Id": id().as_str(), "Image": "abcd", "Config": {}}));
        assert_eq!(found.unwrap(), ["docker:image_config_digest:sha256:abcd"]);
    }

    #[test]
    fn another_container_or_another_form_is_refused() {
        let other = serde_json::json!({"Id": "cd".repeat(32), "Config": {"Labels": {"a": "b"}}});
        assert!(read_text(&other).unwrap_err().contains("another container"));
        for text in ["", "[]", "null", "{}", "{\"Id\": 1}"] {
            assert!(read(text.as_bytes(), &id()).is_err(), "{text}");
        }
    }
}
