//! Servers whose answers are chosen by bytes.

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};

use super::{KEY, SIGNATURE};
use crate::http::{HttpAnswer, HttpFailure, HttpRequest};

/// A picture of one pixel.
pub(super) const PNG_BASE64: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
/// How such a picture begins, and other beginnings.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0";
const WEBP: &[u8] = b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0/\0\0\0\x10\x07\x10\x11\x11\x88\x88\xfe\x07\0";
const WAV: &[u8] =
    b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\0\0\0\0";
const OGG: &[u8] = b"OggS\0\x02\0\0\0\0\0\0\0\0OpusHead";

/// Bytes in fuzz data that stand for something longer, so that a body with it in it is found soon.
const MACROS: [(u8, &[u8]); 8] = [
    (0xff, KEY.as_bytes()),
    (0xfe, SIGNATURE.as_bytes()),
    (0xfd, PNG),
    (0xfc, WAV),
    (0xfb, b"http://engine.test:8080/app/file=/x.png"),
    (0xfa, b"{\"error\":{\"message\":\""),
    (0xf9, b"data:image/png;base64,"),
    (0xf8, b"event: complete\ndata: "),
];

const STATUSES: [u16; 24] = [
    200, 200, 200, 200, 201, 204, 206, 301, 302, 307, 308, 400, 401, 403, 404, 405, 408, 410, 413, 422, 429,
    500, 503, 999,
];

const LOCATIONS: [&str; 12] = [
    "https://other.test/x?token=abc",
    "/elsewhere",
    "http://engine.test:8080/app/x",
    "http://127.0.0.1:9/",
    "https://localhost./x",
    "https://169.254.169.254/latest/meta-data",
    "https://[::ffff:10.0.0.1]/",
    "http://files.test/plain",
    "https://user:pass@files.test/",
    "//other.test/",
    "data:image/png;base64,AAAA",
    "https://\u{0}/",
];

const RETRIES: [&str; 6] = ["0", "1", "60", "61", "99999999999999999999", "soon"];

/// The server.
pub(super) struct Hostile<'a> {
    data: &'a [u8],
}

