//! What section 5 says of a claim, written down once more and as plainly as it stands there: a table of parameters.

use alloc::{borrow::ToOwned, collections::BTreeSet, string::String, vec::Vec};

use serde_json::{Map, Value, json};

/// What a value must be.
#[derive(Clone, Copy)]
enum Is {
    /// Any text.
    Text,
    /// A text that isn't empty.
    Filled,
    /// The end of a file name.
    Ext,
    /// A whole number, from and to.
    Whole(u64, u64),
    /// Any number.
    Number,
    /// A number above 0, and at most that.
    Upto(f64),
    Switch,
    Texts,
    Messages,
    Files,
    Defaults,
    Anything,
}

/// What counts when it is missing.
#[derive(Clone, Copy)]
enum Else {
    /// It is an error.
    Wrong,
    Nothing,
    Text(&'static str),
    Number(f64),
    EmptyList,
    Defaults,
    /// Missing is that text, but null is an error.
    NotNull(&'static str),
    NumberNotNull(f64),
}

type Table = &'static [(&'static str, Is, Else)];

const PIXELS: Is = Is::Whole(1, 16_384);
const ANY_U32: Is = Is::Whole(0, u32::MAX as u64);
const ANY_U64: Is = Is::Whole(0, u64::MAX);

const IMAGE: Table = &[
    ("prompt", Is::Text, Else::Wrong),
    ("width", PIXELS, Else::Number(512.0)),
    ("height", PIXELS, Else::Number(512.0)),
    ("steps", Is::Whole(1, 1_000), Else::Number(20.0)),
    ("seed", ANY_U64, Else::Nothing),
    ("ext", Is::Ext, Else::Text("webp")),
    ("negativePrompt", Is::Text, Else::Nothing),
    ("initImageUrl", Is::Text, Else::Nothing),
    ("maskUrl", Is::Text, Else::Nothing),
    ("refImageUrl", Is::Text, Else::Nothing),
    ("denoise", Is::Number, Else::Nothing),
    ("cfgScale", Is::Number, Else::Nothing),
    ("samplingMethod", Is::Text, Else::Nothing),
];
const LLM: Table = &[
    ("messages", Is::Messages, Else::Wrong),
    ("maxTokens", Is::Whole(1, u32::MAX as u64), Else::Number(512.0)),
    ("temperature", Is::Number, Else::Number(0.7)),
    ("system", Is::Text, Else::Nothing),
    ("topP", Is::Number, Else::Nothing),
    ("stop", Is::Anything, Else::Nothing),
    ("jsonSchema", Is::Anything, Else::Nothing),
    ("reasoning", Is::Anything, Else::Nothing),
    ("chatTemplateKwargs", Is::Anything, Else::Nothing),
    ("images", Is::Texts, Else::Nothing),
];
const STT: Table = &[
    ("inputUrl", Is::Filled, Else::Wrong),
    ("language", Is::Text, Else::Nothing),
    ("translate", Is::Switch, Else::Nothing),
    ("prompt", Is::Text, Else::Nothing),
    ("vad", Is::Anything, Else::Nothing),
    ("timestamps", Is::Anything, Else::Nothing),
];
const TTS: Table = &[
    ("text", Is::Text, Else::Wrong),
    ("voice", Is::Text, Else::Text("default")),
    ("ext", Is::Ext, Else::Text("wav")),
    ("speed", Is::Number, Else::Nothing),
    ("language", Is::Text, Else::Nothing),
];
const VIDEO: Table = &[
    ("prompt", Is::Text, Else::Wrong),
    ("seconds", Is::Upto(3_600.0), Else::Number(2.0)),
    ("width", PIXELS, Else::Number(512.0)),
    ("height", PIXELS, Else::Number(512.0)),
    ("ext", Is::Ext, Else::Text("mp4")),
    ("negativePrompt", Is::Text, Else::Nothing),
    ("initImageUrl", Is::Text, Else::Nothing),
    ("fps", Is::Number, Else::Nothing),
];
const MESH: Table = &[
    ("imageUrl", Is::Filled, Else::Wrong),
    ("seed", ANY_U64, Else::Nothing),
    ("ext", Is::Ext, Else::Text("glb")),
];
const SOURCE: Table = &[
    ("engine", Is::Text, Else::NotNull("")),
    ("files", Is::Files, Else::EmptyList),
    ("cliDefaults", Is::Defaults, Else::Defaults),
];
const FILE: Table = &[
    ("role", Is::Text, Else::NotNull("")),
    ("url", Is::Text, Else::NotNull("")),
    ("filename", Is::Text, Else::NotNull("")),
    ("approxBytes", ANY_U64, Else::Nothing),
    ("sha256", Is::Text, Else::Nothing),
];
const DEFAULTS: Table = &[
    ("cfgScale", Is::Number, Else::NumberNotNull(1.0)),
    ("steps", ANY_U32, Else::NumberNotNull(20.0)),
    ("width", ANY_U32, Else::NumberNotNull(512.0)),
    ("height", ANY_U32, Else::NumberNotNull(512.0)),
    ("samplingMethod", Is::Text, Else::Nothing),
    ("pipeline", Is::Text, Else::Nothing),
    ("flowShift", Is::Number, Else::Nothing),
    ("maxVramGib", Is::Number, Else::Nothing),
    ("loraWeight", Is::Number, Else::Nothing),
    ("zeroCondT", Is::Switch, Else::Nothing),
    ("offloadToCpu", Is::Switch, Else::Nothing),
    ("mmap", Is::Switch, Else::Nothing),
    ("lowVram", Is::Switch, Else::Nothing),
    ("contextSize", ANY_U32, Else::Nothing),
    ("resolution", ANY_U32, Else::Nothing),
    ("decimationTarget", ANY_U32, Else::Nothing),
    ("textureSize", ANY_U32, Else::Nothing),
    ("chatTemplateKwargs", Is::Anything, Else::Nothing),
    ("vision", Is::Anything, Else::Nothing),
];

