//! The router's answers to an operator: those recorded, and empty maps where nothing was recorded.

use serde_json::{Value, json};

/// The answer on one of the admin subjects; `None` if the router has no such subject.
pub(super) fn answer(subject: &str, payload: &[u8], tenants: &[String]) -> Option<Value> {
    let asked: Value = serde_json::from_slice(payload).unwrap_or_default();
    let known =
        asked["policy_id"] == "default" && tenants.iter().any(|tenant| asked["tenant_id"] == **tenant);
    Some(match subject.strip_prefix("beamline.router.v1.admin.")? {
        "get_extension_health" => json!({"health": {}}),
        "get_circuit_breaker_states" => json!({"states": {}}),
        "dry_run_pipeline" | "get_pipeline_complexity" if !known => json!({
            "ok": false, "error": {"code": "policy_not_found", "message": "Policy not found"},
        }),
        "dry_run_pipeline" => json!({"ok": true, "result": {
            "decision": {"priority": 50, "provider_id": "openai", "reason": "weighted"},
            "executed_extensions": [], "final_payload": asked["payload"],
        }}),
        "get_pipeline_complexity" => json!({
            "complexity_level": "low", "complexity_score": 0, "estimated_latency_ms": 0,
            "pre_count": 0, "post_count": 0, "validators_count": 0, "total_extensions": 0,
            "recommendations": [], "warnings": [],
            "recommended_limits": {"max_post": 2, "max_pre": 2, "max_total": 4, "max_validators": 2},
        }),
        _ => return None,
    })
}
