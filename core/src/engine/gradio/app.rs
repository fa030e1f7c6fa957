//! What an app is: its version, and the endpoint that makes a picture.

use alloc::{
    borrow::ToOwned,
    collections::BTreeMap,
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use serde::Deserialize;
use serde_json::Value;

use super::inputs::{Input, Role};
use crate::{
    engine::{
        contract::{Effect, EngineError, Happened, Recipe},
        server::{Answered, Call, Dialogue},
    },
    wire::address::segment,
};

/// The largest description of an app that is read, in bytes.
const MAX_DESCRIPTION: usize = 4 * 1024 * 1024;
/// The most inputs that an endpoint can have.
const MAX_INPUTS: usize = 200;

/// How a picture is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum App {
    /// Gradio 3: one request that is answered with what was made.
    Predict,
    /// Gradio 4 and later: a call whose events are read.
    Calls {
        /// Before every path of the API: empty, or ends with `/`.
        prefix: String,
        /// The path of the endpoint's calls.
        call: String,
        /// What the endpoint takes, in order.
        inputs: Vec<Input>,
    },
}

impl App {
    /// Before the path of a file that the app made.
    pub(super) fn prefix(&self) -> &str {
        match self {
            Self::Predict => "",
            Self::Calls { prefix, .. } => prefix,
        }
    }
}

/// Asks an app what it is.
pub(super) struct Discovery {
    dialogue: Arc<Dialogue>,
    stage: Stage,
}

enum Stage {
    Config(Call),
    Info { prefix: String, call: Call },
}

impl Discovery {
    pub(super) fn new(dialogue: Arc<Dialogue>) -> Self {
        let call = Call::new(dialogue.get("config", MAX_DESCRIPTION));
        Self { dialogue, stage: Stage::Config(call) }
    }

    fn configured(&mut self, outcome: Answered) -> Effect<App> {
        // An app may hide its configuration, or be something that only speaks like one of Gradio 3.
        if outcome.as_ref().is_ok_and(|answer| answer.status == 404) {
            return Effect::Done(Ok(App::Predict));
        }
        let config = self.dialogue.accepted("its configuration", outcome, MAX_DESCRIPTION).and_then(|body| {
            serde_json::from_slice::<Config>(&body)
                .map_err(|_| self.dialogue.not_wanted("a Gradio app's configuration", &body))
        });
        match config.map(|config| config.prefix()) {
            Ok(Some(prefix)) => {
                let (call, effect) =
                    Call::begin(self.dialogue.get(&format!("{prefix}info"), MAX_DESCRIPTION));
                self.stage = Stage::Info { prefix, call };
                effect
            }
            Ok(None) => Effect::Done(Ok(App::Predict)),
            Err(error) => Effect::Done(Err(error)),
        }
    }
}

/// Reads what `{prefix}info` answers.
fn described(dialogue: &Dialogue, prefix: &str, outcome: Answered) -> Result<App, EngineError> {
    let body = dialogue.accepted("the list of its endpoints", outcome, MAX_DESCRIPTION)?;
    let info: Info = serde_json::from_slice(&body)
        .map_err(|_| dialogue.not_wanted("the list of a Gradio app's endpoints", &body))?;
    let best = info
        .named_endpoints
        .into_iter()
        .map(|(name, endpoint)| (name, endpoint.returns_picture(), endpoint.inputs()))
        .filter(|(_, _, inputs)| inputs.len() <= MAX_INPUTS)
        .map(|(name, draws, inputs)| {
            let prompted = inputs.iter().any(|input| input.role == Some(Role::Prompt));
            (u8::from(draws) * 2 + u8::from(prompted), name, inputs)
        })
        // The first of those that are as good: a list is in the order of its names, always the same.
        .reduce(|best, other| if other.0 > best.0 { other } else { best });
    match best {
        Some((1.., name, inputs)) => {
            let name = segment(name.trim_start_matches('/'));
            Ok(App::Calls { prefix: prefix.to_owned(), call: format!("{prefix}call/{name}"), inputs })
        }
        _ => Err(dialogue.hopeless(
            "the Gradio app cannot serve images: it has no named endpoint that takes a prompt or returns a picture",
            "",
        )),
    }
}

