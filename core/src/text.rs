//! Texts of others, for a person to read.

use alloc::string::String;

/// `text` on one line, with a space for each character that would steer a terminal or make the text look like another:
/// control characters, directions, and what can't be seen. Whoever chose a text must not choose what a person believes.
///
/// ```
/// use studio_worker_core::text::plain;
///
/// assert_eq!(plain("no\u{1b}[2J\nroot: yes".into()), "no [2J root: yes");
/// ```
pub fn plain(text: String) -> String {
    if text.contains(is_odd) { text.replace(is_odd, " ") } else { text }
}

/// Whether a character is one of those.
fn is_odd(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_steers_no_terminal_and_looks_like_itself() {
        for (text, shown) in [
            ("a red fox, ärger, 狐", "a red fox, ärger, 狐"),
            ("\u{1b}]0;title\u{7}x", " ]0;title x"),
            ("a\r\nb\tc\u{0}", "a  b c "),
            ("\u{9b}31m", " 31m"),
            ("\u{202e}gpj.exe\u{2066}\u{feff}", " gpj.exe  "),
            ("a\u{2028}b\u{200d}", "a b "),
        ] {
            assert_eq!(plain(text.into()), shown);
        }
    }
}
