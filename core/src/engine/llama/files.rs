//! Which files a chat needs, and which of them is what.

use alloc::{format, vec::Vec};

use super::LlamaCpp;
use crate::{
    engine::{contract::EngineError, input::InputPolicy, weights::Shelf},
    machine::{FileWanted, is_plain_name},
    wire::{Claim, ModelFile},
};

const ENDING: &str = ".gguf";
/// The role of the file that makes tokens of pictures.
const PROJECTOR: &str = "text-encoder-vision";

/// What is to be had, and what the server is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    /// All of them.
    pub(super) wanted: Vec<FileWanted>,
    /// Which of them are the weights.
    pub(super) weights: usize,
    /// Which of them reads pictures, for a chat with some.
    pub(super) projector: Option<usize>,
}

impl Files {
    /// The files for a job: those of its source, else the file that is called like its model.
    pub(super) fn of(
        root: &str,
        policy: InputPolicy,
        claim: &Claim,
        has_pictures: bool,
    ) -> Result<Self, EngineError> {
        let shelf = Shelf::new(root, LlamaCpp::FOLDER);
        let source = claim.model_source.as_ref().filter(|source| !source.files.is_empty());
        let files = if let Some(source) = source {
            Self::of_source(&source.files, shelf.files(source, policy)?, has_pictures)?
        } else {
            let own = shelf.own(&format!("{}{ENDING}", claim.model))?;
            Self { wanted: Vec::from([own]), weights: 0, projector: None }
        };
        if has_pictures && files.projector.is_none() {
            return Err(EngineError::permanent(
                "the model cannot serve chats with pictures: it has no file that reads them (text-encoder-vision)",
            ));
        }
        Ok(files)
    }

    fn of_source(
        files: &[ModelFile],
        wanted: Vec<FileWanted>,
        has_pictures: bool,
    ) -> Result<Self, EngineError> {
        let is_gguf = |file: &ModelFile| stem(&file.filename).is_some();
        let weights = files
            .iter()
            .position(|file| file.role == "model" && is_gguf(file))
            .or_else(|| files.iter().position(|file| file.role != PROJECTOR && is_gguf(file)))
            .ok_or_else(|| EngineError::permanent("the model has no .gguf file with its weights"))?;
        let projector = files.iter().position(|file| file.role == PROJECTOR && is_gguf(file));
        let projector = projector.filter(|_| has_pictures);
        // What reads pictures is left where it is until there are some.
        let needed = |at: usize| files[at].role != PROJECTOR || Some(at) == projector;
        let places: Vec<usize> = (0..files.len()).filter(|at| needed(*at)).collect();
        let place = |at: usize| places.iter().position(|place| *place == at).unwrap_or_default();
        Ok(Self {
            weights: place(weights),
            projector: projector.map(place),
            wanted: wanted
                .into_iter()
                .enumerate()
                .filter(|(at, _)| needed(*at))
                .map(|(_, file)| file)
                .collect(),
        })
    }
}

/// The name of a file of weights, without its ending.
fn stem(name: &str) -> Option<&str> {
    let (stem, ending) = name.split_at_checked(name.len().checked_sub(ENDING.len())?)?;
    (!stem.is_empty() && ending.eq_ignore_ascii_case(ENDING)).then_some(stem)
}

/// The model that a file in the folder stands for; none for one that is no model by itself.
pub(super) fn model_of(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(ENDING)?;
    let is_a_part = stem.contains("-of-") && !stem.contains("-00001-of-");
    (is_plain_name(name) && !stem.is_empty() && !stem.starts_with("mmproj") && !is_a_part).then_some(stem)
}
