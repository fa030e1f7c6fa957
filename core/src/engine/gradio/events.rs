//! A stream of server-sent events, read as it comes.

use alloc::{string::String, vec::Vec};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Its name; `message` when it has none.
    pub(super) name: String,
    /// Its data, lines joined.
    pub(super) data: Vec<u8>,
}

/// Reads events from bytes that are cut anywhere. It holds one line and one event.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    name: Vec<u8>,
    data: Option<Vec<u8>>,
    /// The last byte was a carriage return: a line feed behind it belongs to it.
    after_return: bool,
    /// Past the first line, at whose beginning may be a mark of the byte order.
    begun: bool,
}

impl Events {
    /// Reads on. An event is there when the empty line behind it is: one that the end cuts off never was.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut there: impl FnMut(Event)) {
        while let Some((first, rest)) = bytes.split_first() {
            if core::mem::take(&mut self.after_return) && *first == b'\n' {
                bytes = rest;
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
                self.line.extend_from_slice(bytes);
                return;
            };
            self.line.extend_from_slice(&bytes[..end]);
            self.after_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if let Some(event) = self.take_line() {
                there(event);
            }
        }
    }

    fn take_line(&mut self) -> Option<Event> {
        let line = core::mem::take(&mut self.line);
        let mut line = line.as_slice();
        if !core::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            let name = core::mem::take(&mut self.name);
            let data = self.data.take()?;
            let name =
                if name.is_empty() { "message".into() } else { String::from_utf8_lossy(&name).into_owned() };
            return Some(Event { name, data });
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = match colon {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => self.name = value.to_vec(),
            b"data" => match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            },
            // A comment, an id, or how long to wait before connecting again.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"\xef\xbb\xbfevent: heartbeat\ndata: null\n\n: comment\nid: 7\n\nevent:generating\r\ndata: [1,\r\ndata: 2]\r\n\r\n\
        data\rdata:  x\r\revent: complete\ndata: [\"\xc3\xa9\"]\n\nevent: late\ndata: cut";

    fn read(chunks: impl Iterator<Item = Vec<u8>>) -> Vec<(String, Vec<u8>)> {
        let mut events = Events::default();
        let mut read = Vec::new();
        for chunk in chunks {
            events.feed(&chunk, |event| read.push((event.name, event.data)));
        }
        read
    }

    #[test]
    fn a_stream_cut_anywhere_is_the_same_events() {
        let wanted: Vec<(String, Vec<u8>)> = [
            ("heartbeat", &b"null"[..]),
            ("generating", b"[1,\n2]"),
            ("message", b"\n x"),
            ("complete", "[\"é\"]".as_bytes()),
        ]
        .into_iter()
        .map(|(name, data)| (name.into(), data.to_vec()))
        .collect();
        assert_eq!(read([STREAM.to_vec()].into_iter()), wanted);
        assert_eq!(read(STREAM.iter().map(|byte| [*byte].to_vec())), wanted);
        for cut in 0..STREAM.len() {
            let (first, second) = STREAM.split_at(cut);
            assert_eq!(read([first.to_vec(), second.to_vec()].into_iter()), wanted, "cut at {cut}");
            // What is there before the cut is there without what follows.
            let before = read([first.to_vec()].into_iter());
            assert_eq!(before, wanted[..before.len()], "ends at {cut}");
        }
    }
}
