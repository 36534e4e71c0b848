//! Poll by poll where the order matters, and with real threads where the wake-ups do.

use std::future::{pending, poll_fn, ready};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::*;

type Boxed = BoxFuture<'static, u32>;

/// Counts how often the task is woken.
#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Task {
    fn woken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Polls once on behalf of `task`.
fn poll<F: Future>(set: &mut InFlight<F>, task: &Arc<Task>) -> Poll<(usize, Result<F::Output, Panicked>)> {
    let waker = Waker::from(Arc::clone(task));
    set.poll_next(&mut Context::from_waker(&waker))
}

/// The output of the slot that is over; fails when none is.
fn over<F: Future>(set: &mut InFlight<F>, task: &Arc<Task>) -> (usize, F::Output) {
    match poll(set, task) {
        Poll::Ready((slot, Ok(output))) => (slot, output),
        Poll::Ready((slot, Err(panic))) => panic!("slot {slot} {panic}"),
        Poll::Pending => panic!("nothing is over"),
    }
}

/// Waits for the next one, inside a runtime.
async fn next<F: Future>(set: &mut InFlight<F>) -> (usize, Result<F::Output, Panicked>) {
    poll_fn(|context| set.poll_next(context)).await
}

fn addresses<F>(set: &InFlight<F>) -> Vec<*const Option<F>> {
    set.slots.iter().map(|slot| &raw const *slot.future).collect()
}

#[test]
fn gives_each_output_with_its_slot_in_the_order_of_waking() {
    let (mut set, task) = (InFlight::new(8), Arc::<Task>::default());
    let (first, first_done) = oneshot::channel::<u32>();
    let (second, second_done) = oneshot::channel::<u32>();
    assert_eq!(set.push(first_done).ok(), Some(0));
    assert_eq!(set.push(second_done).ok(), Some(1));
    assert!(poll(&mut set, &task).is_pending());
    assert_eq!(task.woken(), 0);

    second.send(22).unwrap();
    assert_eq!(task.woken(), 1);
    assert_eq!(over(&mut set, &task), (1, Ok(22)));
    assert!(poll(&mut set, &task).is_pending());
    first.send(11).unwrap();
    assert_eq!(over(&mut set, &task), (0, Ok(11)));
    assert!(set.is_empty());
}

#[test]
fn only_what_was_woken_is_polled() {
    let (mut set, task) = (InFlight::<Boxed>::new(4), Arc::<Task>::default());
    let polls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&polls);
    let sleeper = poll_fn(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Poll::Pending
    });
    set.push(sleeper.boxed()).ok().unwrap();
    let (send, answer) = oneshot::channel::<u32>();
    set.push(answer.map(|answer| answer.unwrap()).boxed()).ok().unwrap();
    assert!(poll(&mut set, &task).is_pending());
    send.send(7).unwrap();
    assert_eq!(over(&mut set, &task), (1, 7));
    assert!(poll(&mut set, &task).is_pending());
    assert_eq!(polls.load(Ordering::SeqCst), 1);
}

#[test]
fn empty_and_full_are_answers_and_not_panics() {
    let (mut set, task) = (InFlight::new(0), Arc::<Task>::default());
    assert!(poll(&mut set, &task).is_pending());
    assert!(set.is_empty() && !set.is_full());
    assert_eq!(set.push(ready(1)).ok(), Some(0)); // a capacity of 0 is 1
    assert!(set.is_full());
    let back = set.push(ready(2)).unwrap_err();
    assert_eq!(back.into_inner(), 2);
    assert_eq!(over(&mut set, &task), (0, 1));
    assert!(set.push(ready(3)).is_ok());

    let mut set = InFlight::new(usize::MAX);
    for number in 0..SLOTS_MAX {
        assert_eq!(set.push(ready(number)).ok(), Some(number));
    }
    assert!(set.is_full() && set.push(ready(0)).is_err());
    for number in 0..SLOTS_MAX {
        assert_eq!(over(&mut set, &task), (number, number));
    }
}

#[test]
fn slots_are_used_again_without_allocating() {
    let (mut set, task) = (InFlight::new(8), Arc::<Task>::default());
    for number in 0..8 {
        set.push(ready(number)).unwrap();
    }
    let before = addresses(&set);
    for _ in 0..100 {
        while poll(&mut set, &task).is_ready() {}
        assert!(set.is_empty());
        for number in 0..8 {
            set.push(ready(number)).unwrap();
        }
        assert_eq!(addresses(&set), before);
    }
    assert_eq!(set.slots.iter().filter(|slot| slot.future.is_some()).count(), 8);
}

