//! Refusals and failures: every door tells the same kind and the same outcome, and what is refused is not sent.

use std::time::Duration;

use bytes::Bytes;
use contract::{Kind, Outcome};
use ipc_gateway::client::{Call, Say, What};

use super::requests::PAYLOAD;
use crate::broker::Answer;
use crate::ground::{Fault, Ground, answer, ask, check, failed, reply};

/// Refused with this kind, and not sent.
async fn refused(ground: &mut Ground, say: Say, kind: Kind) -> Result<(), Fault> {
    let mut ear = ground.echo().await;
    let mut line = ground.line().await?;
    failed(ask(&mut line, 1, &say).await?, kind, Outcome::NotSent)?;
    // Messages keep their order from outside, so this one would come second.
    ground.broker.publish(&ground.subject, Bytes::from_static(b"mark")).await;
    let seen = ear.hear().await.ok_or("the responder ended")?;
    check(seen.payload == "mark", || "it was sent nevertheless".to_owned())
}

pub(super) async fn wildcard(ground: &mut Ground) -> Result<(), Fault> {
    let say = Say::Publish(ground.call_to("case.*", PAYLOAD));
    refused(ground, say, Kind::Invalid).await
}

pub(super) async fn reserved(ground: &mut Ground) -> Result<(), Fault> {
    let say = ground.question_to("$SYS.REQ.SERVER.PING", PAYLOAD);
    refused(ground, say, Kind::Denied).await
}

pub(super) async fn unknown_route(ground: &mut Ground) -> Result<(), Fault> {
    let say = ground.question_to("nowhere.at.all", PAYLOAD);
    refused(ground, say, Kind::NotFound).await
}

pub(super) async fn denied(ground: &mut Ground) -> Result<(), Fault> {
    let say = ground.question(PAYLOAD);
    refused(ground, say, Kind::Denied).await
}

pub(super) async fn not_offered(ground: &mut Ground) -> Result<(), Fault> {
    let say = ground.question(PAYLOAD);
    refused(ground, say, Kind::Denied).await
}

