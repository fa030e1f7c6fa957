//! What engines that make pictures have in common.

use alloc::{string::String, vec::Vec};

use data_url::DataUrl;

use super::{
    contract::{EngineError, Output},
    format::Format,
    server::{Dialogue, presentable},
};
use crate::wire::task::ImageTask;

/// What was made: here, or still where it was made.
pub(super) enum Made {
    Bytes(Vec<u8>),
    At(String),
}

/// What an address stands for that a server gave for a picture: the picture itself, if it is a `data:` URL.
pub(super) fn from_address(dialogue: &Dialogue, address: String) -> Result<Made, EngineError> {
    if !address.starts_with("data:") {
        return Ok(Made::At(address));
    }
    let decoded = DataUrl::process(&address).ok().and_then(|url| url.decode_to_vec().ok());
    match decoded {
        Some((bytes, _)) => Ok(Made::Bytes(bytes)),
        None => Err(dialogue.trouble("the picture came as a `data:` URL that can't be read", "")),
    }
}

/// A picture that lies on another server: whoever named it may name anything.
pub(super) fn elsewhere(dialogue: &Dialogue, address: &str) -> EngineError {
    dialogue
        .trouble("the picture is said to lie on another host, which is refused", &presentable(address, &[]))
}

/// The result, if the bytes are a picture: what came back is what is sent, and `ext` follows the bytes.
pub(super) fn output(dialogue: &Dialogue, bytes: Vec<u8>, asked: &str) -> Result<Output, EngineError> {
    match Format::of(&bytes).filter(|format| format.is_picture()) {
        Some(format) => Ok(Output::Bytes { ext: format.ext_as_asked(asked).into(), payload: bytes.into() }),
        None => Err(dialogue.not_wanted("a picture", &bytes)),
    }
}

/// What a task starts from besides its text.
pub(super) fn beyond_a_text(task: &ImageTask) -> Option<&'static str> {
    [
        (&task.init_image_url, "a picture to start from (initImageUrl)"),
        (&task.mask_url, "a mask (maskUrl)"),
        (&task.ref_image_url, "a picture to take the subject from (refImageUrl)"),
    ]
    .into_iter()
    .find_map(|(url, what)| url.is_some().then_some(what))
}
