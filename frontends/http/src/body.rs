//! A request's body: read within its bytes, its time and the memory there is, and not copied if it came in one
//! piece.

use axum::body::{Body, Bytes, HttpBody as _};
use bytes::BytesMut;
use contract::{ByteBudget, Charge, Error, Kind};
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use tokio::time::Instant;

use wire::charged::room;

use crate::problem::Refused;

/// Bounds of one body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) bytes_max: usize,
    pub(crate) timeout: std::time::Duration,
    /// When the request that it belongs to is over, if its client says so.
    pub(crate) deadline: Option<Instant>,
}

/// Reads a body whole. Memory is charged as it arrives, never as it is announced; the charge is the caller's
/// to keep as long as the bytes. Every refusal closes the connection, as the rest of the body is not read.
pub(crate) async fn read(
    body: Body,
    bounds: Bounds,
    budget: &ByteBudget,
) -> Result<(Bytes, Charge), Refused> {
    let announced = body.size_hint().lower();
    if usize::try_from(announced).is_ok_and(|announced| announced <= bounds.bytes_max) {
        let due = Instant::now() + bounds.timeout;
        let over = bounds.deadline.filter(|deadline| *deadline <= due);
        let gathering = gather(body, bounds.bytes_max, budget);
        let gathered = tokio::time::timeout_at(over.unwrap_or(due), gathering).await;
        return gathered.unwrap_or_else(|_| {
            if over.is_some() {
                let late = Error::new(Kind::TimedOut, "the deadline came before the body");
                return Err(Refused::closing(late.with_outcome(contract::Outcome::NotSent)));
            }
            let late = Error::new(Kind::TimedOut, "the body took too long to arrive");
            let late = late.with_outcome(contract::Outcome::NotSent);
            Err(Refused::closing(late).with_status(StatusCode::REQUEST_TIMEOUT))
        });
    }
    Err(too_large(bounds.bytes_max))
}

async fn gather(mut body: Body, bytes_max: usize, budget: &ByteBudget) -> Result<(Bytes, Charge), Refused> {
    let full = || Refused::closing(Error::new(Kind::Overloaded, "no memory for the body; try again later"));
    let mut charge = budget.charge_always(0);
    // No more than was announced, if it was.
    let need = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(bytes_max);
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Refused::closing(
                Error::new(Kind::Malformed, "the body is cut or badly chunked").with_cause(error),
            )
        })?;
        // Trailers mean nothing here.
        let Ok(piece) = frame.into_data() else { continue };
        if piece.len() > bytes_max - first.len().max(rest.len()) {
            return Err(too_large(bytes_max));
        }
        if rest.is_empty() && body.is_end_stream() {
            if !charge.grow_message(piece.len()) {
                return Err(full());
            }
            first = piece;
            continue;
        }
        // Copied, although it may be all: it is a part of hyper's buffer, which would be kept for its sake.
        if !room(&mut rest, need, piece.len(), &mut charge) {
            return Err(full());
        }
        rest.extend_from_slice(&piece);
    }
    Ok((if rest.is_empty() { first } else { rest.freeze() }, charge))
}

fn too_large(bytes_max: usize) -> Refused {
    Refused::closing(Error::new(Kind::TooLarge, format!("a body may have {bytes_max} bytes")))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use super::*;

    const BOUNDS: Bounds = Bounds { bytes_max: 8, timeout: Duration::from_secs(5), deadline: None };

    fn in_pieces(pieces: &[&'static str]) -> Body {
        let pieces: Vec<_> =
            pieces.iter().map(|piece| Ok::<_, Infallible>(Bytes::from_static(piece.as_bytes()))).collect();
        Body::from_stream(futures_util::stream::iter(pieces))
    }

    #[tokio::test]
    async fn one_piece_is_not_copied_and_more_are_joined() {
        let budget = ByteBudget::new(100);
        let whole = Bytes::from_static(b"12345678");
        let (bytes, charge) = read(Body::from(whole.clone()), BOUNDS, &budget).await.unwrap();
        assert_eq!((bytes.as_ptr(), charge.bytes()), (whole.as_ptr(), 8));
        let (bytes, more) = read(in_pieces(&["12", "", "34", "5"]), BOUNDS, &budget).await.unwrap();
        assert_eq!((&bytes[..], budget.used()), (&b"12345"[..], 10));
        drop((charge, more));
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_late_for_its_request_was_not_sent() {
        let budget = ByteBudget::new(100);
        let never = || {
            let pieces = futures_util::stream::pending::<Result<Bytes, Infallible>>();
            Body::from_stream(pieces)
        };
        let begun = Instant::now();
        let deadline = Some(begun + Duration::from_secs(1));
        let refused = read(never(), Bounds { deadline, ..BOUNDS }, &budget).await.unwrap_err();
        assert_eq!(
            (refused.error.outcome(), begun.elapsed()),
            (contract::Outcome::NotSent, Duration::from_secs(1))
        );
        assert_eq!(refused.respond(&contract::TraceContext::start()).status(), 504);
        let deadline = Some(Instant::now() + Duration::from_mins(1));
        let refused = read(never(), Bounds { deadline, ..BOUNDS }, &budget).await.unwrap_err();
        assert_eq!(refused.respond(&contract::TraceContext::start()).status(), 408);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_and_gives_its_charge_back() {
        let budget = ByteBudget::new(6000);
        let kind = async |body| read(body, BOUNDS, &budget).await.unwrap_err().error.kind();
        assert_eq!(kind(Body::from("123456789")).await, Kind::TooLarge);
        assert_eq!(kind(in_pieces(&["12345", "6789"])).await, Kind::TooLarge);
        let large = Bounds { bytes_max: 8000, ..BOUNDS };
        let refused = read(Body::from(vec![b'x'; 7000]), large, &budget).await.unwrap_err();
        assert_eq!(refused.error.kind(), Kind::Overloaded);
        let piece = Bytes::from(vec![b'x'; 3500]);
        let pieces = futures_util::stream::iter([piece.clone(), piece].map(Ok::<_, Infallible>));
        let refused = read(Body::from_stream(pieces), large, &budget).await.unwrap_err();
        assert_eq!(refused.error.kind(), Kind::Overloaded);
        assert_eq!(budget.used(), 0);
    }
}
