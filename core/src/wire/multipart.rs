//! The multipart body of an upload (section 5), as the bytes before and after the file, so that the file
//! itself is streamed and the length is known.

use alloc::{format, string::String, vec::Vec};

use sha2::{Digest, Sha256};

use super::{claim::JobId, media};

/// What surrounds the file in an upload's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The value of the `Content-Type` header.
    pub content_type: String,
    /// The bytes before the file.
    pub head: Vec<u8>,
    /// The bytes after the file.
    pub tail: Vec<u8>,
}

impl Envelope {
    /// Text fields `prompt` and `ext`, then the file field `image` (whatever the kind), named `{jobId}.{ext}`.
    ///
    /// `nonce` makes the boundary: a text that can't be in the file by any but a deliberate act must be
    /// chosen, so it comes from the worker's seed and not from the data.
    pub fn new(job_id: &JobId, prompt: &str, ext: &str, nonce: u64) -> Self {
        let digest = Sha256::digest(nonce.to_be_bytes());
        let boundary = digest
            .iter()
            .take(16)
            .fold(String::from("studio-worker-"), |text, byte| text + &format!("{byte:02x}"));
        let ext = ext.to_ascii_lowercase();
        // Of a name that is too long, the job's id is cut and not what says what the file is.
        let room = media::MAX_FILE_NAME_CHARS.saturating_sub(ext.chars().count() + 1);
        let stem: String = media::safe_file_name(job_id.as_str()).chars().take(room).collect();
        let name = media::safe_file_name(&format!("{stem}.{ext}"));
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\n{prompt}\r\n\
             --{boundary}\r\nContent-Disposition: form-data; name=\"ext\"\r\n\r\n{ext}\r\n\
             --{boundary}\r\nContent-Disposition: form-data; name=\"image\"; filename=\"{name}\"\r\n\
             Content-Type: {mime}\r\n\r\n",
            mime = media::mime_of(&ext),
        );
        Self {
            content_type: format!("multipart/form-data; boundary={boundary}"),
            head: head.into_bytes(),
            tail: format!("\r\n--{boundary}--\r\n").into_bytes(),
        }
    }

    /// The whole body's length, in bytes, around a file of `file` bytes.
    pub fn length(&self, file: u64) -> u64 {
        self.head.len() as u64 + file + self.tail.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_what_section_5_says() {
        let envelope = Envelope::new(&"j\"1\r\n".into(), "a\r\nprompt", "WEBP", 7);
        let boundary = envelope.content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
        let head = String::from_utf8(envelope.head.clone()).unwrap();
        assert_eq!(
            head,
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na\r\nprompt\r\n\
                 --{boundary}\r\nContent-Disposition: form-data; name=\"ext\"\r\n\r\nwebp\r\n\
                 --{boundary}\r\nContent-Disposition: form-data; name=\"image\"; filename=\"j_1__.webp\"\r\n\
                 Content-Type: image/webp\r\n\r\n"
            )
        );
        assert_eq!(envelope.tail, format!("\r\n--{boundary}--\r\n").into_bytes());
        assert_eq!(envelope.length(10), (head.len() + 10 + envelope.tail.len()) as u64);
        assert_ne!(Envelope::new(&"j".into(), "", "png", 8).content_type, envelope.content_type);
    }

    #[test]
    fn the_file_of_a_job_with_a_long_id_keeps_its_extension() {
        let envelope = Envelope::new(&"j".repeat(500).into(), "", "webp", 7);
        let head = String::from_utf8(envelope.head).unwrap();
        let name = head.split("filename=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        assert_eq!((name.len(), &name[115..]), (media::MAX_FILE_NAME_CHARS, ".webp"));
    }
}
