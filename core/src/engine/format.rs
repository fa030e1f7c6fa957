//! What bytes are, by how they begin.

/// A file format that can be told by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A picture.
    Png,
    /// A picture.
    Jpeg,
    /// A picture, or a film of pictures.
    Webp,
    /// A picture, or a film of pictures.
    Gif,
    /// A picture.
    Bmp,
    /// Sound.
    Wav,
    /// Sound.
    Mp3,
    /// Sound: Vorbis or Opus in Ogg.
    Ogg,
    /// Sound.
    Flac,
    /// Sound: AAC in ADTS.
    Aac,
    /// Film, or sound.
    Mp4,
    /// Film, or sound.
    Webm,
    /// A 3D model.
    Glb,
}

impl Format {
    /// The format of a file with this beginning; `None` when it is none of those that are known.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let at =
            |offset: usize, wanted: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(wanted));
        Some(match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] if at(12, b"IHDR") => Self::Png,
            [0xff, 0xd8, 0xff, _, ..] => Self::Jpeg,
            [b'R', b'I', b'F', b'F', ..] if at(8, b"WEBPVP8") => Self::Webp,
            [b'R', b'I', b'F', b'F', ..] if at(8, b"WAVE") => Self::Wav,
            _ if at(0, b"GIF87a") || at(0, b"GIF89a") => Self::Gif,
            // A text may begin with the two letters: the reserved zeros of the header tell it apart.
            [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Self::Bmp,
            _ if at(0, b"fLaC") => Self::Flac,
            _ if at(0, b"OggS") => Self::Ogg,
            _ if at(0, b"glTF") => Self::Glb,
            _ if at(4, b"ftyp") => Self::Mp4,
            [0x1a, 0x45, 0xdf, 0xa3, ..] => Self::Webm,
            [b'I', b'D', b'3', version, ..] if *version < 0xff => Self::Mp3,
            // A frame's sync word; no layer is ADTS, layer III is MP3, with neither bit rate nor sampling rate reserved.
            [0xff, second, ..] if second & 0xf6 == 0xf0 => Self::Aac,
            [0xff, second, third, ..]
                if second & 0xe6 == 0xe2
                    && second & 0x18 != 0x08
                    && third >> 4 != 0xf
                    && third & 0x0c != 0x0c =>
            {
                Self::Mp3
            }
            _ => return None,
        })
    }

    /// Whether it is a still picture, or can be one.
    pub fn is_picture(self) -> bool {
        matches!(self, Self::Png | Self::Jpeg | Self::Webp | Self::Gif | Self::Bmp)
    }

    /// Whether it is sound alone.
    pub fn is_sound(self) -> bool {
        matches!(self, Self::Wav | Self::Mp3 | Self::Ogg | Self::Flac | Self::Aac)
    }

    /// The extension for files of this format, and others that it goes by.
    fn exts(self) -> &'static [&'static str] {
        match self {
            Self::Png => &["png"],
            Self::Jpeg => &["jpg", "jpeg"],
            Self::Webp => &["webp"],
            Self::Gif => &["gif"],
            Self::Bmp => &["bmp"],
            Self::Wav => &["wav"],
            Self::Mp3 => &["mp3"],
            Self::Ogg => &["ogg", "opus", "oga"],
            Self::Flac => &["flac"],
            Self::Aac => &["aac"],
            Self::Mp4 => &["mp4", "m4a", "m4v", "mov"],
            Self::Webm => &["webm", "mkv"],
            Self::Glb => &["glb"],
        }
    }

    /// The extension for files of this format.
    pub fn ext(self) -> &'static str {
        self.exts()[0]
    }

    /// The format that goes by an extension.
    pub fn by_ext(ext: &str) -> Option<Self> {
        const ALL: [Format; 13] = [
            Format::Png,
            Format::Jpeg,
            Format::Webp,
            Format::Gif,
            Format::Bmp,
            Format::Wav,
            Format::Mp3,
            Format::Ogg,
            Format::Flac,
            Format::Aac,
            Format::Mp4,
            Format::Webm,
            Format::Glb,
        ];
        ALL.into_iter().find(|format| format.exts().iter().any(|known| known.eq_ignore_ascii_case(ext)))
    }

    /// The extension for files of this format: the one asked for where that is another name for it.
    pub fn ext_as_asked(self, asked: &str) -> &'static str {
        self.exts().iter().find(|ext| ext.eq_ignore_ascii_case(asked)).copied().unwrap_or(self.ext())
    }

    /// The MIME type of a picture or of sound.
    pub fn mime(self) -> &'static str {
        match self {
            Self::Bmp => "image/bmp",
            Self::Aac => "audio/aac",
            known => crate::wire::media::mime_of(known.ext()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        for (bytes, ext) in [
            (&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0"[..], Some("png")),
            (b"\xff\xd8\xff\xe0\0\x10JFIF", Some("jpg")),
            (b"RIFF\x10\0\0\0WEBPVP8L", Some("webp")),
            (b"RIFF\x10\0\0\0WAVEfmt ", Some("wav")),
            (b"GIF89a\x01\0", Some("gif")),
            (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0", Some("bmp")),
            (b"fLaC\0\0\0\x22", Some("flac")),
            (b"OggS\0\x02", Some("ogg")),
            (b"ID3\x04\0\0", Some("mp3")),
            (b"\xff\xfb\x90\x64", Some("mp3")),
            (b"\xff\xf3\x84\xc4", Some("mp3")),
            (b"\xff\xf1\x50\x80", Some("aac")),
            (b"\0\0\0\x20ftypisom", Some("mp4")),
            (b"\x1a\x45\xdf\xa3\x01", Some("webm")),
            (b"glTF\x02\0\0\0", Some("glb")),
            (b"", None),
            (b"\x89PNG\r\n\x1a\n", None),
            (b"RIFF\x10\0\0\0AVI LIST", None),
            (b"BMW is a car", None),
            (b"ID3", None),
            (b"\xff", None),
            (b"\xff\xff\xff\xff", None),
            (b"<!doctype html>", None),
            (b"{\"error\":1}", None),
        ] {
            assert_eq!(Format::of(bytes).map(Format::ext), ext, "{bytes:?}");
        }
    }

    #[test]
    fn the_name_that_was_asked_for_is_kept_where_it_is_true() {
        assert_eq!(Format::Jpeg.ext_as_asked("JPEG"), "jpeg");
        assert_eq!(Format::Ogg.ext_as_asked("opus"), "opus");
        assert_eq!(Format::Png.ext_as_asked("webp"), "png");
        for (ext, format) in [
            ("PNG", Some(Format::Png)),
            ("opus", Some(Format::Ogg)),
            ("mov", Some(Format::Mp4)),
            ("exr", None),
        ] {
            assert_eq!(Format::by_ext(ext), format, "{ext}");
        }
    }
}
