//! File name extensions and what they say about bytes (section 5).

use alloc::string::String;

/// The MIME type of a result with this extension; the case of `ext` does not matter.
pub fn mime_of(ext: &str) -> &'static str {
    const TABLE: &[(&str, &str)] = &[
        ("png", "image/png"),
        ("webp", "image/webp"),
        ("gif", "image/gif"),
        ("jpg", "image/jpeg"),
        ("jpeg", "image/jpeg"),
        ("wav", "audio/wav"),
        ("mp3", "audio/mpeg"),
        ("ogg", "audio/ogg"),
        ("opus", "audio/ogg"),
        ("flac", "audio/flac"),
        ("mp4", "video/mp4"),
        ("webm", "video/webm"),
        ("glb", "model/gltf-binary"),
    ];
    TABLE
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(ext))
        .map_or("application/octet-stream", |(_, mime)| mime)
}

/// Whether `ext` can be the end of a file name everywhere: 1 to 16 ASCII letters and digits.
pub fn is_plain_ext(ext: &str) -> bool {
    (1..=16).contains(&ext.len()) && ext.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The longest file name that is made, in characters.
pub const MAX_FILE_NAME_CHARS: usize = 120;

/// `name` as a file name that is safe in a header and on a disk: quotes, separators, control characters and
/// the characters that some system reserves become `_`, and a leading dot gets one in front; at most
/// [`MAX_FILE_NAME_CHARS`] characters.
pub fn safe_file_name(name: &str) -> String {
    let front = if name.is_empty() || name.starts_with('.') { "_" } else { "" };
    let safe = name.chars().map(|c| match c {
        '"' | '\\' | '/' | ':' | '*' | '?' | '<' | '>' | '|' | '%' => '_',
        c if c.is_control() => '_',
        c => c,
    });
    front.chars().chain(safe).take(MAX_FILE_NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn mime_types_follow_the_table_of_section_5() {
        for (ext, mime) in [
            ("png", "image/png"),
            ("PNG", "image/png"),
            ("webp", "image/webp"),
            ("gif", "image/gif"),
            ("jpg", "image/jpeg"),
            ("JPEG", "image/jpeg"),
            ("wav", "audio/wav"),
            ("mp3", "audio/mpeg"),
            ("ogg", "audio/ogg"),
            ("opus", "audio/ogg"),
            ("flac", "audio/flac"),
            ("mp4", "video/mp4"),
            ("WebM", "video/webm"),
            ("glb", "model/gltf-binary"),
            ("bin", "application/octet-stream"),
            ("", "application/octet-stream"),
        ] {
            assert_eq!(mime_of(ext), mime, "{ext}");
        }
    }

    #[test]
    fn file_names_lose_what_could_break_a_header_or_a_path() {
        assert_eq!(safe_file_name("job-1.webp"), "job-1.webp");
        assert_eq!(safe_file_name("a\"b\r\nc/d\\e"), "a_b__c_d_e");
        assert_eq!(safe_file_name("../etc"), "_.._etc");
        assert_eq!(safe_file_name(""), "_");
        for long in ["x".repeat(200), format!(".{}", "ü".repeat(200))] {
            assert_eq!(safe_file_name(&long).chars().count(), MAX_FILE_NAME_CHARS);
        }
    }
}
