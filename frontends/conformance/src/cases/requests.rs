//! Requests and their answers: what goes in comes out at the responder, and back.

use bytes::Bytes;
use ipc_gateway::client::Say;

use crate::ground::{Fault, Ground, ask, check, delivery, reply};

/// Names a request to its responder.
pub(super) const REQUEST_ID: &str = "Ipc-Gateway-Request-Id";
/// JSON, so that every door can carry it.
pub(super) const PAYLOAD: &[u8] = br#"{"task":"measure","n":[1,2.5,"\u00e9"]}"#;

pub(super) async fn happy(ground: &mut Ground) -> Result<(), Fault> {
    echoes(ground, Bytes::from_static(PAYLOAD)).await
}

pub(super) async fn empty(ground: &mut Ground) -> Result<(), Fault> {
    echoes(ground, Bytes::new()).await
}

pub(super) async fn binary(ground: &mut Ground) -> Result<(), Fault> {
    echoes(ground, (0..=255).cycle().take(1000).collect::<Vec<u8>>().into()).await
}

pub(super) async fn maximal(ground: &mut Ground) -> Result<(), Fault> {
    const FRAMING: usize = r#"{"text":""}"#.len();
    let text = "x".repeat(ground.door.payload_bytes_max - FRAMING);
    echoes(ground, format!(r#"{{"text":"{text}"}}"#).into()).await
}

/// The responder sees the payload byte for byte, and so does the peer what comes back.
async fn echoes(ground: &mut Ground, payload: Bytes) -> Result<(), Fault> {
    if ground.door.only_listens() {
        let mut line = ground.subscribed().await?;
        ground.broker.publish(&ground.subject, payload.clone()).await;
        let (subject, _, got) = delivery(&mut line).await?;
        check(subject == ground.subject, || format!("the subject is {subject}"))?;
        return check(got == payload, || format!("{} other bytes came", got.len()));
    }
    let mut ear = ground.echo().await;
    let mut line = ground.line().await?;
    let (_, back) = reply(ask(&mut line, 1, &Say::Request(ground.call(payload.clone()))).await?)?;
    let seen = ear.hear().await.ok_or("the responder ended")?;
    check(seen.subject == ground.subject, || format!("the subject is {}", seen.subject))?;
    check(seen.payload == payload, || format!("the responder saw {} other bytes", seen.payload.len()))?;
    check(back == payload, || format!("{} other bytes came back", back.len()))
}

pub(super) async fn headers_to_the_responder(ground: &mut Ground) -> Result<(), Fault> {
    let mut ear = ground.echo().await;
    let mut line = ground.line().await?;
    let mut call = ground.call(PAYLOAD);
    call.headers.append("X-Case", "yes").map_err(|error| error.to_string())?;
    reply(ask(&mut line, 1, &Say::Request(call)).await?)?;
    let seen = ear.hear().await.ok_or("the responder ended")?;
    check(seen.header("x-case") == Some("yes"), || format!("the headers are {:?}", seen.headers))
}

pub(super) async fn headers_of_the_answer(ground: &mut Ground) -> Result<(), Fault> {
    const HEADERS: &[(&str, &str)] = &[("X-Reply", "yes")];
    let headers = if ground.door.only_listens() {
        let mut line = ground.subscribed().await?;
        ground.broker.publish_with(&ground.subject, HEADERS, Bytes::from_static(PAYLOAD)).await;
        delivery(&mut line).await?.1
    } else {
        ground
            .respond(|seen| {
                Some(crate::broker::Answer {
                    headers: HEADERS.to_vec(),
                    payload: seen.payload.clone(),
                    ..Default::default()
                })
            })
            .await;
        let mut line = ground.line().await?;
        reply(ask(&mut line, 1, &Say::Request(ground.call(PAYLOAD))).await?)?.0
    };
    let found = headers.iter().any(|(name, value)| name.eq_ignore_ascii_case("x-reply") && &**value == "yes");
    check(found, || format!("the headers are {headers:?}"))
}

pub(super) async fn trace(ground: &mut Ground) -> Result<(), Fault> {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";
    let mut ear = ground.echo().await;
    let mut line = ground.line().await?;
    let mut call = ground.call(PAYLOAD);
    call.traceparent = Some(format!("00-{TRACE}-{SPAN}-01"));
    reply(ask(&mut line, 1, &Say::Request(call)).await?)?;
    let seen = ear.hear().await.ok_or("the responder ended")?;
    let told = seen.header("traceparent").unwrap_or_default().to_owned();
    let parts: Vec<_> = told.split('-').collect();
    // The same trace and its flags, and a span of the gateway's own.
    let continued = matches!(parts[..], ["00", TRACE, span, "01"] if span != SPAN && span.len() == 16);
    check(continued, || format!("traceparent is {told:?}"))
}

pub(super) async fn identity(ground: &mut Ground) -> Result<(), Fault> {
    let mut ear = ground.echo().await;
    let mut line = ground.line().await?;
    reply(ask(&mut line, 1, &Say::Request(ground.call(PAYLOAD))).await?)?;
    let seen = ear.hear().await.ok_or("the responder ended")?;
    let identity = seen.header("Ipc-Gateway-Identity").unwrap_or_default();
    let expected = if ground.door.local {
        format!("uid:{}", rustix::process::getuid().as_raw())
    } else {
        "anonymous".to_owned()
    };
    check(identity == expected, || format!("the identity is {identity:?}, not {expected:?}"))?;
    check(seen.header("Ipc-Gateway-Door").is_some(), || "no door is told".to_owned())?;
    let id = seen.header(REQUEST_ID).unwrap_or_default();
    check(id.len() == 32, || format!("the request's id is {id:?}"))
}

pub(super) async fn deadline(ground: &mut Ground) -> Result<(), Fault> {
    let mut ear = ground.echo().await;
    let mut line = ground.line().await?;
    reply(ask(&mut line, 1, &Say::Request(ground.call(PAYLOAD))).await?)?;
    let seen = ear.hear().await.ok_or("the responder ended")?;
    let left: u64 =
        seen.header("Ipc-Gateway-Timeout-Ms").and_then(|text| text.parse().ok()).unwrap_or_default();
    check((1..=7000).contains(&left), || format!("{left} ms are left of the route's 7000"))?;
    let due: u128 =
        seen.header("Ipc-Gateway-Deadline").and_then(|text| text.parse().ok()).unwrap_or_default();
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
    check(due <= now + 7000 && due + 60_000 > now, || format!("due at {due}, and it is {now}"))
}
