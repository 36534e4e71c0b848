//! An answer in parts: a responder that answers a request with several messages.

use std::sync::Arc;

use contract::{Delivery, DeliveryStream, Error, Event, Headers, Kind, Reply, Subject, Target};
use futures_util::stream;
use ipc_gateway::client::{Call, Reach, Say, Via, What};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::fixture::{Client, PATIENCE, head, status};
use crate::mounted::serve_with;

/// Two parts; and on the subject `cut` a failure behind them.
async fn parts(request: contract::Request) -> Result<Reply, Error> {
    let part = |payload: &'static str| {
        let delivery = Delivery::new(Subject::from_static("answer.here"), Headers::new(), payload.into());
        Ok(Event::Delivery(Arc::new(delivery)))
    };
    let mut events = vec![part("{\"n\":1}"), part("two")];
    if matches!(&request.target, Target::Request(subject) if subject.as_str() == "cut") {
        events.push(Err(Error::new(Kind::Unavailable, "the connection is gone")));
    }
    Ok(Reply::Stream(DeliveryStream::new(stream::iter(events))))
}

#[tokio::test]
async fn it_is_an_event_stream_for_who_accepts_one_and_refused_to_everybody_else() {
    let (address, drain, meters, serving) = serve_with(tower::service_fn(parts)).await;
    let mut client = Client(TcpStream::connect(address).await.unwrap());
    client.send(&head("POST", "/v1/request/a", "Accept: text/event-stream\r\n", "x")).await;
    let answer = client.until("event: end\ndata: {}\n\n").await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(answer.contains("content-type: text/event-stream\r\n"), "{answer}");
    let first = answer.find("\"payload\":{\"n\":1}").unwrap();
    assert!(answer.find("\"payload_base64\":\"dHdv\"").unwrap() > first, "{answer}");

    let mut client = Client(TcpStream::connect(address).await.unwrap());
    client.send(&head("POST", "/v1/request/a", "Accept: application/json\r\n", "x")).await;
    // It was carried out: nobody may think that asking again is safe.
    assert_eq!(client.answer().await.problem(406, "unsupported")["outcome"], "unknown");
    drop(client);
    drain.begin();
    timeout(PATIENCE, serving).await.unwrap().unwrap();
    assert_eq!((meters.connections.get(), meters.streams.get()), (0, 0));
}

#[tokio::test]
async fn the_client_hears_each_part_and_how_it_ended() {
    let (address, ..) = serve_with(tower::service_fn(parts)).await;
    let reach =
        Reach { socket: "unused".into(), http: address.to_string(), grpc: ([127, 0, 0, 1], 0).into() };
    let mut line = Via::Http.open(&reach).await.unwrap();
    for (id, subject) in [(1, "whole"), (2, "cut"), (3, "whole")] {
        line.say(id, &Say::Request(Call { subject: subject.to_owned(), ..Call::default() })).unwrap();
        let mut heard = Vec::new();
        loop {
            let next = timeout(PATIENCE, line.heard()).await.unwrap().unwrap();
            assert_eq!(next.id, Some(id));
            match next.what {
                What::Reply { payload, more: true, .. } => heard.push(payload),
                What::End => break assert_eq!(subject, "whole"),
                What::Failed(failure) => {
                    break assert_eq!((subject, failure.kind), ("cut", Kind::Unavailable));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(heard, ["{\"n\":1}", "two"]);
    }
}
