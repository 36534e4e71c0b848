//! Answers of many messages, brought and read by hand while time stands still.

use contract::{DeliveryStream, Event, Marks, Reply, Subject};
use futures_util::{FutureExt as _, StreamExt as _};

use super::*;

/// What the responder was told: `None` yet, or the word.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<Vec<&'static str>>>);

impl Told {
    fn words(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }
}

impl Responder for Told {
    fn settle(self) {
        self.0.lock().unwrap().push("settled");
    }

    fn give_up(self, reason: Option<Reason>) {
        self.0.lock().unwrap().push(reason.map_or("given up", Reason::name));
    }
}

/// Holds what a test counts.
struct Holder {
    _held: Arc<()>,
}

impl Source for Holder {
    type Responder = Told;

    fn lost(&self) -> Error {
        Error::new(Kind::Unavailable, "gone").with_outcome(Outcome::Unknown)
    }
}

const BOUNDS: ReplyBounds = ReplyBounds {
    messages_max: 1000,
    bytes_max: 1 << 20,
    gap: Duration::from_secs(5),
    total: Duration::from_mins(1),
    queue_messages_max: 100,
    queue_bytes_max: 1 << 16,
};

/// One request, seen from both sides.
struct Scene {
    replies: Arc<Replies<Told>>,
    told: Told,
    meters: Arc<ReplyMeters>,
    held: Arc<()>,
    reader: Option<Reader<Holder>>,
}

impl Scene {
    fn new(bounds: ReplyBounds) -> Self {
        Self::charged(bounds, None)
    }

    fn charged(bounds: ReplyBounds, memory: Option<ByteBudget>) -> Self {
        let (replies, meters) = (Replies::new(bounds, memory), Arc::<ReplyMeters>::default());
        let (told, held) = (Told::default(), Arc::new(()));
        replies.arm(told.clone());
        let subject = Subject::from_static("a.b");
        let reader = Reader::new(
            Arc::clone(&replies),
            Arc::clone(&meters),
            subject,
            Holder { _held: Arc::clone(&held) },
        );
        Self { replies, told, meters, held, reader: Some(reader) }
    }

    fn bring(&self, payload: &str, more: bool) -> bool {
        let mut headers = Headers::new();
        if more {
            headers.append(incoming::MORE, "1").unwrap();
        }
        self.replies.push(headers, Bytes::copy_from_slice(payload.as_bytes()))
    }

    async fn answer(&mut self) -> Result<Reply, Error> {
        self.reader.take().unwrap().answer().await
    }

    async fn stream(&mut self) -> DeliveryStream {
        let Ok(Reply::Stream(stream)) = self.answer().await else { panic!("a stream was expected") };
        stream
    }

