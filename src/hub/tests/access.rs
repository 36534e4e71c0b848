//! Who may read what: the route of the concrete subject decides, by the rules then and now.

use contract::Operation;

use super::*;
use crate::route::Principal;

/// A route for everything, and one for secrets that a single user may read.
fn routes(reader: u32) -> Vec<RouteSettings> {
    let mut secret = testing::route_settings("secret", &["a.secret.>"]);
    secret.allow = vec![Principal::Uid(reader)];
    let mut sealed = testing::route_settings("sealed", &["a.sealed"]);
    sealed.operations = vec![Operation::Publish, Operation::Request];
    vec![testing::route_settings("all", &[">"]), secret, sealed]
}

#[tokio::test]
async fn a_wide_pattern_does_not_open_the_subjects_of_other_routes() {
    let bench = Bench::new(routes(7), Settings::default());
    let mut reader = subscribe(&bench.hub, "a.>", 7, None).await.unwrap();
    let mut other = subscribe(&bench.hub, "a.>", 8, None).await.unwrap();
    for (subject, payload) in [("a.secret.x", "secret"), ("a.sealed", "sealed"), ("a.plain", "plain")] {
        bench.publish(subject, payload);
    }
    // What may not be read is no loss: nothing tells that it was there.
    assert_eq!(next(&mut other).await, told("plain"));
    assert_eq!([next(&mut reader).await, next(&mut reader).await], [told("secret"), told("plain")]);
    assert_eq!(bench.subscriptions(), 1);
    assert_eq!(reading(&bench.hub, "ipc_gateway_hub_skipped_total"), 3);
}

#[tokio::test]
async fn rules_that_change_take_rights_away_and_give_a_running_stream_none() {
    let bench = Bench::new(routes(7), Settings::default());
    let mut before = subscribe(&bench.hub, "a.>", 7, None).await.unwrap();
    let mut other = subscribe(&bench.hub, "a.>", 8, None).await.unwrap();
    let mut literal = subscribe(&bench.hub, "a.secret.x", 7, None).await.unwrap();
    // Now 8 may read the secrets, and 7 may not.
    bench.handle.swap(rules(routes(8)));
    let mut after = subscribe(&bench.hub, "a.>", 8, None).await.unwrap();
    bench.publish("a.secret.x", "secret");
    bench.publish("a.plain", "plain");
    assert_eq!(next(&mut before).await, told("plain"));
    assert_eq!(next(&mut other).await, told("plain"));
    assert_eq!([next(&mut after).await, next(&mut after).await], [told("secret"), told("plain")]);
    assert!(is_silent(&mut literal));
    // And back again: what 7 was let in with counts as before.
    bench.handle.swap(rules(routes(7)));
    bench.publish("a.secret.x", "again");
    assert_eq!([next(&mut before).await, next(&mut literal).await], [told("again"), told("again")]);
    assert!(is_silent(&mut other) && is_silent(&mut after));
}

#[tokio::test]
async fn a_pattern_without_a_route_is_not_found() {
    let bench = Bench::new(vec![testing::route_settings("a", &["a.*"])], Settings::default());
    let error = subscribe(&bench.hub, "a.>", 1000, None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(bench.subscriptions(), 0);
}
