//! Rate limit: the peer's own rate, then the route's, then the total. Peer first, or one abuser drains
//! everyone; a refusal by a later bucket, or by a later rule that had no room, refunds the earlier ones.
//!
//! Buckets are GCRA in one atomic number each ([`Bucket`]); peers live in a bounded table ([`Peers`]).

use std::num::NonZeroU32;
use std::sync::Arc;

use contract::{Error, Kind, Method, PeerKey, Reply};
use tokio::time::Instant;

use crate::policy::{Held, Policy};
use crate::route::{Call, Rate};

mod bucket;
mod peers;

pub use bucket::{Bucket, Pace};
pub use peers::Peers;

/// The rule.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit;

impl Policy for RateLimit {
    type Held = Spent;

    fn admit(&self, call: &mut Call) -> Result<Spent, Error> {
        let (rules, route, request) = (&call.rules, &call.route, &call.request);
        let now = request.received;
        let mut spent = Spent::default();
        let local = request.origin.identity.method == Method::Local;
        if let Some(rate) = rules.limits.peer_rate.filter(|_| rules.limits.peer_rate_local || !local) {
            let key = request.origin.identity.key;
            rules
                .peers
                .spend(key, rate, now)
                .map_err(|wait| refusal("this peer's rate limit", rate, wait))?;
            spent.peer = Some((Arc::clone(&rules.peers), key, rate));
        }
        if let Some(rate) = route.settings.rate {
            if let Err(wait) = route.bucket.spend(Pace::of(rate), now) {
                spent.refund();
                return Err(refusal("this route's rate limit", rate, wait));
            }
            spent.route = Some((Arc::clone(&route.bucket), rate));
        }
        if let Some(rate) = rules.limits.rate {
            if let Err(wait) = rules.bucket.spend(Pace::of(rate), now) {
                spent.refund();
                return Err(refusal("the gateway's rate limit", rate, wait));
            }
            spent.total = Some((Arc::clone(&rules.bucket), rate));
        }
        Ok(spent)
    }
}

fn refusal(text: &'static str, rate: Rate, wait: std::time::Duration) -> Error {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast to u32 saturates")]
    let per_second = rate.per_second.ceil() as u32;
    let per_second = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
    Error::new(Kind::RateLimited, text).with_retry_after(wait).with_rate_per_second(per_second)
}

/// What a call has spent, for refunds.
#[derive(Debug, Default)]
pub struct Spent {
    peer: Option<(Arc<Peers>, PeerKey, Rate)>,
    route: Option<(Arc<Bucket>, Rate)>,
    total: Option<(Arc<Bucket>, Rate)>,
}

impl Spent {
    fn refund(self) {
        if let Some((peers, key, rate)) = self.peer {
            peers.refund(key, rate);
        }
        for (bucket, rate) in [self.route, self.total].into_iter().flatten() {
            bucket.refund(Pace::of(rate));
        }
    }
}

impl Held for Spent {
    fn settle(self, outcome: Result<&mut Reply, &Error>) {
        // What a later rule turned away for lack of room was not served, and is not charged.
        if let Err(error) = outcome
            && matches!(error.kind(), Kind::Overloaded | Kind::CircuitOpen | Kind::Draining)
        {
            self.refund();
        }
    }
}

/// Nanoseconds of `now` on the clock of this process, which starts at 1: a bucket of 0 is an untouched one.
fn nanoseconds(now: Instant) -> u64 {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(|| now);
    let elapsed = now.saturating_duration_since(start).as_nanos();
    // 2^64 nanoseconds are 584 years.
    u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use contract::{Subject, Target};

    use super::*;
    use crate::rules::Limits;
    use crate::testing;

    const ONE: Rate = Rate { per_second: 1.0, burst: 1 };

    fn call(route_rate: Option<Rate>, limits: Limits) -> Call {
        let mut settings = testing::route_settings("r", &[">"]);
        settings.rate = route_rate;
        testing::call_with(vec![settings], limits, Target::Request(Subject::from_static("a")))
    }

    #[test]
    fn each_of_the_three_buckets_refuses_with_a_time_to_wait() {
        let peer = Limits { peer_rate: Some(ONE), peer_rate_local: true, ..testing::limits() };
        let total = Limits { rate: Some(ONE), ..testing::limits() };
        for mut call in [call(None, peer), call(Some(ONE), testing::limits()), call(None, total)] {
            assert!(RateLimit.admit(&mut call).is_ok());
            let error = RateLimit.admit(&mut call).unwrap_err();
            assert_eq!(error.kind(), Kind::RateLimited);
            assert!(error.retry_after().is_some_and(|wait| wait.as_millis() >= 999), "{error:?}");
            assert_eq!(error.rate_per_second(), NonZeroU32::new(1));
        }
    }

    #[test]
    fn local_peers_have_no_peer_limit_unless_told() {
        let mut call = call(None, Limits { peer_rate: Some(ONE), ..testing::limits() });
        assert!((0..100).all(|_| RateLimit.admit(&mut call).is_ok()));
    }

    #[test]
    fn a_refusal_by_a_later_bucket_refunds_the_earlier_ones() {
        let limits =
            Limits { peer_rate: Some(ONE), peer_rate_local: true, rate: Some(ONE), ..testing::limits() };
        let mut call = call(None, limits);
        assert!(RateLimit.admit(&mut call).is_ok());
        // The same total seen by another peer: refused by the total, and its own token comes back.
        let mut other = contract::Identity::new("uid:7", Method::Local);
        other.unix = None;
        let origin = testing::origin(other);
        call.request.origin = origin;
        for _ in 0..3 {
            let error = RateLimit.admit(&mut call).unwrap_err();
            assert_eq!(error.text(), "the gateway's rate limit");
        }
    }

    #[test]
    fn what_a_later_rule_had_no_room_for_is_refunded() {
        let mut call = call(Some(ONE), testing::limits());
        for _ in 0..3 {
            let spent = RateLimit.admit(&mut call).unwrap();
            spent.settle(Err(&Error::new(Kind::Overloaded, "full")));
        }
        RateLimit.admit(&mut call).unwrap().settle(Err(&Error::new(Kind::TimedOut, "silence")));
        assert!(RateLimit.admit(&mut call).is_err(), "what was served is spent");
    }
}
