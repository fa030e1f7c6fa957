//! A form with a file in it (`multipart/form-data`).

use alloc::{format, string::String, vec::Vec};

use sha2::{Digest, Sha256};

use crate::http::HttpBody;

/// A form of `fields`, and of `file` as the field `file`.
///
/// The boundary is made from all that is in the form. So the same form is the same bytes, and nobody can have put
/// the boundary into a part of it: that would change the boundary.
pub(super) fn form(fields: &[(&str, &str)], file_name: &str, mime: &str, file: &[u8]) -> HttpBody {
    let mut hash = Sha256::new();
    for (name, value) in fields {
        for part in [name, value] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
    }
    hash.update(file);
    let boundary = hash
        .finalize()
        .iter()
        .take(16)
        .fold(String::from("studio-worker-"), |text, byte| text + &format!("{byte:02x}"));
    let mut bytes = Vec::with_capacity(file.len() + 1024);
    for (name, value) in fields {
        let part =
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        bytes.extend_from_slice(part.as_bytes());
    }
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{file_name}\"\r\n\
         Content-Type: {mime}\r\n\r\n"
    );
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(file);
    bytes.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    HttpBody { content_type: format!("multipart/form-data; boundary={boundary}"), bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_its_fields_and_its_file() {
        let body = form(&[("model", "whisper-1"), ("prompt", "a\r\nb")], "audio.wav", "audio/wav", b"RIFF");
        let boundary = body.content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
        assert_eq!(
            String::from_utf8(body.bytes.clone()).unwrap(),
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n\
                 --{boundary}\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na\r\nb\r\n\
                 --{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"audio.wav\"\r\n\
                 Content-Type: audio/wav\r\n\r\nRIFF\r\n--{boundary}--\r\n"
            )
        );
        let other = form(&[("model", "whisper-1"), ("prompt", "a\r\nb")], "audio.wav", "audio/wav", b"RIFX");
        assert_ne!(other.content_type, body.content_type);
    }
}