impl Recipe<App> for Discovery {
    fn next(&mut self, happened: Happened) -> Effect<App> {
        match &mut self.stage {
            Stage::Config(call) => call.next(happened).and_then(|outcome| self.configured(outcome)),
            Stage::Info { prefix, call } => call
                .next(happened)
                .and_then(|outcome| Effect::Done(described(&self.dialogue, prefix, outcome))),
        }
    }
}

/// What counts of `config`. Fields may be of any type: other servers have a `config` too.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    version: Value,
    #[serde(default)]
    api_prefix: Value,
}

impl Config {
    /// What comes before every path of the event API; `None` for an app that is too old to have one.
    fn prefix(&self) -> Option<String> {
        let version = match &self.version {
            Value::String(version) => version.clone(),
            version => version.to_string(),
        };
        let major: Option<u32> = version.split('.').next().and_then(|major| major.trim().parse().ok());
        let is_plain = |prefix: &&str| {
            prefix.len() <= 200
                && prefix
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-'))
        };
        match (self.api_prefix.as_str().filter(is_plain), major) {
            (Some(prefix), _) => {
                let prefix = prefix.trim_matches('/');
                Some(if prefix.is_empty() { String::new() } else { prefix.to_string() + "/" })
            }
            (None, Some(5..)) => Some("gradio_api/".to_owned()),
            (None, Some(4)) => Some(String::new()),
            (None, _) => None,
        }
    }
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    named_endpoints: BTreeMap<String, Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(default)]
    parameters: Vec<Parameter>,
    #[serde(default)]
    returns: Vec<Returned>,
}

impl Endpoint {
    fn returns_picture(&self) -> bool {
        let draws =
            |component: &str| matches!(component, "Image" | "Gallery" | "ImageSlider" | "ImageEditor");
        self.returns.iter().any(|returned| returned.component.as_str().is_some_and(draws))
    }

    fn inputs(self) -> Vec<Input> {
        let mut taken = Vec::new();
        self.parameters
            .into_iter()
            .map(|parameter| {
                let name = [&parameter.name, &parameter.label]
                    .into_iter()
                    .find_map(|name| name.as_str().filter(|name| !name.is_empty()))
                    .unwrap_or("");
                // Each once: a second prompt is for something else.
                let role = Role::by_name(name).filter(|role| !taken.contains(role));
                taken.extend(role);
                let has_default = parameter.has_default.as_bool() == Some(true);
                Input { role, default: has_default.then_some(parameter.default) }
            })
            .collect()
    }
}

#[derive(Deserialize)]
struct Parameter {
    #[serde(default)]
    label: Value,
    #[serde(default, rename = "parameter_name")]
    name: Value,
    #[serde(default, rename = "parameter_has_default")]
    has_default: Value,
    #[serde(default, rename = "parameter_default")]
    default: Value,
}

#[derive(Deserialize)]
struct Returned {
    #[serde(default)]
    component: Value,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_prefix_is_that_of_the_version() {
        for (config, prefix) in [
            (json!({ "version": "6.31.0", "api_prefix": "/gradio_api" }), Some("gradio_api/")),
            (json!({ "version": "5.0.0" }), Some("gradio_api/")),
            (json!({ "version": "4.44.1" }), Some("")),
            (json!({ "version": "4.44.1", "api_prefix": "" }), Some("")),
            (json!({ "version": "6.0.0", "api_prefix": "//evil.example/" }), Some("gradio_api/")),
            (json!({ "version": "6.0.0", "api_prefix": 7 }), Some("gradio_api/")),
            (json!({ "version": "3.50.2" }), None),
            (json!({ "version": 4 }), Some("")),
            (json!({ "version": "999999999999999999.1" }), None),
            (json!({}), None),
        ] {
            let read: Config = serde_json::from_value(config.clone()).unwrap();
            assert_eq!(read.prefix().as_deref(), prefix, "{config}");
        }
    }
}
