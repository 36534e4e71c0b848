//! The gateway as a whole: what a peer leaves behind, what the doors share, and how the gateway leaves.

use std::time::Duration;

use contract::{Kind, Outcome};
use ipc_gateway::client::{Say, Via};

use super::requests::{PAYLOAD, REQUEST_ID};
use crate::broker::Answer;
use crate::ground::{Fault, Ground, answer, ask, check, failed, reply};

/// The cancel subject of the case below, in the words of its settings.
const CANCELS: &str = "matrix.cancels";

pub(super) async fn cancel(ground: &mut Ground) -> Result<(), Fault> {
    if ground.door.only_listens() {
        let line = ground.subscribed().await?;
        check(ground.streams() == 1, || "no stream is open".to_owned())?;
        drop(line);
        while ground.streams() != 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        return Ok(());
    }
    let mut ear = ground.respond(|_| None).await;
    let mut line = ground.line().await?;
    line.say(1, &Say::Request(ground.call(PAYLOAD))).map_err(|failure| failure.to_string())?;
    tokio::select! {
        seen = ear.hear() => drop(seen.ok_or("the responder ended")?),
        heard = line.heard() => return Err(format!("nobody answered, and came {heard:?}")),
    }
    check(ground.broker.waiting() == 1, || "no reply is waited for".to_owned())?;
    drop(line);
    while ground.broker.waiting() != 0 {
        // Bounded by the time limit of the whole cell.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

pub(super) async fn cancel_told(ground: &mut Ground) -> Result<(), Fault> {
    let mut ear = ground.respond(|_| None).await;
    // Cells that run beside this one are told there too.
    let mut cancels = ground.respond_on(CANCELS, |_| None).await;
    let mut line = ground.line().await?;
    line.say(1, &Say::Request(ground.call(PAYLOAD))).map_err(|failure| failure.to_string())?;
    let seen = tokio::select! {
        seen = ear.hear() => seen.ok_or("the responder ended")?,
        heard = line.heard() => return Err(format!("nobody answered, and came {heard:?}")),
    };
    if line.say(1, &Say::Cancel).is_ok() {
        failed(answer(&mut line, 1).await?, Kind::Cancelled, Outcome::Unknown)?;
    } else {
        // Where there is no word for it, going is how a request is taken back.
        drop(line);
    }
    let id = seen.header(REQUEST_ID);
    check(id.is_some(), || "the request has no id".to_owned())?;
    let told = loop {
        let told = cancels.hear().await.ok_or("the responder ended")?;
        if told.header(REQUEST_ID) == id {
            break told;
        }
    };
    let reason = told.header("Ipc-Gateway-Cancel");
    check(reason == Some("cancelled"), || format!("the reason is {reason:?}"))
}

pub(super) async fn shared_limit(ground: &mut Ground) -> Result<(), Fault> {
    let _ear = ground.echo().await;
    // Another door at which the same identity is known.
    let other = if ground.door.via == ground.door.partner { Via::Json } else { ground.door.partner };
    let mut spending = ground.line_via(other).await?;
    let mut call = ground.call(PAYLOAD);
    call.subject.clone_from(&ground.subject);
    reply(ask(&mut spending, 1, &Say::Request(call)).await?)?;
    let mut line = ground.line().await?;
    let what = ask(&mut line, 1, &ground.question(PAYLOAD)).await?;
    failed(what, Kind::RateLimited, Outcome::NotSent).map(drop)
}

pub(super) async fn drain(ground: &mut Ground) -> Result<(), Fault> {
    if ground.door.only_listens() {
        let mut line = ground.subscribed().await?;
        let stopped = tokio::spawn(ground.stop(Duration::from_secs(20)));
        failed(answer(&mut line, 1).await?, Kind::Draining, Outcome::NotSent)?;
        stopped.await.map_err(|error| error.to_string())?;
        return check(ground.line().await.is_err(), || "a stopped gateway lets somebody in".to_owned());
    }
    let mut ear = ground
        .respond(|seen| {
            Some(Answer {
                after: Duration::from_millis(300),
                payload: seen.payload.clone(),
                ..Answer::default()
            })
        })
        .await;
    let mut line = ground.line().await?;
    line.say(1, &Say::Request(ground.call(PAYLOAD))).map_err(|failure| failure.to_string())?;
    tokio::select! {
        seen = ear.hear() => drop(seen.ok_or("the responder ended")?),
        heard = line.heard() => return Err(format!("nobody answered yet, and came {heard:?}")),
    }
    let stopped = tokio::spawn(ground.stop(Duration::from_secs(20)));
    reply(answer(&mut line, 1).await?)?;
    // The connection ends, and nobody is let in any more. One that holds an exchange at a time ends with its answer.
    while !ground.door.one_at_a_time && line.heard().await.is_ok() {}
    stopped.await.map_err(|error| error.to_string())?;
    check(ground.line().await.is_err(), || "a stopped gateway lets somebody in".to_owned())
}