    /// The counts that are not 0.
    fn counts(&self) -> Vec<(String, u32)> {
        let readings = self.meters.readings();
        let some = readings.iter().filter(|reading| reading.value > 0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
        let count = |value: f64| value as u32;
        some.map(|reading| {
            let word = reading.labels.first().map_or("open", |(_, word)| word);
            (word.to_owned(), count(reading.value))
        })
        .collect()
    }
}

/// Everything that comes until the stream waits or is over.
fn read(stream: &mut DeliveryStream) -> Vec<String> {
    let mut words = Vec::new();
    while let Some(next) = stream.next().now_or_never() {
        match next {
            Some(Ok(Event::Delivery(delivery))) => {
                assert!(delivery.headers.is_empty() && delivery.subject.as_str() == "a.b");
                words.push(String::from_utf8_lossy(&delivery.payload).into_owned());
            }
            Some(Ok(Event::Gap { .. })) => words.push("gap".to_owned()),
            Some(Err(error)) => words.push(format!("{} {}", error.kind(), error.outcome().code())),
            None => {
                words.push("end".to_owned());
                return words;
            }
        }
    }
    words
}

#[tokio::test(start_paused = true)]
async fn one_message_is_a_message_and_holds_nothing() {
    let mut scene = Scene::new(BOUNDS);
    assert!(scene.bring("only", false) && !scene.bring("late", false));
    let Ok(Reply::Message(message)) = scene.answer().await else { panic!("a message was expected") };
    assert_eq!((&message.payload[..], scene.told.words()), (&b"only"[..], vec!["settled"]));
    assert!(scene.counts().is_empty() && Arc::strong_count(&scene.held) == 1);
}

#[tokio::test(start_paused = true)]
async fn many_come_in_order_and_end_with_the_last() {
    let mut scene = Scene::new(BOUNDS);
    scene.bring("1", true);
    let mut stream = scene.stream().await;
    assert_eq!(scene.counts(), [("open".to_owned(), 1)]);
    scene.bring("2", true);
    assert_eq!(read(&mut stream), ["1", "2"]);
    assert!(scene.bring("3", false) && !scene.bring("late", true));
    assert_eq!(read(&mut stream), ["3", "end"]);
    assert_eq!(read(&mut stream), ["end"]);
    drop(stream);
    assert_eq!((scene.told.words(), Arc::strong_count(&scene.held)), (vec!["settled"], 1));
    assert_eq!(scene.counts(), [("complete".to_owned(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_broken_bound_ends_it_behind_what_came_and_tells_the_responder_at_once() {
    let small = ReplyBounds { messages_max: 3, ..BOUNDS };
    let thin = ReplyBounds { bytes_max: 7, ..BOUNDS };
    let slow = ReplyBounds { queue_messages_max: 3, ..BOUNDS };
    let narrow = ReplyBounds { queue_bytes_max: 7, ..BOUNDS };
    let cases = [
        (small, "too_large unknown", "over_limit", "messages_max"),
        (thin, "too_large unknown", "over_limit", "bytes_max"),
        (slow, "slow_consumer unknown", "slow_consumer", "slow_consumer"),
        (narrow, "slow_consumer unknown", "slow_consumer", "slow_consumer"),
    ];
    for (bounds, error, told, counted) in cases {
        let mut scene = Scene::new(bounds);
        scene.bring("aa", true);
        let mut stream = scene.stream().await;
        scene.bring("bb", true);
        scene.bring("cc", true);
        assert!(scene.told.words().is_empty(), "{counted}");
        scene.bring("dd", true);
        assert_eq!(scene.told.words(), [told], "before anybody reads");
        assert!(!scene.bring("ee", false));
        assert_eq!(read(&mut stream), ["aa", "bb", "cc", error, "end"]);
        drop(stream);
        assert_eq!((scene.told.words(), scene.counts()), (vec![told], vec![(counted.to_owned(), 1)]));
    }
}

#[tokio::test(start_paused = true)]
async fn one_message_may_wait_whatever_its_size() {
    let mut scene = Scene::new(ReplyBounds { queue_bytes_max: 1, ..BOUNDS });
    scene.bring("a long one", true);
    let mut stream = scene.stream().await;
    assert_eq!(read(&mut stream), ["a long one"]);
    scene.bring("another long one", false);
    assert_eq!(read(&mut stream), ["another long one", "end"]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_charged_until_it_is_taken_or_given_up() {
    let memory = ByteBudget::new(1 << 20);
    let mut scene = Scene::charged(BOUNDS, Some(memory.clone()));
    scene.bring("1234", true);
    let mut stream = scene.stream().await;
    let one = memory.used();
    // With the room of the list that said that more follows.
    assert!(one > Part::cost(1, 4), "{one}");
    scene.bring("5678", true);
    assert_eq!(memory.used(), 2 * one);
    assert_eq!((read(&mut stream), memory.used()), (vec!["1234".to_owned(), "5678".to_owned()], 0));
    scene.bring("9012", true);
    assert_eq!(memory.used(), one);
    drop(stream);
    assert_eq!(memory.used(), 0);
    let mut single = Scene::charged(BOUNDS, Some(memory.clone()));
    single.bring("only", false);
    assert_eq!(memory.used(), Part::cost(1, 4));
    assert!(single.answer().await.is_ok());
    assert_eq!(memory.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_while_memory_is_short_loses_the_rest_and_what_waits() {
    let mib = 1 << 20;
    // A little is let wait while it is short, one message while new work is refused.
    for (held, payload, waits) in [(mib / 2, SHORT_BYTES / 4, 3), (mib - 1, 0, 1)] {
        let memory = ByteBudget::new(mib);
        memory.set_marks(Marks { short: 50, low: 70, high: 85 });
        let mut scene = Scene::charged(BOUNDS, Some(memory.clone()));
        let payload = "x".repeat(payload);
        scene.bring(&payload, true);
        let mut stream = scene.stream().await;
        assert_eq!(read(&mut stream).len(), 1);
        let charge = memory.charge_always(held);
        for _ in 0..waits {
            scene.bring(&payload, true);
        }
        assert!(scene.told.words().is_empty() && memory.used() > held);
        scene.bring(&payload, true);
        assert_eq!((scene.told.words(), memory.used()), (vec!["slow_consumer"], held));
        assert_eq!(read(&mut stream), ["slow_consumer unknown", "end"]);
        drop((stream, charge));
        assert_eq!(scene.counts(), [("slow_consumer".to_owned(), 1)]);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_ends_it_and_each_message_begins_the_wait_anew() {
    let mut scene = Scene::new(BOUNDS);
    scene.bring("1", true);
    let mut stream = scene.stream().await;
    assert_eq!(read(&mut stream), ["1"]);
    tokio::time::sleep(Duration::from_millis(4900)).await;
    scene.bring("2", true);
    assert_eq!(read(&mut stream), ["2"]);
    let began = Instant::now();
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::TimedOut, Outcome::Unknown));
    let waited = began.elapsed();
    assert!((BOUNDS.gap..BOUNDS.gap + Duration::from_millis(2)).contains(&waited), "{waited:?}");
    assert!(stream.next().await.is_none());
    drop(stream);
    assert_eq!(
        (scene.told.words(), scene.counts()),
        (vec!["timed_out"], vec![("gap_timeout".to_owned(), 1)])
    );
}

#[tokio::test(start_paused = true)]
async fn the_whole_has_a_time_whatever_comes_in_between() {
    let mut scene = Scene::new(ReplyBounds { total: Duration::from_secs(12), ..BOUNDS });
    scene.bring("first", true);
    let mut stream = scene.stream().await;
    for _ in 0..4 {
        assert_eq!(read(&mut stream).len(), 1);
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert!(scene.bring("x", true));
    }
    assert_eq!(read(&mut stream), ["x"]);
    let began = Instant::now();
    assert_eq!(stream.next().await.unwrap().unwrap_err().kind(), Kind::TimedOut);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    drop(stream);
    assert_eq!((scene.told.words(), scene.counts()), (vec!["timed_out"], vec![("timeout".to_owned(), 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_message_after_the_time_ends_it_although_nobody_looked() {
    let mut scene = Scene::new(BOUNDS);
    scene.bring("1", true);
    // It is no stream yet, so nothing watches the time.
    tokio::time::sleep(BOUNDS.gap).await;
    assert!(!scene.bring("2", true));
    assert_eq!(scene.told.words(), ["timed_out"]);
    let mut stream = scene.stream().await;
    assert_eq!(read(&mut stream), ["1", "timed_out unknown", "end"]);
}

#[tokio::test(start_paused = true)]
async fn it_is_over_in_time_and_holds_nothing_although_nobody_reads() {
    let brief = ReplyBounds { total: Duration::from_secs(3), ..BOUNDS };
    for (bounds, after, counted) in [(BOUNDS, BOUNDS.gap, "gap_timeout"), (brief, brief.total, "timeout")] {
        let mut scene = Scene::new(bounds);
        scene.bring("1", true);
        let mut stream = scene.stream().await;
        tokio::time::sleep(after.saturating_sub(Duration::from_millis(5))).await;
        assert_eq!((scene.told.words().len(), Arc::strong_count(&scene.held)), (0, 2));
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!((scene.told.words(), Arc::strong_count(&scene.held)), (vec!["timed_out"], 1));
        assert_eq!(scene.counts(), [(counted.to_owned(), 1)]);
        assert!(!scene.bring("2", true));
        assert_eq!(read(&mut stream), ["1", "timed_out unknown", "end"]);
        drop(stream);
        assert_eq!((scene.told.words(), scene.counts()), (vec!["timed_out"], vec![(counted.to_owned(), 1)]));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_ended_holds_nothing_for_long_although_nobody_reads() {
    for lost in [false, true] {
        let mut scene = Scene::new(BOUNDS);
        scene.bring("1", true);
        let mut stream = scene.stream().await;
        if lost {
            scene.replies.lose();
        } else {
            assert!(scene.bring("2", false));
        }
        tokio::time::sleep(BOUNDS.gap + Duration::from_millis(5)).await;
        let (held, end) = if lost { (2, "unavailable unknown") } else { (1, "2") };
        assert_eq!((scene.told.words(), Arc::strong_count(&scene.held)), (vec!["settled"], held));
        assert_eq!(read(&mut stream)[..2], ["1", end], "its source is asked why");
    }
}

#[tokio::test(start_paused = true)]
async fn a_no_in_the_middle_ends_it_and_the_responder_knows() {
    let mut scene = Scene::new(BOUNDS);
    scene.bring("1", true);
    let mut stream = scene.stream().await;
    let mut headers = Headers::new();
    headers.append(incoming::ERROR, "out_of_paper").unwrap();
    headers.append(incoming::MORE, "1").unwrap();
    assert!(scene.replies.push(headers, Bytes::new()));
    assert!(!scene.bring("2", true));
    assert_eq!(read(&mut stream), ["1", "failed done", "end"]);
    drop(stream);
    assert_eq!((scene.told.words(), scene.counts()), (vec!["settled"], vec![("failed".to_owned(), 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_lost_backend_ends_it_as_the_backend_says() {
    let mut before = Scene::new(BOUNDS);
    before.replies.lose();
    assert_eq!(before.answer().await.unwrap_err().text(), "gone");
    let mut scene = Scene::new(BOUNDS);
    scene.bring("1", true);
    let mut stream = scene.stream().await;
    scene.replies.lose();
    assert_eq!(read(&mut stream), ["1", "unavailable unknown", "end"]);
    drop(stream);
    assert_eq!((scene.told.words(), scene.counts()), (vec!["settled"], vec![("lost".to_owned(), 1)]));
}

#[tokio::test(start_paused = true)]
async fn dropping_gives_up_and_says_so_once() {
    let unanswered = Scene::new(BOUNDS);
    let Scene { told, reader, .. } = unanswered;
    drop(reader);
    assert_eq!(told.words(), ["given up"], "the clock says why");
    let mut scene = Scene::new(BOUNDS);
    scene.bring("1", true);
    drop(scene.stream().await);
    assert!(!scene.bring("2", true));
    assert_eq!((scene.told.words(), Arc::strong_count(&scene.held)), (vec!["cancelled"], 1));
    assert_eq!(scene.counts(), [("cancelled".to_owned(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn who_is_armed_too_late_is_told_what_happened_meanwhile() {
    for (messages, word) in [(3, "over_limit"), (1, "settled")] {
        let replies = Replies::new(ReplyBounds { messages_max: 2, ..BOUNDS }, None);
        for left in (0..messages).rev() {
            let mut headers = Headers::new();
            if left > 0 || messages == 3 {
                headers.append(incoming::MORE, "1").unwrap();
            }
            replies.push(headers, Bytes::new());
        }
        let told = Told::default();
        replies.arm(told.clone());
        assert_eq!(told.words(), [word]);
    }
}
