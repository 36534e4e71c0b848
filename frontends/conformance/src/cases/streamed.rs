//! Answers of many messages: each arrives once and in order, and one that is cut off says so.

use bytes::Bytes;
use contract::{Kind, Outcome};
use ipc_gateway::client::{Line, Say, What};

use super::requests::PAYLOAD;
use crate::broker::{Answer, MORE};
use crate::ground::{Fault, Ground, check, failed};

/// Messages of the whole answer.
const PARTS: usize = 200;

fn part(number: usize) -> Bytes {
    format!(r#"{{"part":{number}}}"#).into()
}

/// The payloads that answer the question, and what ends them.
async fn answers(line: &mut Box<dyn Line>) -> Result<(Vec<Bytes>, What), Fault> {
    let mut parts = Vec::new();
    loop {
        let heard = line.heard().await.map_err(|lost| lost.to_string())?;
        check(heard.id == Some(1), || format!("an answer to {:?}", heard.id))?;
        match heard.what {
            What::Reply { payload, more: true, .. } => parts.push(payload),
            end => return Ok((parts, end)),
        }
    }
}

pub(super) async fn whole(ground: &mut Ground) -> Result<(), Fault> {
    let parts: Vec<_> = (0..PARTS - 1).map(part).collect();
    ground
        .respond(move |_| {
            Some(Answer { parts: parts.clone(), payload: part(PARTS - 1), ..Answer::default() })
        })
        .await;
    let mut line = ground.line().await?;
    line.say(1, &Say::Request(ground.call(PAYLOAD))).map_err(|failure| failure.to_string())?;
    let (came, end) = answers(&mut line).await?;
    check(matches!(end, What::End), || format!("an end was expected, and came {end:?}"))?;
    check(came.len() == PARTS, || format!("{} parts came of {PARTS}", came.len()))?;
    let wrong = came.iter().enumerate().find(|(number, payload)| **payload != part(*number));
    check(wrong.is_none(), || format!("not in order: {wrong:?}"))?;
    check(ground.broker.waiting() == 0, || "a reply is still waited for".to_owned())
}

pub(super) async fn cut_off(ground: &mut Ground) -> Result<(), Fault> {
    let parts: Vec<_> = (0..5).map(part).collect();
    ground
        .respond(move |_| {
            let headers = vec![MORE];
            Some(Answer { parts: parts.clone(), headers, payload: part(5), ..Answer::default() })
        })
        .await;
    let mut line = ground.line().await?;
    line.say(1, &Say::Request(ground.call(PAYLOAD))).map_err(|failure| failure.to_string())?;
    let (came, end) = answers(&mut line).await?;
    failed(end, Kind::TooLarge, Outcome::Unknown)?;
    check(came == [part(0), part(1), part(2)], || format!("{came:?} came"))
}
