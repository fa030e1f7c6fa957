//! The files of a model: where they are kept, and where they come from.

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};

use super::{contract::EngineError, input::InputPolicy, server::presentable};
use crate::{
    http::Reach,
    machine::{FileWanted, Origin, is_plain_name},
    wire::{ModelFile, ModelSource},
};

/// How many files a model may have.
const MAX_FILES: usize = 64;
/// Folders of the models' root that are no model's own.
const RESERVED: [&str; 2] = ["bin", "llm"];

/// A folder of the models' root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shelf {
    root: String,
    folder: String,
}

impl Shelf {
    /// The folder `folder`, a plain name, of `root`, an absolute path.
    pub(super) fn new(root: &str, folder: &str) -> Self {
        Self { root: root.trim_end_matches('/').to_owned(), folder: folder.to_owned() }
    }

    /// The folder of a model of its own.
    pub(super) fn of_model(root: &str, model: &str) -> Self {
        Self::new(root, &folder_of(model))
    }

    /// The folder's path.
    pub(super) fn path(&self) -> String {
        format!("{}/{}", self.root, self.folder)
    }

    fn path_of(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.root, self.folder)
    }

    /// A file that must be here already.
    pub(super) fn own(&self, name: &str) -> Result<FileWanted, EngineError> {
        let name = plain(name)?;
        let path = self.path_of(name);
        Ok(FileWanted { path, copies: Vec::new(), origin: None, approx_bytes: None, sha256: None })
    }

    /// What a model's source offers, checked as a whole: each is downloaded to this folder, unless a copy lies in the
    /// root itself.
    pub(super) fn files(
        &self,
        source: &ModelSource,
        policy: InputPolicy,
    ) -> Result<Vec<FileWanted>, EngineError> {
        if source.files.len() > MAX_FILES {
            return Err(EngineError::permanent(format_args!(
                "a model can have {MAX_FILES} files, and this one has {}",
                source.files.len()
            )));
        }
        for (at, file) in source.files.iter().enumerate() {
            let clash =
                source.files[..at].iter().find(|other| other.filename.eq_ignore_ascii_case(&file.filename));
            // The same file may have two roles.
            if clash.is_some_and(|other| (&other.url, &other.sha256) != (&file.url, &file.sha256)) {
                let name = presentable(&file.filename, &[]);
                return Err(EngineError::permanent(format!("two files of the model are called {name}")));
            }
        }
        source.files.iter().map(|file| self.file(file, policy)).collect()
    }

    fn file(&self, file: &ModelFile, policy: InputPolicy) -> Result<FileWanted, EngineError> {
        let name = plain(&file.filename)?;
        let refused = |why: &str| EngineError::permanent(format!("the file {name} of the model {why}"));
        let (url, reach) =
            policy.leads(&file.url).map_err(|why| refused(&format!("has an address that {why}")))?;
        if url.scheme() != "https" && reach != Reach::Loopback {
            return Err(refused("has an address that is not encrypted: https is wanted"));
        }
        let origin = Origin { url: url.into(), reach, host_alone: false };
        let sha256 = match file.sha256.as_deref().map(str::trim).filter(|hex| !hex.is_empty()) {
            Some(hex) => Some(hash(hex).ok_or_else(|| refused("has a `sha256` that is none"))?),
            None => None,
        };
        Ok(FileWanted {
            path: self.path_of(name),
            copies: Vec::from([format!("{}/{name}", self.root)]),
            origin: Some(origin),
            approx_bytes: file.approx_bytes,
            sha256,
        })
    }
}

/// A name that leads nowhere else, on any system.
fn plain(name: &str) -> Result<&str, EngineError> {
    if is_plain_name(name) {
        return Ok(name);
    }
    let shown: String = presentable(name, &[]).chars().take(200).collect();
    Err(EngineError::permanent(format!("a file of the model has a name that is no plain file name: {shown}")))
}

/// The name of a model's folder, as published workers have it, so that what they downloaded is found.
fn folder_of(model: &str) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let mut folder: String = model.chars().take(200).map(|c| if kept(c) { c } else { '_' }).collect();
    if folder.starts_with('.') {
        folder.replace_range(..1, "_");
    }
    // What a model brings must not lie where programs are looked for, or among the models of another engine.
    let is_reserved = RESERVED.iter().any(|reserved| folder.eq_ignore_ascii_case(reserved));
    if is_reserved || !is_plain_name(&folder) {
        folder.insert(0, '_');
        folder.push('_');
    }
    folder
}

