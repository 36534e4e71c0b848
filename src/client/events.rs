//! Server-Sent Events as a client reads them (WHATWG HTML, section 9.2.6): bytes in, events out.
//!
//! Only what the gateway writes has a meaning (`docs/protocols/http.md`); fields and events of a later one are
//! passed over.

use bytes::{Bytes, BytesMut};

use super::{Lost, What, json};

/// Bytes of the longest line: a payload of 8 MiB in base64, and its headers.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What came on a stream of events.
#[derive(Debug)]
pub(super) enum Event {
    /// The stream is open.
    Open,
    /// Something to tell; the stream goes on.
    Told(What),
    /// Something to tell; the stream is over.
    Last(What),
}

/// The reader of one stream.
#[derive(Debug, Default)]
pub(super) struct Events {
    input: BytesMut,
    /// Bytes of the input in which no newline was found.
    searched: usize,
    name: String,
    data: Option<Bytes>,
    opened: bool,
}

impl Events {
    /// Takes what was read.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next event, if it is whole.
    pub(super) fn next(&mut self) -> Result<Option<Event>, Lost> {
        while let Some(line) = self.line()? {
            if line.is_empty() {
                let (name, data) = (std::mem::take(&mut self.name), self.data.take());
                if let Some(data) = data
                    && let Some(event) = event(&name, &data)?
                {
                    return Ok(Some(event));
                }
                if !std::mem::replace(&mut self.opened, true) {
                    return Ok(Some(Event::Open));
                }
                continue;
            }
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let value = line.slice((colon + 1).min(line.len())..);
            let value = if value.starts_with(b" ") { value.slice(1..) } else { value };
            match &line[..colon] {
                b"event" => self.name = String::from_utf8_lossy(&value).into_owned(),
                // The gateway's data is one line.
                b"data" => self.data = Some(value),
                _ => {}
            }
        }
        Ok(None)
    }

    fn line(&mut self) -> Result<Option<Bytes>, Lost> {
        let Some(end) = self.input[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.input.len();
            if self.searched > LINE_BYTES_MAX {
                return Err(Lost::Protocol(format!("an event with a line of over {LINE_BYTES_MAX} bytes")));
            }
            return Ok(None);
        };
        let mut line = self.input.split_to(self.searched + end + 1).freeze();
        self.searched = 0;
        line.truncate(line.len() - 1);
        if line.ends_with(b"\r") {
            line.truncate(line.len() - 1);
        }
        Ok(Some(line))
    }
}

fn event(name: &str, data: &Bytes) -> Result<Option<Event>, Lost> {
    Ok(Some(match name {
        "message" => Event::Told(json::delivery(data)?),
        "gap" => Event::Told(json::gap(data)?),
        "end" => Event::Last(What::End),
        "error" => Event::Last(What::Failed(json::problem(data)?)),
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use contract::Kind;

    use super::*;

    #[test]
    fn events_are_read_in_any_pieces() {
        let text = concat!(
            ": open\n\nretry: 3000\nevent: message\nid: 1\n",
            "data: {\"subject\":\"a.b\",\"headers\":{\"x\":[\"1\",\"2\"]},\"payload_base64\":\"AQ==\"}\n\n",
            ": still here\n\nevent: news\ndata: {}\n\nevent: gap\r\ndata: {\"lost\":3}\r\n\r\n",
            "event: gap\ndata: {\"lost\":null}\n\n",
            "event: error\ndata: {\"kind\":\"draining\",\"detail\":\"it stops\",\"outcome\":\"unknown\"}\n\n",
        );
        for size in [1, 7, text.len()] {
            let (mut events, mut seen) = (Events::default(), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                events.feed(piece);
                while let Some(event) = events.next().unwrap() {
                    seen.push(event);
                }
            }
            let [open, delivery, three, unknown, error] = &seen[..] else { panic!("{seen:?}") };
            assert!(matches!(open, Event::Open));
            let Event::Told(What::Delivery { subject, headers, payload }) = delivery else {
                panic!("{delivery:?}")
            };
            assert_eq!((&**subject, headers.iter().count(), &**payload), ("a.b", 2, &[1][..]), "{size}");
            assert!(matches!(three, Event::Told(What::Gap(Some(3)))));
            assert!(matches!(unknown, Event::Told(What::Gap(None))));
            let Event::Last(What::Failed(failure)) = error else { panic!("{error:?}") };
            assert_eq!((failure.kind, &*failure.text), (Kind::Draining, "it stops"));
        }
    }
}
