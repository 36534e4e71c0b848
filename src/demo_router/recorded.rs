//! What was recorded of the router: exchanges by name, in order.

use serde_json::Value;

/// All of them.
pub(crate) fn exchanges() -> Vec<Value> {
    let text = include_str!("../../tests/vectors/beamline-router/exchanges.json");
    let mut recorded: Value = serde_json::from_str(text).unwrap();
    let Value::Array(exchanges) = recorded["vectors"].take() else { panic!("a list of exchanges") };
    exchanges
}
