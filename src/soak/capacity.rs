//! How many requests a second a gateway takes by all doors together, each with the same share: what half of the
//! maximum is half of.

use std::time::Duration;

use crate::bench::{self, Load, ROWS, Serving, Target};

/// What is kept in flight by each row.
const LOAD: Load = Load::Closed { in_flight: 64 };
/// How long each row is measured, and under load before that.
const TIMES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(500));

/// Measures it, a row of the benchmark after another. Fails with a line for a person.
pub(super) async fn measure(target: &Target, mut tell: impl FnMut(&str)) -> Result<f64, String> {
    let rows: Vec<_> = ROWS.into_iter().filter(|row| row.serving == Serving::Gateway).collect();
    let plan = bench::Plan {
        rows: rows.clone(),
        loads: vec![LOAD],
        connections: 16,
        payload_bytes: 256,
        duration: TIMES.0,
        warmup: TIMES.1,
        runs: 1,
    };
    let report = bench::run(&plan, target, |now| {
        if now.per_second.is_none() {
            tell(&format!("the maximum of {} is measured", now.row.name));
        }
    })
    .await?;
    let figures: Option<Vec<_>> =
        rows.iter().map(|row| report.median(row.name, LOAD, "requests_per_second")).collect();
    together(&figures.ok_or("a row of the benchmark has no figure")?)
        .ok_or_else(|| "a door answers nothing".to_owned())
}

/// What goes through if each has the same share: a second of it is made of the times that each takes.
fn together(rates: &[f64]) -> Option<f64> {
    if rates.is_empty() || rates.iter().any(|rate| *rate <= 0.0) {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "a handful of doors")]
    let count = rates.len() as f64;
    Some(count / rates.iter().map(|rate| rate.recip()).sum::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_door_weighs_more() {
        // 3 requests take 1/2 + 1/6 + 1/3 of a second.
        assert!((together(&[2.0, 6.0, 3.0]).unwrap() - 3.0).abs() < 1e-9);
        assert_eq!((together(&[1.0, 0.0]), together(&[])), (None, None));
    }
}