/// What is to come of a claim.
#[derive(Default)]
pub(super) struct Model {
    /// The job, if there is one to answer to.
    pub(super) job_id: Option<String>,
    /// Parameters that are wrong, as they are named.
    pub(super) wrong: BTreeSet<String>,
    /// A kind that nobody knows.
    pub(super) unknown_kind: Option<String>,
    /// The claim's fields, as they are written, but the source.
    pub(super) fields: Map<String, Value>,
    /// Where the model comes from, as it is written.
    pub(super) source: Option<Value>,
}

impl Model {
    /// What is to come of `claim`.
    pub(super) fn of(claim: &Value) -> Self {
        let mut model = Self { job_id: text(claim, "jobId"), ..Self::default() };
        let Some(job_id) = &model.job_id else { return model };
        let mut fields = Map::new();
        fields.insert("jobId".into(), json!(job_id));
        fields.insert("gameId".into(), json!(text(claim, "gameId").unwrap_or_default()));
        fields.insert("assetName".into(), json!(text(claim, "assetName").unwrap_or_default()));
        let estimate = claim.get("vramGbEstimate").and_then(Value::as_f64);
        fields.insert("vramGbEstimate".into(), number(estimate.unwrap_or(0.0)));
        match text(claim, "model").filter(|name| !name.is_empty()) {
            Some(name) => drop(fields.insert("model".into(), json!(name))),
            None => drop(model.wrong.insert("model".into())),
        }
        match claim.get("modelSource").filter(|source| !source.is_null()) {
            None => {}
            Some(source) => match object(source, SOURCE) {
                Some(source) => model.source = Some(source),
                None => drop(model.wrong.insert("modelSource".into())),
            },
        }
        let task = match claim.get("task").filter(|task| !task.is_null()) {
            None => {
                let ext = text(claim, "ext").filter(|ext| is_ext(ext)).unwrap_or("webp".into());
                json!({ "kind": "image", "prompt": text(claim, "prompt").unwrap_or_default(), "ext": ext })
            }
            Some(task) => task.clone(),
        };
        model.fields = fields;
        model.read_task(&task);
        model
    }