#[test]
fn an_empty_set_keeps_few_slots() {
    let (mut set, task) = (InFlight::new(100), Arc::<Task>::default());
    for number in 0..100 {
        set.push(ready(number)).unwrap();
    }
    let mut outputs: Vec<_> = (0..99).map(|_| over(&mut set, &task).1).collect();
    assert_eq!(set.slots.len(), 100); // not yet empty
    outputs.push(over(&mut set, &task).1);
    assert_eq!(outputs, (0..100).collect::<Vec<_>>());
    assert_eq!((set.slots.len(), set.slots.capacity(), set.free.len()), (8, 8, 8));
    for number in 0..100 {
        assert_eq!(set.push(ready(number)).ok(), Some(number));
    }
    assert_eq!(set.len(), 100);
}

#[test]
fn a_wake_up_for_a_slot_that_is_gone_is_harmless() {
    let (mut set, task) = (InFlight::<Boxed>::new(100), Arc::<Task>::default());
    let kept = Arc::new(std::sync::Mutex::new(Vec::new()));
    for _ in 0..100 {
        let kept = Arc::clone(&kept);
        let future = poll_fn(move |context| {
            kept.lock().unwrap().push(context.waker().clone());
            Poll::<u32>::Pending
        });
        set.push(future.boxed()).ok().unwrap();
    }
    assert!(poll(&mut set, &task).is_pending());
    set.clear();
    assert_eq!(set.slots.len(), SLOTS_KEPT_MAX);
    kept.lock().unwrap().drain(..).for_each(Waker::wake);
    for _ in 0..100 {
        assert!(poll(&mut set, &task).is_pending()); // clears the bits, and comes to rest
    }
    let rest = task.woken();
    assert!(poll(&mut set, &task).is_pending());
    assert_eq!(task.woken(), rest);
    set.push(ready(5).boxed()).ok().unwrap();
    assert_eq!(over(&mut set, &task).1, 5);
}

#[test]
fn a_panic_is_the_failure_of_its_own_slot() {
    let (mut set, task) = (InFlight::<Boxed>::new(4), Arc::<Task>::default());
    set.push(async { panic!("first {}", 1) }.boxed()).ok().unwrap();
    set.push(ready(2).boxed()).ok().unwrap();
    set.push(async { panic!("third") }.boxed()).ok().unwrap();
    set.push(async { std::panic::panic_any(4) }.boxed()).ok().unwrap();
    let mut outcomes = Vec::new();
    while let Poll::Ready((slot, outcome)) = poll(&mut set, &task) {
        outcomes.push((slot, outcome.map_err(|panic| panic.to_string())));
    }
    let panicked = |text: &str| Err(format!("panicked: {text}"));
    let wanted =
        [(0, panicked("first 1")), (1, Ok(2)), (2, panicked("third")), (3, panicked("without a message"))];
    assert_eq!(outcomes, wanted);
    assert!(set.is_empty());
}

#[test]
fn a_future_that_panics_when_dropped_leaves_its_slot_free() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    let (mut set, task) = (InFlight::<Boxed>::new(2), Arc::<Task>::default());
    let bomb = Bomb;
    let future = poll_fn(move |_| {
        let _bomb = &bomb;
        Poll::<u32>::Pending
    });
    let slot = set.push(future.boxed()).ok().unwrap();
    assert!(poll(&mut set, &task).is_pending());
    assert!(set.cancel(slot));
    assert!(set.is_empty());
    assert_eq!(set.push(ready(3).boxed()).ok(), Some(slot));
    assert_eq!(over(&mut set, &task), (slot, 3));
}

/// Tells how many of its clones are alive.
fn held_by(set: &mut InFlight<Boxed>, held: &Arc<()>, count: usize) {
    for _ in 0..count {
        let held = Arc::clone(held);
        let future = async move {
            let output = pending::<u32>().await;
            drop(held);
            output
        };
        set.push(future.boxed()).ok().unwrap();
    }
}

#[test]
fn cancel_clear_and_drop_free_futures_at_once() {
    let (mut set, task) = (InFlight::<Boxed>::new(70), Arc::<Task>::default());
    let held = Arc::new(());
    held_by(&mut set, &held, 70);
    assert!(poll(&mut set, &task).is_pending());
    assert_eq!(Arc::strong_count(&held), 71);

    assert!(set.cancel(3));
    assert!(!set.cancel(3) && !set.cancel(70) && !set.cancel(usize::MAX));
    assert_eq!((Arc::strong_count(&held), set.len()), (70, 69));
    set.clear();
    assert_eq!((Arc::strong_count(&held), set.len()), (1, 0));

    held_by(&mut set, &held, 10);
    assert!(poll(&mut set, &task).is_pending());
    drop(set);
    assert_eq!(Arc::strong_count(&held), 1);
    // Nothing keeps the task of a connection that is gone.
    assert_eq!(Arc::strong_count(&task), 1);
}

