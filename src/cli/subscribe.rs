//! `ipc-gateway subscribe`: prints the messages of a pattern until it is ended.

use std::io;

use clap::Args;
use serde_json::json;

use super::code;
use super::console::{Console, failure_json, headers_json};
use super::peer::{Came, Peer};
use super::question::{Options, Way, Whereabouts};
use super::rounds::{ended, sentence};
use crate::client::{Failure, Say, Via, What};

/// What was typed.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// What to listen to, such as demo.tick or orders.*.created; > stands for the rest.
    pattern: String,
    #[command(flatten)]
    options: Options,
    /// End after N messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    way: Way,
}

/// Subscribes. Without a count, a signal is how it ends, and the exit code is then 0.
pub(super) fn subscribe(
    arguments: &Arguments,
    whereabouts: Whereabouts,
    console: &mut Console<'_>,
) -> io::Result<u8> {
    let call = match arguments.options.call(arguments.pattern.clone()) {
        Ok(call) => call,
        Err(problem) => {
            console.complain(&problem)?;
            return Ok(code::USAGE);
        }
    };
    let Way { via, json, ref url } = arguments.way;
    let whereabouts = whereabouts.named(url.as_ref());
    let listening = Listening { via, json, whereabouts, say: Say::Subscribe(call), left: arguments.count };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(listening.run(console))
}

struct Listening {
    via: Via,
    json: bool,
    whereabouts: Whereabouts,
    say: Say,
    /// Messages still wanted; `None` is all.
    left: Option<u64>,
}

impl Listening {
    async fn run(mut self, console: &mut Console<'_>) -> io::Result<u8> {
        let mut peer = match Peer::connect(self.via, &self.whereabouts).await? {
            Ok(peer) => peer,
            Err(came) => return ended(&came, self.via, self.json, console),
        };
        match peer.ask(&self.say).await {
            Came::What(What::Accepted) => {}
            Came::What(What::Failed(failure)) => return self.failed(&failure, console),
            Came::What(other) => {
                console.complain(&format!("an answer of another kind than was asked for: {other:?}"))?;
                return Ok(code::FAILED);
            }
            came => return ended(&came, self.via, self.json, console),
        }
        if console.complaints_are_seen && !self.json {
            console.note("subscribed; end with Ctrl-C")?;
        }
        while self.left != Some(0) {
            match peer.next().await {
                Came::What(What::Delivery { subject, headers, payload }) => {
                    if self.json {
                        let mut members = json!({"subject": subject});
                        if !headers.is_empty() {
                            members["headers"] = headers_json(&headers);
                        }
                        console.object(&members, Some(&payload))?;
                    } else {
                        console.payload(&payload, true)?;
                    }
                    self.left = self.left.map(|left| left - 1);
                }
                Came::What(What::Gap(lost)) => self.gap(lost, console)?,
                Came::What(What::Failed(failure)) => return self.failed(&failure, console),
                Came::What(What::End) => return Ok(code::OK),
                Came::What(other) => tracing::debug!(?other, "not of a subscription"),
                came @ Came::Lost(_) => return ended(&came, self.via, self.json, console),
                Came::Interrupted => {
                    peer.unsubscribe().await;
                    return Ok(if self.left.is_some() { code::INTERRUPTED } else { code::OK });
                }
            }
        }
        peer.unsubscribe().await;
        Ok(code::OK)
    }

    fn gap(&self, lost: Option<u64>, console: &mut Console<'_>) -> io::Result<()> {
        if self.json {
            return console.object(&json!({"gap": lost}), None);
        }
        let many = lost.map_or_else(|| "an unknown number of".to_owned(), |lost| lost.to_string());
        console.complain(&format!("{many} messages were lost here"))
    }

    fn failed(&self, failure: &Failure, console: &mut Console<'_>) -> io::Result<u8> {
        if self.json {
            console.object(&json!({"ok": false, "error": failure_json(failure)}), None)?;
        }
        console.complain(&sentence(failure, &self.say, self.via, &self.whereabouts))?;
        Ok(code::of(failure.kind))
    }
}
