//! Names of files that come from others.

/// The longest name, in bytes: file systems have 255, and a download adds to it.
const MAX_BYTES: usize = 240;

/// Whether this is the plain name of a file, on every system: no path, nothing hidden, no device, and not the name of
/// another file's download.
///
/// ```
/// use studio_worker_core::machine::is_plain_name;
///
/// assert!(is_plain_name("flux1-dev Q4.gguf"));
/// assert!(!is_plain_name("../flux1.gguf") && !is_plain_name("a/b") && !is_plain_name("nul.txt"));
/// ```
pub fn is_plain_name(name: &str) -> bool {
    let forbidden =
        |c: char| c.is_control() || matches!(c, '/' | '\\' | ':' | '<' | '>' | '"' | '|' | '?' | '*');
    !name.is_empty()
        && name.len() <= MAX_BYTES
        && !name.contains(forbidden)
        && !name.starts_with(['.', ' '])
        && !name.ends_with(['.', ' '])
        && !is_device(name)
        && !is_of_a_download(name)
}

/// Windows has devices in every folder, with any extension.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let numbered = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$")
        || numbered.is_some_and(|number| {
            let mut digits = number.chars();
            let digit = digits.next();
            digits.next().is_none() && matches!(digit, Some('0'..='9' | '¹' | '²' | '³'))
        })
}

fn is_of_a_download(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, ending)| ending.eq_ignore_ascii_case("part"))
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    #[test]
    fn only_a_plain_name_is_one() {
        for name in
            ["a", "model.gguf", "model.bin.part1", "ä ö.safetensors", "a..b", "COM10", "console.txt", "-x"]
        {
            assert!(is_plain_name(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "../a",
            "a/b",
            "a\\b",
            "/a",
            "C:a",
            "C:\\a",
            "a\0",
            "a\nb",
            ".hidden",
            "a.",
            "a ",
            " a",
            "nul",
            "NUL.txt",
            "Con",
            "con .txt",
            "aux.tar.gz",
            "COM1",
            "lpt9.x",
            "COM¹",
            "a.part",
            "a.PART",
            "a?b",
            "a*",
            "a|b",
            "\u{7f}",
        ] {
            assert!(!is_plain_name(name), "{name:?}");
        }
        assert!(is_plain_name(&"a".repeat(240)));
        assert!(!is_plain_name(&String::from("a").repeat(241)));
    }
}