#[test]
fn a_cancel_between_two_outcomes_leaves_the_others() {
    let (mut set, task) = (InFlight::new(4), Arc::<Task>::default());
    for number in 0..4 {
        set.push(ready(number)).unwrap();
    }
    assert_eq!(over(&mut set, &task), (0, 0));
    assert!(set.cancel(2)); // it was ready, and is gone all the same
    assert_eq!(set.push(ready(9)).ok(), Some(2));
    assert_eq!(
        [over(&mut set, &task), over(&mut set, &task), over(&mut set, &task)],
        [(1, 1), (2, 9), (3, 3)]
    );
    assert!(poll(&mut set, &task).is_pending());
}

#[test]
fn a_future_that_always_wakes_itself_starves_nobody() {
    let (mut set, task) = (InFlight::<Boxed>::new(3), Arc::<Task>::default());
    let turns = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&turns);
    let greedy = poll_fn(move |context| {
        count.fetch_add(1, Ordering::SeqCst);
        context.waker().wake_by_ref();
        Poll::<u32>::Pending
    });
    set.push(greedy.boxed()).ok().unwrap();
    let mut left = 10;
    let modest = poll_fn(move |context| {
        left -= 1;
        context.waker().wake_by_ref();
        if left == 0 { Poll::Ready(42) } else { Poll::Pending }
    });
    set.push(modest.boxed()).ok().unwrap();
    let mut calls = 0;
    let outcome = loop {
        calls += 1;
        assert!(calls <= 20, "the other future had no turn");
        let woken = task.woken();
        match poll(&mut set, &task) {
            Poll::Ready(outcome) => break outcome,
            Poll::Pending => assert!(task.woken() > woken, "there is work left, so the task must come again"),
        }
    };
    assert_eq!(outcome, (1, Ok(42)));
    assert!((9..=11).contains(&turns.load(Ordering::SeqCst)));
}

#[test]
fn going_round_reaches_every_slot_once() {
    let slots = 200;
    let ready = Ready { words: (0..4).map(|_| AtomicU64::new(0)).collect(), task: AtomicWaker::new() };
    for from in [0, 1, 63, 64, 65, 127, 199, 200, 5_000] {
        (0..slots).for_each(|index| ready.mark(index));
        let seen: Vec<_> = std::iter::from_fn(|| ready.take(from, slots)).collect();
        let start = if from < slots { from } else { 0 };
        assert_eq!(seen, (start..slots).chain(0..start).collect::<Vec<_>>());
        assert!(!ready.any(slots));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_wake_up_from_another_thread_is_lost() {
    const ROUNDS: usize = 20_000;
    let mut set = InFlight::new(100);
    let (mut pushed, mut seen, mut sum) = (0_usize, 0_usize, 0_usize);
    let work = async {
        while seen < ROUNDS {
            while pushed < ROUNDS && !set.is_full() {
                let number = pushed;
                // Some are over before the first poll, some during it, some after it.
                let future = tokio::spawn(async move {
                    for _ in 0..number % 4 {
                        tokio::task::yield_now().await;
                    }
                    number
                });
                set.push(future).unwrap();
                pushed += 1;
            }
            let (_, outcome) = next(&mut set).await;
            sum += outcome.unwrap().unwrap();
            seen += 1;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), work).await.expect("a wake-up was lost");
    assert_eq!(sum, ROUNDS * (ROUNDS - 1) / 2);
}

#[test]
fn first_polls_come_in_the_order_of_starts_whatever_the_slots() {
    let (mut set, task) = (InFlight::<Boxed>::new(8), Arc::<Task>::default());
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut freed = Vec::new();
    for round in 0..4_u32 {
        for number in 0..6 {
            let order = Arc::clone(&order);
            let mut first = true;
            let future = poll_fn(move |_| {
                if std::mem::take(&mut first) {
                    order.lock().unwrap().push(round * 10 + number);
                }
                Poll::<u32>::Pending
            });
            let Ok(Started::Running(slot)) = set.start(Box::pin(future)) else { panic!() };
            freed.push(slot);
        }
        assert!(poll(&mut set, &task).is_pending());
        // Freed in an odd order, so that the next round's slots are not in sequence.
        freed.rotate_left(round as usize % 5);
        freed.drain(..).for_each(|slot| assert!(set.cancel(slot)));
    }
    let order = order.lock().unwrap();
    assert!(order.is_sorted() && order.len() == 24, "{order:?}");
}

#[test]
fn what_is_over_at_once_takes_no_slot() {
    let mut set = InFlight::<Boxed>::new(2);
    let Ok(Started::Over(Ok(7))) = set.start(Box::pin(ready(7))) else { panic!() };
    let Ok(Started::Over(Err(panicked))) = set.start(Box::pin(async { panic!("no") })) else { panic!() };
    assert_eq!((panicked.text.as_str(), set.len()), ("no", 0));
}
