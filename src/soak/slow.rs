//! A slow subscriber: it subscribes, stops reading while it is flooded, and then has to find that each message
//! either came or was counted in a gap that was told in its place.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use crate::client::{Call, Heard, Line, Lost, Reach, Say, Via, What};

/// The subject of the flood, whose route keeps few unread messages.
pub(super) const FLOOD: &str = "soak.flood";
/// Messages of a flood: more than its route, the gateway's write queue and the sockets hold together.
const MESSAGES: u64 = 600;
/// Bytes of each.
const MESSAGE_BYTES: usize = 8192;
/// Messages that are being published at one time.
const WINDOW: u64 = 16;
/// How long one step may take.
const LIMIT: Duration = Duration::from_secs(30);

/// What the flood came to.
#[derive(Debug)]
pub(super) struct Flooded {
    pub(super) published: u64,
    pub(super) delivered: u64,
    /// Messages in gaps.
    pub(super) lost: u64,
}

/// Floods a subscriber that does not read, and lets it read then. Fails with a line for a person.
pub(super) async fn flood(reach: &Reach) -> Result<Flooded, String> {
    let told = |lost: Lost| lost.to_string();
    let mut slow = Via::Unix.open(reach).await.map_err(told)?;
    let call = |payload: Bytes| Call { subject: FLOOD.to_owned(), payload, ..Call::default() };
    slow.say(1, &Say::Subscribe(call(Bytes::new()))).map_err(|failure| failure.to_string())?;
    match hear(&mut *slow).await?.what {
        What::Accepted => {}
        other => return Err(format!("instead of a subscription: {other:?}")),
    }
    let mut publisher = Via::Unix.open(reach).await.map_err(told)?;
    let pad = "x".repeat(MESSAGE_BYTES);
    let (mut said, mut accepted) = (0, 0);
    while accepted < MESSAGES {
        while said < MESSAGES && said - accepted < WINDOW {
            let payload = Bytes::from(format!("{said} {pad}"));
            publisher.say(said, &Say::Publish(call(payload))).map_err(|failure| failure.to_string())?;
            said += 1;
        }
        match hear(&mut *publisher).await?.what {
            What::Accepted => accepted += 1,
            other => return Err(format!("instead of taking a message: {other:?}")),
        }
    }
    read(&mut *slow).await
}

/// Reads until the last message, which nothing newer can push out.
async fn read(slow: &mut dyn Line) -> Result<Flooded, String> {
    let (mut delivered, mut lost, mut next) = (0, 0, 0);
    while next < MESSAGES {
        match hear(slow).await?.what {
            What::Gap(Some(messages)) => {
                lost += messages;
                next += messages;
            }
            What::Delivery { payload, .. } => {
                let text = std::str::from_utf8(&payload).ok().and_then(|text| text.split_once(' '));
                let number: Option<u64> = text.and_then(|(number, _)| number.parse().ok());
                if number != Some(next) {
                    return Err(format!("message {number:?} came where {next} was due, and no gap told so"));
                }
                delivered += 1;
                next += 1;
            }
            other => return Err(format!("instead of a message: {other:?}")),
        }
    }
    if lost == 0 {
        return Err(format!("nothing was lost of {MESSAGES} messages: the subscriber was not slow enough"));
    }
    Ok(Flooded { published: MESSAGES, delivered, lost })
}

async fn hear(line: &mut dyn Line) -> Result<Heard, String> {
    let heard = timeout(LIMIT, line.heard()).await.map_err(|_| format!("nothing for {LIMIT:?}"))?;
    heard.map_err(|lost| lost.to_string())
}