pub(super) async fn too_large(ground: &mut Ground) -> Result<(), Fault> {
    let say = Say::Request(ground.call(format!(r#"{{"text":"{}"}}"#, "x".repeat(1024))));
    refused(ground, say, Kind::TooLarge).await
}

pub(super) async fn too_small(ground: &mut Ground) -> Result<(), Fault> {
    let say = Say::Request(ground.call(PAYLOAD));
    refused(ground, say, Kind::Invalid).await
}

pub(super) async fn unsupported(ground: &mut Ground) -> Result<(), Fault> {
    let say = ground.question(PAYLOAD);
    refused(ground, say, Kind::Unsupported).await
}

/// A key that was used for something else.
pub(super) async fn conflict(ground: &mut Ground) -> Result<(), Fault> {
    let mut ear = ground.echo().await;
    let mut line = ground.line().await?;
    let keyed = |ground: &Ground, payload: &'static [u8]| {
        let mut call = ground.call(payload);
        call.headers.append("Idempotency-Key", "one").map_err(|error| error.to_string())?;
        Ok::<_, Fault>(Say::Request(call))
    };
    let (first, other) = (keyed(ground, PAYLOAD)?, keyed(ground, br#"{"task":"another"}"#)?);
    reply(ask(&mut line, 1, &first).await?)?;
    failed(ask(&mut line, 2, &other).await?, Kind::Conflict, Outcome::NotSent)?;
    // The same again is answered with what there is.
    let (_, back) = reply(ask(&mut line, 3, &first).await?)?;
    check(back == PAYLOAD, || format!("{} other bytes came back", back.len()))?;
    ear.hear().await.ok_or("the responder ended")?;
    ground.broker.publish(&ground.subject, Bytes::from_static(b"mark")).await;
    let seen = ear.hear().await.ok_or("the responder ended")?;
    check(seen.payload == "mark", || "more than one was sent".to_owned())
}

pub(super) async fn unavailable(ground: &mut Ground) -> Result<(), Fault> {
    let mut line = ground.line().await?;
    ground.broker.close().await;
    failed(ask(&mut line, 1, &ground.question(PAYLOAD)).await?, Kind::Unavailable, Outcome::NotSent).map(drop)
}

pub(super) async fn rate_limited(ground: &mut Ground) -> Result<(), Fault> {
    let _ear = ground.echo().await;
    let mut line = ground.line().await?;
    ground.settled(ask(&mut line, 1, &ground.question(PAYLOAD)).await?)?;
    let refusal = ask(&mut line, 2, &ground.question(PAYLOAD)).await?;
    let failure = failed(refusal, Kind::RateLimited, Outcome::NotSent)?;
    check(failure.retry_after.is_some(), || "it does not say when to try again".to_owned())
}

pub(super) async fn overloaded(ground: &mut Ground) -> Result<(), Fault> {
    let mut ear = ground
        .respond(|seen| {
            let after = if seen.payload == PAYLOAD { Duration::from_secs(1) } else { Duration::ZERO };
            Some(Answer { after, payload: seen.payload.clone(), ..Answer::default() })
        })
        .await;
    let (mut first, mut second) = (ground.line().await?, ground.line().await?);
    let say = ground.question(PAYLOAD);
    if ground.door.only_listens() {
        ground.settled(ask(&mut first, 1, &say).await?)?;
        return failed(ask(&mut second, 2, &say).await?, Kind::Overloaded, Outcome::NotSent).map(drop);
    }
    first.say(1, &say).map_err(|failure| failure.to_string())?;
    let waiting = async {
        // The permit is taken when the responder has the request.
        ear.hear().await.ok_or("the responder ended")?;
        failed(ask(&mut second, 2, &say).await?, Kind::Overloaded, Outcome::NotSent)
    };
    let (reply_of_first, refusal) = tokio::join!(answer(&mut first, 1), waiting);
    refusal?;
    reply(reply_of_first?).map(drop)
}

pub(super) async fn no_responders(ground: &mut Ground) -> Result<(), Fault> {
    let mut line = ground.line().await?;
    let what = ask(&mut line, 1, &Say::Request(ground.call(PAYLOAD))).await?;
    failed(what, Kind::NoResponders, Outcome::NotSent).map(drop)
}

pub(super) async fn failed_by_the_responder(ground: &mut Ground) -> Result<(), Fault> {
    const BODY: &[u8] = br#"{"ok":false,"error":"no beam"}"#;
    ground
        .respond(|_| {
            Some(Answer {
                headers: vec![("Ipc-Gateway-Error", "no_beam")],
                payload: Bytes::from_static(BODY),
                ..Answer::default()
            })
        })
        .await;
    let mut line = ground.line().await?;
    let what = ask(&mut line, 1, &Say::Request(ground.call(PAYLOAD))).await?;
    if ground.door.is_of_tasks() {
        // Version 1 and bare tasks give the backend's own no verbatim, as any other reply.
        let (_, body) = reply(what)?;
        return check(body == BODY, || format!("the body is {body:?}"));
    }
    let failure = failed(what, Kind::Failed, Outcome::Done)?;
    check(failure.backend_code.as_deref() == Some("no_beam"), || {
        format!("the code is {:?}", failure.backend_code)
    })?;
    check(failure.body == BODY, || format!("the body is {:?}", failure.body))
}

/// Asks somebody who never answers.
async fn silence(ground: &mut Ground, id: u64, call: Call) -> Result<What, Fault> {
    let mut line = ground.line().await?;
    ask(&mut line, id, &Say::Request(call)).await
}

pub(super) async fn expired(ground: &mut Ground) -> Result<(), Fault> {
    let mut ear = ground.respond(|_| None).await;
    let call = ground.call(PAYLOAD);
    failed(silence(ground, 1, call).await?, Kind::TimedOut, Outcome::Unknown)?;
    ear.hear().await.ok_or("the responder ended")?;
    check(ground.broker.waiting() == 0, || "the reply is still waited for".to_owned())
}

pub(super) async fn circuit_open(ground: &mut Ground) -> Result<(), Fault> {
    let _ear = ground.respond(|_| None).await;
    for id in 1..=2 {
        let call = ground.call(PAYLOAD);
        failed(silence(ground, id, call).await?, Kind::TimedOut, Outcome::Unknown)?;
    }
    let call = ground.call(PAYLOAD);
    let failure = failed(silence(ground, 3, call).await?, Kind::CircuitOpen, Outcome::NotSent)?;
    check(failure.retry_after.is_some(), || "it does not say when to try again".to_owned())
}
