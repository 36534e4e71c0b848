//! Frames: version 1 or version 2, as byte 4 of the connection's first frame says.

use contract::{Error, Kind};
use wire::{Outbound, Refusal, binary};

use crate::exchange::{Answer, Dialect, Push, Said};
use crate::frame::{Decoded, Decoder, FRAME_BYTES_MAX, Partial};
use crate::outbox::Outbox;
use crate::v1::Version1;

/// The dialect.
#[derive(Debug)]
pub(crate) struct Framed {
    decoder: Decoder,
    version1: Version1,
}

impl Framed {
    /// With `failed_as_error`, a reply of version 1 whose JSON says `"ok":false` is written as
    /// `RESPONSE_ERROR`.
    pub(crate) fn new(decoder: Decoder, failed_as_error: bool) -> Self {
        Self { decoder, version1: Version1 { failed_as_error } }
    }

    /// The decoder, for reading a large body directly.
    pub(crate) fn decoder(&mut self) -> &mut Decoder {
        &mut self.decoder
    }

    /// What a decoded frame says.
    pub(crate) fn meaning(decoded: Decoded) -> Said {
        match decoded {
            Decoded::Frame { version: binary::VERSION, kind, payload, charge } => {
                match binary::decode(kind, payload) {
                    Ok(inbound) => Said::Question(inbound, charge),
                    Err(refusal) => Said::Misspoken(refusal),
                }
            }
            Decoded::Skipped { version: binary::VERSION, start, .. } => Said::Misspoken(Refusal {
                id: binary::id_of(&start),
                error: Error::new(
                    Kind::Overloaded,
                    "the gateway has no memory left for this message; try again later",
                ),
            }),
            decoded => Version1::meaning(decoded),
        }
    }

    fn is_version2(&self) -> bool {
        self.decoder.version() == Some(binary::VERSION)
    }
}

impl Dialect for Framed {
    fn hear(&mut self, input: &mut &[u8]) -> Option<Said> {
        let decoded = self.decoder.decode(input)?;
        Some(Self::meaning(decoded))
    }

    fn answer(&mut self, answer: Answer, outbox: &mut Outbox) {
        match answer {
            // The only answers without a question of version 2: what ends its connection.
            Answer::Error(error) if self.is_version2() => {
                self.tell(&Outbound::Error { id: None, error: &error }, outbox);
            }
            Answer::Version if self.is_version2() => {
                let error =
                    Error::new(Kind::Unsupported, "a connection keeps the version of its first frame");
                self.tell(&Outbound::Error { id: None, error: &error }, outbox);
            }
            answer => self.version1.answer(answer, outbox),
        }
    }

    fn acknowledge(&mut self, stream: &str, outbox: &mut Outbox) {
        Version1::acknowledge(stream, outbox);
    }

    fn push(&mut self, stream: &str, push: Push<'_>, outbox: &mut Outbox) {
        Version1::push(stream, push, outbox);
    }

    fn tell(&mut self, told: &Outbound<'_>, outbox: &mut Outbox) -> bool {
        binary::encode(told, FRAME_BYTES_MAX, outbox)
    }

    fn partial(&self) -> Partial {
        self.decoder.partial()
    }
}