/// A SHA-256 in hex.
fn hash(hex: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, url: &str) -> ModelFile {
        ModelFile { filename: name.into(), url: url.into(), ..ModelFile::default() }
    }

    fn files(files: Vec<ModelFile>) -> Result<Vec<FileWanted>, EngineError> {
        let source = ModelSource { files, ..ModelSource::default() };
        Shelf::new("/models/", "llm").files(&source, InputPolicy::default())
    }

    #[test]
    fn a_file_is_kept_in_its_folder_and_found_in_the_root() {
        let mut wanted = file("a.gguf", "https://hub.test/a.gguf?sig=x");
        wanted.sha256 = Some("A5".repeat(32));
        wanted.approx_bytes = Some(7);
        let twice = Vec::from([wanted.clone(), wanted]);
        let expected = FileWanted {
            path: "/models/llm/a.gguf".into(),
            copies: Vec::from(["/models/a.gguf".into()]),
            origin: Some(Origin {
                url: "https://hub.test/a.gguf?sig=x".into(),
                reach: Reach::Public,
                host_alone: false,
            }),
            approx_bytes: Some(7),
            sha256: Some([0xa5; 32]),
        };
        assert_eq!(files(twice), Ok(Vec::from([expected.clone(), expected])));
        let local = files(Vec::from([file("a.gguf", "http://127.0.0.1:9/a")])).unwrap();
        assert_eq!(local[0].origin.as_ref().unwrap().reach, Reach::Loopback);
        let at_home =
            ModelSource { files: Vec::from([file("a", "http://192.168.0.2/a")]), ..ModelSource::default() };
        let error = Shelf::new("/m", "llm").files(&at_home, InputPolicy { allow_private: true }).unwrap_err();
        assert!(error.message.ends_with("is not encrypted: https is wanted"), "{error}");
    }

    #[test]
    fn a_file_that_can_not_be_had_is_refused_for_good() {
        let hashed = ModelFile { sha256: Some("00".into()), ..file("a", "https://hub.test/a") };
        for (offered, message) in [
            (Vec::from([file("../a", "https://hub.test/a")]), {
                "a file of the model has a name that is no plain file name: ../a"
            }),
            (Vec::from([file("", "https://hub.test/a")]), {
                "a file of the model has a name that is no plain file name: "
            }),
            (Vec::from([file("a", "http://hub.test/a?secret=1")]), {
                "the file a of the model has an address that is not encrypted: https is wanted"
            }),
            (Vec::from([file("a", "data:,x")]), {
                "the file a of the model has an address that is neither https nor data"
            }),
            (Vec::from([hashed]), "the file a of the model has a `sha256` that is none"),
            (Vec::from([file("a", "https://hub.test/a"), file("A", "https://hub.test/b")]), {
                "two files of the model are called A"
            }),
            ((0..65).map(|n| file(&format!("{n}"), "https://hub.test/a")).collect(), {
                "a model can have 64 files, and this one has 65"
            }),
        ] {
            let error = files(offered).unwrap_err();
            assert_eq!((error.message.as_str(), error.retryable), (message, false));
        }
    }

    #[test]
    fn a_models_folder_is_one_plain_folder_that_is_its_own() {
        for (model, folder) in [
            ("z-image-turbo-q4_k_m.gguf", "z-image-turbo-q4_k_m.gguf"),
            ("org/model:v2", "org_model_v2"),
            ("..", "__._"),
            (".git", "_git"),
            ("", "__"),
            ("bin", "_bin_"),
            ("LLM", "_LLM_"),
            ("nul", "_nul_"),
            ("a.", "_a._"),
            ("x.part", "_x.part_"),
            ("ü", "_"),
        ] {
            assert_eq!(folder_of(model), folder, "{model}");
            assert!(is_plain_name(&folder_of(model)), "{model}");
        }
        assert!(is_plain_name(&folder_of(&"é".repeat(500))));
        assert_eq!(Shelf::of_model("/", "a/b").path(), "/a_b");
    }
}
