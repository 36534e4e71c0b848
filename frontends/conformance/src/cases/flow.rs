//! Many at once: no answer is mixed up, publishes and deliveries keep their order, and a slow reader is told.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use contract::{Kind, Outcome};
use ipc_gateway::client::{Line, Say, What};

use crate::broker::Answer;
use crate::ground::{Fault, Ground, accepted, ask, check, delivery, failed, reply};

/// Questions of the pipelining cases.
const QUESTIONS: u64 = 1000;
/// Messages of the ordering cases.
const MESSAGES: usize = 200;

fn payload(number: impl std::fmt::Display) -> Bytes {
    format!(r#"{{"n":{number}}}"#).into()
}

/// Asks all questions without waiting, and gives the ids in the order of the answers; each answer must be the
/// one of its question.
async fn ask_all(ground: &Ground, line: &mut Box<dyn Line>) -> Result<Vec<u64>, Fault> {
    for id in 0..QUESTIONS {
        line.say(id, &Say::Request(ground.call(payload(id)))).map_err(|failure| failure.to_string())?;
    }
    let mut answered = Vec::new();
    while answered.len() < usize::try_from(QUESTIONS).unwrap_or(usize::MAX) {
        let heard = line.heard().await.map_err(|lost| lost.to_string())?;
        let id = heard.id.ok_or("an answer to nothing")?;
        let (_, back) = reply(heard.what)?;
        check(back == payload(id), || format!("{id} was answered {back:?}"))?;
        answered.push(id);
    }
    let each: HashSet<_> = answered.iter().collect();
    check(each.len() == answered.len(), || "a question was answered twice".to_owned())?;
    Ok(answered)
}

pub(super) async fn pipelined(ground: &mut Ground) -> Result<(), Fault> {
    let _ear = ground.echo().await;
    let mut line = ground.line().await?;
    ask_all(ground, &mut line).await.map(drop)
}

pub(super) async fn out_of_order(ground: &mut Ground) -> Result<(), Fault> {
    ground
        .respond(|seen| {
            // Every seventh takes its time, so that later ones overtake it.
            let number: u64 =
                std::str::from_utf8(&seen.payload[5..seen.payload.len() - 1]).ok()?.parse().ok()?;
            let after = if number.is_multiple_of(7) { Duration::from_millis(30) } else { Duration::ZERO };
            Some(Answer { after, payload: seen.payload.clone(), ..Answer::default() })
        })
        .await;
    let mut line = ground.line().await?;
    let order = ask_all(ground, &mut line).await?;
    check(!order.is_sorted(), || "no answer overtook another".to_owned())
}

pub(super) async fn publishes(ground: &mut Ground) -> Result<(), Fault> {
    let mut ear = ground.respond(|_| None).await;
    let mut line = ground.line().await?;
    for number in 0..MESSAGES {
        let say = Say::Publish(ground.call(payload(number)));
        let id = number as u64;
        if ground.door.one_at_a_time {
            accepted(ask(&mut line, id, &say).await?)?;
        } else {
            line.say(id, &say).map_err(|failure| failure.to_string())?;
        }
    }
    if !ground.door.one_at_a_time {
        for _ in 0..MESSAGES {
            accepted(line.heard().await.map_err(|lost| lost.to_string())?.what)?;
        }
    }
    for number in 0..MESSAGES {
        let seen = ear.hear().await.ok_or("the listener ended")?;
        check(seen.payload == payload(number), || format!("{:?} came as number {number}", seen.payload))?;
    }
    Ok(())
}

pub(super) async fn deliveries(ground: &mut Ground) -> Result<(), Fault> {
    let mut line = ground.subscribed().await?;
    for number in 0..MESSAGES {
        ground.broker.publish(&ground.subject, payload(number)).await;
    }
    for number in 0..MESSAGES {
        let (subject, _, got) = delivery(&mut line).await?;
        check(subject == ground.subject, || format!("the subject is {subject}"))?;
        check(got == payload(number), || format!("{got:?} came as number {number}"))?;
    }
    Ok(())
}

/// Far more than what sockets between the two hold, and a queue of four keeps.
const COUNT: u64 = 400;

/// Publishes to a listener that does not read meanwhile.
async fn flood(ground: &Ground) {
    const LARGE: usize = 128 * 1024;
    let large: Bytes = format!(r#""{}""#, "x".repeat(LARGE)).into();
    for _ in 0..COUNT {
        ground.broker.publish(&ground.subject, large.clone()).await;
        // The hub gets its turn: what is lost is lost at this listener's queue, not before it.
        tokio::task::yield_now().await;
    }
}

pub(super) async fn slow_reader_cut_off(ground: &mut Ground) -> Result<(), Fault> {
    let mut line = ground.subscribed().await?;
    flood(ground).await;
    for _ in 0..COUNT {
        match line.heard().await.map_err(|lost| lost.to_string())?.what {
            What::Delivery { .. } => {}
            end => return failed(end, Kind::SlowConsumer, Outcome::Done).map(drop),
        }
    }
    Err("the stream goes on".to_owned())
}

pub(super) async fn slow_reader(ground: &mut Ground) -> Result<(), Fault> {
    let mut line = ground.subscribed().await?;
    flood(ground).await;
    let (mut delivered, mut lost, mut gaps) = (0, 0, 0);
    while delivered + lost < COUNT {
        match line.heard().await.map_err(|lost| lost.to_string())?.what {
            What::Delivery { .. } => delivered += 1,
            What::Gap(Some(count)) => (lost, gaps) = (lost + count, gaps + 1),
            other => return Err(format!("a delivery or a gap was expected, and came {other:?}")),
        }
    }
    check(gaps > 0 && delivered + lost == COUNT, || format!("{delivered} came and {lost} were told lost"))
}