impl<'a> Hostile<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data }
    }

    pub(super) fn byte(&mut self) -> u8 {
        match self.data.split_first() {
            Some((byte, rest)) => {
                self.data = rest;
                *byte
            }
            None => 0,
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    /// Up to 255 bytes, with what they stand for in their place.
    pub(super) fn text(&mut self) -> Vec<u8> {
        let length = usize::from(self.byte()).min(self.data.len());
        let (text, rest) = self.data.split_at(length);
        self.data = rest;
        let mut body = Vec::new();
        for byte in text {
            match MACROS.iter().find(|(stands, _)| stands == byte) {
                Some((_, long)) => body.extend_from_slice(long),
                None => body.push(*byte),
            }
        }
        body
    }

    /// What a program may make.
    pub(super) fn made(&mut self) -> Vec<u8> {
        let answer = br#"{"choices":[{"message":{"role":"assistant","content":"hello"}}]}"#;
        let made: [&[u8]; 10] = [
            PNG,
            WEBP,
            WAV,
            OGG,
            b"glTF\x02\0\0\0",
            b"\0\0\0\x20ftypisom",
            b"",
            b"a text\n",
            br#"{"text":"go forward","language":"en"}"#,
            answer,
        ];
        self.pick(&made).to_vec()
    }

    /// What comes of a request.
    pub(super) fn answer(&mut self, request: &HttpRequest) -> Result<HttpAnswer, HttpFailure> {
        let how = self.byte();
        if how == 1 {
            let why = String::from_utf8_lossy(&self.text()).into_owned();
            return Err(HttpFailure(format!("{why} for {}", request.url)));
        }
        let status = if how & 2 == 0 { 200 } else { self.pick(&STATUSES) };
        let location = (how & 4 != 0).then(|| self.pick(&LOCATIONS).to_owned());
        let retry_after = (how & 8 != 0).then(|| self.pick(&RETRIES).to_owned());
        let mut body = if how & 16 == 0 { self.good(&request.url) } else { self.text() };
        if how & 32 != 0 && !body.is_empty() {
            self.spoil(&mut body);
        }
        if how & 64 != 0 {
            body = format!("{{\"error\":{{\"message\":\"at {} with {KEY}\"}}}}", request.url).into_bytes();
        }
        body.truncate(request.answer_limit);
        Ok(HttpAnswer { status, location, retry_after, date: None, body })
    }

    /// One to four changes: a byte, a cut, something put in, a part said again.
    fn spoil(&mut self, body: &mut Vec<u8>) {
        for _ in 0..=self.byte() % 4 {
            let how = self.byte();
            let at = (usize::from(self.byte()) << 8 | usize::from(self.byte())) % (body.len() + 1);
            match how % 4 {
                0 => {
                    let byte = self.byte();
                    if let Some(place) = body.get_mut(at) {
                        *place = byte;
                    }
                }
                1 => body.truncate(at),
                2 => {
                    let text = self.text();
                    body.splice(at..at, text);
                }
                _ => {
                    let end = (at + usize::from(self.byte())).min(body.len());
                    let part = body[at..end].to_vec();
                    body.splice(at..at, part);
                }
            }
        }
    }

    /// What a good server answers, one of several.
    fn good(&mut self, url: &str) -> Vec<u8> {
        let variants = usize::from(self.byte());
        let one = |of: &[&str]| of[variants % of.len()].as_bytes().to_vec();
        let path = url.split(['?', '#']).next().unwrap_or("");
        if path.contains("files.test") || path.contains("file=") {
            return [PNG, WEBP, WAV, OGG][variants % 4].to_vec();
        }
        match path.rsplit('/').next().unwrap_or("") {
            "health" => one(&[r#"{"status":"ok"}"#]),
            "models" => one(&[
                r#"{"object":"list","data":[{"id":"gemma-3"},{"id":"whisper-1","task":"automatic-speech-recognition"},{"id":"embed"}]}"#,
                r#"{"data":[{"id":"x","type":"vlm","created":1e99}],"models":[null]}"#,
            ]),
            "completions" => one(&[
                r#"{"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"<think>hm</think>hello"}}],"usage":{"total_tokens":3}}"#,
                r#"{"choices":[{"message":{"content":null,"tool_calls":[{}]}}],"model":"other","object":7}"#,
            ]),
            "generations" => match variants % 3 {
                0 => format!(r#"{{"created":1,"data":[{{"b64_json":"{PNG_BASE64}"}}]}}"#).into_bytes(),
                1 => br#"{"data":[{"url":"/app/file=a.png"},{"url":"x"}]}"#.to_vec(),
                _ => br#"{"data":[{"b64_json":null,"url":"https://other.test/x?sig=1"}]}"#.to_vec(),
            },
            "speech" => [WAV, OGG, b"ID3\x04\0\0\0\0\0\0", b"\xff\xf1\x50\x80"][variants % 4].to_vec(),
            "transcriptions" | "translations" => one(&[
                r#"{"text":"go forward","language":"en","duration":2.5,"segments":[{"id":0,"start":0.0}]}"#,
                r#"{"text":""}"#,
            ]),
            "config" => one(&[
                r#"{"version":"6.31.0","api_prefix":"/gradio_api","components":[]}"#,
                r#"{"version":"4.44.1"}"#,
                r#"{"version":"3.50.2"}"#,
                r#"{"version":"5.0.0","api_prefix":"//evil.test"}"#,
            ]),
            "info" => one(&[
                r#"{"named_endpoints":{"/draw":{"parameters":[{"parameter_name":"prompt","parameter_has_default":false},{"parameter_name":"width","parameter_has_default":true,"parameter_default":512},{"label":"Seed"},{"label":"x"}],"returns":[{"component":"Image"}]}},"unnamed_endpoints":{}}"#,
                r#"{"named_endpoints":{"/../x":{"parameters":[],"returns":[{"component":"Gallery"}]},"/y":{}}}"#,
            ]),
            "predict" => one(&[
                r#"{"data":["/app/file=/tmp/a.png"],"duration":1.5}"#,
                r#"{"data":[{"name":"/tmp/a b.png","data":null,"is_file":true}]}"#,
                r#"{"data":["data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAE="]}"#,
            ]),
            "draw" | "%2E.%2Fx" => br#"{"event_id":"0a1b2c"}"#.to_vec(),
            _ => one(&[
                "event: heartbeat\ndata: null\n\nevent: complete\ndata: [{\"path\": \"/tmp/a.webp\", \"url\": \"http://engine.test:8080/app/gradio_api/file=/tmp/a.webp\"}, 7]\n\n",
                "event: generating\ndata: [null]\n\nevent: complete\ndata: [[{\"image\": {\"path\": \"/tmp/b.png\", \"url\": \"https://proxy.test/b.png?t=1\"}}]]\n\n",
                "event: error\ndata: null\n\n",
                "event: error\r\ndata: {\"error\": \"out of memory\"}\r\n\r\n",
                "event: complete\ndata: [\"https://other.test/x.png?sig=2\"]\n\n",
            ]),
        }
    }
}
