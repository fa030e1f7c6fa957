//! The page that shows what was delivered. It needs nothing but the files beside it.

use std::{fmt::Write, fs, io, path::Path};

use serde_json::Value;
use studio_worker_core::{wire::media, worker::truncate_prompt};

use super::{Delivered, grouped};
use crate::studio::VIEWER;

/// The largest 3D model that is put into the page, in bytes: a page that is opened from a disk may not read the
/// files beside it.
const MAX_INSIDE: u64 = 8 * 1024 * 1024;

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>What the demo delivered</title>
<style>
  :root { --ground: #f5f5f2; --card: #fff; --ink: #1d2126; --soft: #68707a; --line: #e1e2dd; --tint: #eef2fb; --accent: #2257c5 }
  @media (prefers-color-scheme: dark) { :root { --ground: #14171a; --card: #1d2125; --ink: #e8eaec; --soft: #98a1ab; --line: #30363c; --tint: #232a38; --accent: #84a9ff } }
  * { box-sizing: border-box }
  body { margin: 0 auto; padding: 32px 24px; max-width: 1080px; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
  h1 { font-size: 24px; margin: 0 } h2 { font-size: 16px; margin: 0 }
  p { margin: 0 } a { color: var(--accent) }
  .soft { color: var(--soft); font-size: 14px }
  main { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 18px; margin-top: 24px }
  article { background: var(--card); border: 1px solid var(--line); border-radius: 12px; overflow: hidden; display: flex; flex-direction: column }
  .show { background: var(--tint); flex: 1; min-height: 220px; display: grid; place-items: center }
  .show img, .show video, .show canvas { display: block; width: 100%; height: 260px; object-fit: contain }
  .show canvas { cursor: grab; touch-action: none }
  .show audio { width: calc(100% - 32px) }
  blockquote { margin: 0; padding: 18px; overflow-wrap: anywhere; align-self: center }
  .foot { padding: 12px 16px 14px; border-top: 1px solid var(--line) }
  .prompt { margin: 4px 0; overflow-wrap: anywhere }
</style>
<h1>What the demo delivered</h1>
"#;

/// Writes `index.html` into `folder`.
pub(super) fn write(folder: &Path, delivered: &[Delivered], made_up: bool) -> io::Result<()> {
    let mut page = String::from(HEAD);
    let whose = if made_up { " Its results are made up: no model ran." } else { "" };
    // Writing to a text can't fail.
    let _ = writeln!(
        page,
        "<p class=\"soft\">A worker registered with a studio on this machine, was approved, and delivered one job of \
         each kind that it serves.{whose}</p>\n<main>"
    );
    let mut model = None;
    for it in delivered {
        let name = it.file.file_name().unwrap_or_default().to_string_lossy();
        let ext = it.file.extension().unwrap_or_default().to_string_lossy();
        let shown = match media::mime_of(&ext) {
            mime if mime.starts_with("image/") => {
                format!(r#"<img src="{}" alt="{}">"#, escape(&name), escape(&it.prompt))
            }
            mime if mime.starts_with("audio/") => {
                format!(r#"<audio controls src="{}"></audio>"#, escape(&name))
            }
            mime if mime.starts_with("video/") => {
                format!(r#"<video controls loop src="{}"></video>"#, escape(&name))
            }
            "model/gltf-binary" if it.bytes <= MAX_INSIDE => {
                model = Some(base64(&fs::read(&it.file)?));
                r#"<canvas id="model" width="640" height="640" role="img" aria-label="3D model"></canvas>"#
                    .to_owned()
            }
            _ if ext == "json" => format!("<blockquote>{}</blockquote>", escape(&said(&fs::read(&it.file)?))),
            _ => escape(&ext),
        };
        let prompt = match it.prompt.as_str() {
            "" => "from a picture".to_owned(),
            // The input itself, which nobody reads.
            data if data.starts_with("data:") => "from a file".to_owned(),
            prompt => truncate_prompt(prompt),
        };
        // Writing to a text can't fail.
        let _ = writeln!(
            page,
            "<article><div class=\"show\">{shown}</div><div class=\"foot\"><h2>{kind}</h2>\
             <p class=\"prompt\">{prompt}</p>\
             <p class=\"soft\">{model}, {seconds:.2} s, <a href=\"{name}\" download>{name}</a>, {bytes} bytes</p>\
             </div></article>",
            kind = title(it.kind),
            prompt = escape(&prompt),
            model = escape(&it.model),
            seconds = it.took.as_secs_f64(),
            name = escape(&name),
            bytes = grouped(it.bytes),
        );
    }
    page.push_str("</main>\n");
    if let Some(model) = model {
        let _ = writeln!(
            page,
            "<script>\n{VIEWER}</script>\n<script>\nconst bytes = Uint8Array.from(atob(\"{model}\"), c => \
             c.charCodeAt(0));\nshowMesh(document.getElementById(\"model\"), bytes.buffer);\n</script>",
        );
    }
    fs::write(folder.join("index.html"), page)
}

fn title(kind: &str) -> &str {
    match kind {
        "image" => "Picture",
        "llm" => "Chat",
        "audio_stt" => "Transcript",
        "audio_tts" => "Speech",
        "video" => "Video",
        "mesh" => "3D model",
        other => other,
    }
}

/// What a JSON result says: the message of a chat completion, the text of a transcript, or else all of it.
fn said(result: &[u8]) -> String {
    let result: Value = serde_json::from_slice(result).unwrap_or_default();
    let text = result.pointer("/choices/0/message/content").or_else(|| result.get("text"));
    text.and_then(Value::as_str).map_or_else(|| result.to_string(), str::to_owned)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            if digit > chunk.len() {
                text.push('=');
            } else {
                text.push(char::from(DIGITS[(group >> (18 - 6 * digit) & 63) as usize]));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xef]), "/+8=");
    }

    #[test]
    fn what_a_job_says_is_text_on_the_page() {
        let place = tempfile::tempdir().unwrap();
        let harm = "\"><script>alert(1)</script>&";
        let file = place.path().join("chat.json");
        fs::write(&file, serde_json::json!({ "text": harm }).to_string()).unwrap();
        let picture = place.path().join("a\"onerror=alert(1) b.png");
        let delivered = [file, picture].map(|file| Delivered {
            kind: "llm",
            model: harm.into(),
            took: std::time::Duration::ZERO,
            bytes: 1,
            file,
            prompt: harm.into(),
        });
        write(place.path(), &delivered, false).unwrap();
        let page = fs::read_to_string(place.path().join("index.html")).unwrap();
        assert!(!page.contains("<script>") && !page.contains("a\"onerror"), "{page}");
        assert_eq!(page.matches("&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;").count(), 6, "{page}");
    }

    #[test]
    fn texts_come_from_where_each_form_has_them() {
        assert_eq!(said(br#"{"choices":[{"message":{"content":"hello"}}]}"#), "hello");
        assert_eq!(said(br#"{"text":"spoken"}"#), "spoken");
        assert_eq!(said(br#"{"a":1}"#), r#"{"a":1}"#);
    }
}
