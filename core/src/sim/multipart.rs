//! Fuzz body: what surrounds an upload (section 5).

use alloc::{format, string::String, vec::Vec};
use core::convert::Infallible;

use futures::{executor::block_on, stream};

use super::told;
use crate::wire::{JobId, media, multipart::Envelope};

/// What a reader of multipart bodies makes of one part.
pub(super) struct Part {
    pub(super) name: String,
    file_name: Option<String>,
    content_type: Option<String>,
    headers: usize,
    pub(super) bytes: Vec<u8>,
}

/// Makes the upload of a job whose id, prompt, extension and result are the texts of `data`, and reads it with the crate
/// `multer`, which studios use.
///
/// It finds exactly the three parts of section 5, each with the headers that it should have and no other, with the bytes that
/// went in; the file's name can't break out of its header or of a directory; the length is the one that was said; the kind of
/// file does not depend on how its extension is written.
///
/// # Panics
/// When it is not so: that is the finding.
pub fn multipart(data: &[u8]) {
    let [job, prompt, ext, result] = told::texts(data);
    let nonce = data.len() as u64;
    let envelope = Envelope::new(&JobId::from(&*job), &prompt, &ext, nonce);
    let body = [&envelope.head, result.as_bytes(), &envelope.tail].concat();
    assert_eq!(envelope.length(result.len() as u64), body.len() as u64);

    let parts = read(&envelope.content_type, body);
    let [said, extension, file] = parts.as_slice() else { panic!("{} parts", parts.len()) };
    for (part, name, text) in [(said, "prompt", &*prompt), (extension, "ext", &*ext.to_ascii_lowercase())] {
        assert_eq!((part.name.as_str(), part.headers, &part.file_name), (name, 1, &None));
        assert_eq!(part.bytes, text.as_bytes());
    }
    assert_eq!((file.name.as_str(), file.headers), ("image", 2));
    assert_eq!(file.bytes, result.as_bytes());
    assert_eq!(file.content_type.as_deref(), Some(media::mime_of(&ext)));
    let name = file.file_name.as_deref().unwrap_or_default();
    check_name(name);
    if media::is_plain_ext(&ext) {
        assert!(name.ends_with(&format!(".{}", ext.to_ascii_lowercase())), "{name} lost its extension");
    }

    check_name(&media::safe_file_name(&job));
    assert_eq!(media::safe_file_name(&media::safe_file_name(&job)), media::safe_file_name(&job));
    let upper = ext.to_ascii_uppercase();
    assert_eq!(media::mime_of(&upper), media::mime_of(&ext));
    assert_eq!(media::is_plain_ext(&upper), media::is_plain_ext(&ext));
}

fn check_name(name: &str) {
    let bad = |c: char| c.is_control() || "\"\\/:*?<>|%".contains(c);
    assert!(!name.is_empty() && !name.starts_with('.') && !name.contains(bad), "{name:?} is not safe");
    assert!(name.chars().count() <= media::MAX_FILE_NAME_CHARS, "{name:?} is too long");
}

/// The parts of a body, as `multer` reads them.
///
/// # Panics
/// When it can't.
pub(super) fn read(content_type: &str, body: Vec<u8>) -> Vec<Part> {
    let Ok(boundary) = multer::parse_boundary(content_type) else { panic!("no boundary in {content_type}") };
    let body = stream::iter([Ok::<_, Infallible>(body)]);
    let mut multipart = multer::Multipart::new(body, boundary);
    block_on(async {
        let mut parts = Vec::new();
        loop {
            match multipart.next_field().await {
                Ok(None) => return parts,
                Err(error) => panic!("the body can't be read: {error}"),
                Ok(Some(field)) => parts.push(Part {
                    name: field.name().unwrap_or_default().into(),
                    file_name: field.file_name().map(Into::into),
                    content_type: field.content_type().map(|mime| format!("{mime}")),
                    headers: field.headers().len(),
                    bytes: match field.bytes().await {
                        Ok(bytes) => bytes.to_vec(),
                        Err(error) => panic!("a part can't be read: {error}"),
                    },
                }),
            }
        }
    })
}