    fn read_task(&mut self, task: &Value) {
        let Some(given) = task.as_object() else {
            self.wrong.insert("task".into());
            return;
        };
        let Some(kind) = text(task, "kind") else {
            self.wrong.insert("kind".into());
            return;
        };
        let (table, prompt) = match &*kind {
            "image" => (IMAGE, "prompt"),
            "llm" => (LLM, "messages"),
            "audio_stt" => (STT, "inputUrl"),
            "audio_tts" => (TTS, "text"),
            "video" => (VIDEO, "prompt"),
            "mesh" => (MESH, ""),
            _ => {
                self.unknown_kind = Some(kind);
                return;
            }
        };
        if !matches!(&*kind, "llm" | "audio_stt") && matches!(self.job_id.as_deref(), Some("" | "." | "..")) {
            self.wrong.insert("job_id".into());
        }
        let mut read = Map::new();
        for (name, is, otherwise) in table {
            let spelled = snake(name);
            let both = [given.get(*name), given.get(&spelled)];
            let good = |value: &Value| value.is_null() || normal(*is, value).is_some();
            if !both.into_iter().flatten().all(good) {
                self.wrong.insert(spelled);
                continue;
            }
            match value_or(*is, both[1].or(both[0]), *otherwise) {
                Ok(Some(value)) => drop(read.insert((*name).to_owned(), value)),
                Ok(None) => {}
                Err(()) => drop(self.wrong.insert(spelled)),
            }
        }
        let said = match read.get(prompt) {
            Some(Value::Array(messages)) => messages.last().map(|last| last["content"].clone()),
            other => other.cloned(),
        };
        self.fields.insert("prompt".into(), said.unwrap_or(json!("")));
        self.fields.insert("ext".into(), read.get("ext").cloned().unwrap_or(json!("json")));
        if read.get("images").is_some_and(|images| *images == json!([])) {
            read.remove("images");
        }
        read.insert("kind".into(), json!(kind));
        self.fields.insert("task".into(), read.into());
    }
}

/// The object as it is written, if everything in it is what the table says.
fn object(value: &Value, table: Table) -> Option<Value> {
    let given = value.as_object()?;
    let mut read = Map::new();
    for (name, is, otherwise) in table {
        if let Some(value) = value_or(*is, given.get(*name), *otherwise).ok()? {
            read.insert((*name).to_owned(), value);
        }
    }
    Some(read.into())
}

/// A value, or what counts when it is missing.
fn value_or(is: Is, value: Option<&Value>, otherwise: Else) -> Result<Option<Value>, ()> {
    if matches!(otherwise, Else::NotNull(_) | Else::NumberNotNull(_)) && value.is_some_and(Value::is_null) {
        return Err(());
    }
    match (value.filter(|value| !value.is_null()), otherwise) {
        (Some(value), _) => normal(is, value).map(Some).ok_or(()),
        (None, Else::Wrong) => Err(()),
        (None, Else::Nothing) => Ok(None),
        (None, Else::Text(text) | Else::NotNull(text)) => Ok(Some(json!(text))),
        (None, Else::Number(default) | Else::NumberNotNull(default)) => Ok(Some(number(default))),
        (None, Else::EmptyList) => Ok(Some(json!([]))),
        (None, Else::Defaults) => Ok(object(&json!({}), DEFAULTS)),
    }
}

/// The value as it is written, if it is what it must be.
fn normal(is: Is, value: &Value) -> Option<Value> {
    let list = |each: fn(&Value) -> Option<Value>| {
        value.as_array()?.iter().map(each).collect::<Option<Vec<_>>>().map(Value::from)
    };
    let same = |good: bool| good.then(|| value.clone());
    match is {
        Is::Text => same(value.is_string()),
        Is::Filled => same(value.as_str().is_some_and(|text| !text.is_empty())),
        Is::Ext => same(value.as_str().is_some_and(is_ext)),
        Is::Whole(from, to) => same(value.as_u64().is_some_and(|number| (from..=to).contains(&number))),
        Is::Number => value.as_f64().map(number),
        Is::Upto(most) => value.as_f64().filter(|value| *value > 0.0 && *value <= most).map(number),
        Is::Switch => same(value.is_boolean()),
        Is::Texts => list(|text| normal(Is::Text, text)),
        Is::Messages => list(|message| {
            Some(json!({ "role": text(message, "role")?, "content": text(message, "content")? }))
        })
        .filter(|messages| *messages != json!([])),
        Is::Files => list(|file| object(file, FILE)),
        Is::Defaults => object(value, DEFAULTS),
        Is::Anything => Some(value.clone()),
    }
}

/// A number as it is written: without a fraction where it has none.
fn number(value: f64) -> Value {
    let whole = value.fract() == 0.0 && (-2_147_483_648.0..=2_147_483_647.0).contains(&value);
    #[allow(clippy::cast_possible_truncation, reason = "it is whole and within the range")]
    if whole { json!(value as i64) } else { json!(value) }
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.as_object()?.get(name)?.as_str().map(ToOwned::to_owned)
}

fn is_ext(text: &str) -> bool {
    !text.is_empty() && text.len() <= 16 && text.chars().all(|c| c.is_ascii_alphanumeric())
}

fn snake(name: &str) -> String {
    name.chars().fold(String::new(), |snake, c| match c {
        'A'..='Z' => snake + "_" + &String::from(c.to_ascii_lowercase()),
        c => snake + &String::from(c),
    })
}
