//! The schedule of an open loop: a thread that hands out the times at which requests are due.
//!
//! A thread of its own, because the runtime's timers are exact to a millisecond, which is more than what is
//! measured. It never asks what came back.

use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::Instant;

use super::load::Window;
use super::plan::Load;

/// Times handed out and not taken yet, a connection. A connection that is so far behind holds the schedule up,
/// but not the times that it hands out.
const BEHIND_MAX: usize = 65_536;

/// Starts the schedule of an open loop for so many connections, which take turns. A closed loop has none.
pub(super) fn start(
    load: &Load,
    window: &Window,
    connections: usize,
) -> (Vec<Receiver<Instant>>, Option<JoinHandle<()>>) {
    let Load::Open { rate } = *load else { return (Vec::new(), None) };
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..connections).map(|_| channel(BEHIND_MAX)).unzip();
    let Window { start, end, .. } = *window;
    let pace = move || {
        for (number, sender) in senders.iter().cycle().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "a schedule has fewer than 2^53 times")]
            let due = start + Duration::from_secs_f64(number as f64 / rate);
            if due >= end {
                return;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            // The load was given up.
            if sender.blocking_send(due).is_err() {
                return;
            }
        }
    };
    (receivers, Some(std::thread::spawn(pace)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_turns_at_even_distances() {
        let window = Window::new(Duration::ZERO, Duration::from_millis(20));
        let (mut receivers, pacer) = start(&Load::Open { rate: 1000.0 }, &window, 2);
        pacer.unwrap().join().unwrap();
        let mut times = Vec::new();
        for receiver in &mut receivers {
            while let Ok(due) = receiver.try_recv() {
                times.push((due - window.start).as_millis());
            }
        }
        assert_eq!(times, (0..20).step_by(2).chain((1..20).step_by(2)).collect::<Vec<_>>());
    }

    #[test]
    fn it_ends_when_nobody_wants_it() {
        let window = Window::new(Duration::ZERO, Duration::from_hours(1));
        let (receivers, pacer) = start(&Load::Open { rate: 1000.0 }, &window, 2);
        drop(receivers);
        pacer.unwrap().join().unwrap();
    }
}
