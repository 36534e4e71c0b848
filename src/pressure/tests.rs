//! The pressure against a model that says of every moment what holds from the whole of what was heard.

use proptest::prelude::*;

use super::*;

fn settings() -> PressureSettings {
    PressureSettings {
        warning_percent: 40,
        retry_after_max: Duration::from_secs(30),
        recovery: Duration::from_secs(6),
        ..crate::testing::pressure_settings()
    }
}

const ACTIVE: News = News::Active { retry_after: Duration::from_secs(7) };

/// A pressure, and a clock that a test sets.
struct Bench {
    pressure: Pressure,
    settings: PressureSettings,
    began: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { pressure: Pressure::default(), settings: settings(), began: Instant::now() }
    }

    fn at(&self, ms: u64) -> Instant {
        self.began + Duration::from_millis(ms)
    }

    fn hear(&self, ms: u64, news: News) -> State {
        self.pressure.hear(&self.settings, self.at(ms), news)
    }

    /// How many of a bound of ten pass at this moment, or after which time another may come.
    fn pass(&self, ms: u64) -> Result<usize, Duration> {
        let mut held = Vec::new();
        loop {
            match self.pressure.admit(&self.settings, 10, || self.at(ms)) {
                Ok(permit) if held.len() < 1000 => held.push(permit),
                Ok(_) => return Ok(usize::MAX),
                Err(refusal) if refusal.state == State::Refusing => return Err(refusal.retry_after),
                Err(_) => return Ok(held.len()),
            }
        }
    }
}

#[test]
fn while_it_is_active_nothing_passes_and_then_more_and_more() {
    let bench = Bench::new();
    assert_eq!(bench.pass(0), Ok(usize::MAX), "the bound is the concurrency rule's while all is well");
    assert_eq!(bench.hear(0, ACTIVE), State::Refusing);
    assert_eq!(bench.pass(0), Err(Duration::from_secs(7)));
    assert_eq!(bench.hear(1000, News::Inactive), State::Recovering);
    assert_eq!((bench.pass(1000), bench.pass(4000), bench.pass(6999)), (Ok(4), Ok(7), Ok(9)));
    assert_eq!(bench.pass(7000), Ok(usize::MAX));
    assert_eq!(bench.pressure.look(&bench.settings, bench.at(7000)).0, State::Free);
    assert_eq!((bench.pressure.refused_total(), bench.pressure.slowed_total()), (1, 3));
    assert_eq!((bench.pressure.calls(), bench.pressure.heard_total(ACTIVE)), (0, 1));
}

#[test]
fn a_warning_admits_a_share_of_what_is_in_flight_already() {
    let bench = Bench::new();
    let before: Vec<_> =
        (0..6).map(|_| bench.pressure.admit(&bench.settings, 10, || bench.at(0)).unwrap()).collect();
    assert_eq!(bench.hear(0, News::Warning), State::Slowed);
    assert_eq!(bench.pass(1), Ok(0), "six are in flight, four may be");
    drop(before);
    assert_eq!(bench.pass(1), Ok(4));
    assert_eq!(share(1, 40), 1, "never none");
    assert_eq!(share(usize::MAX, 100), usize::MAX);
}

#[test]
fn what_a_responder_said_before_it_fell_silent_is_not_believed_for_ever() {
    for silence in [News::Silent, News::Unknown] {
        let bench = Bench::new();
        bench.hear(0, ACTIVE);
        assert_eq!(bench.hear(9000, silence), State::Refusing);
        assert_eq!(bench.pass(9999), Err(Duration::from_secs(7)));
        assert_eq!((bench.pass(10_000), bench.pass(13_000)), (Ok(4), Ok(7)));
        assert_eq!(bench.hear(16_000, silence), State::Free);
    }
}

#[test]
fn a_peer_is_not_told_to_wait_longer_than_the_settings_say() {
    let bench = Bench::new();
    bench.hear(0, News::Active { retry_after: Duration::from_hours(24) });
    assert_eq!(bench.pass(0), Err(Duration::from_secs(30)));
}

#[test]
fn from_many_threads_the_share_holds() {
    let bench = Bench::new();
    bench.hear(0, News::Warning);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5000 {
                    // A share of two, which is fewer than there are threads.
                    let permit = bench.pressure.admit(&bench.settings, 5, || bench.at(1));
                    // With it in hand, so that the others come upon it on a machine with few cores too.
                    std::thread::yield_now();
                    assert!(bench.pressure.calls() <= 2);
                    drop(permit);
                }
            });
        }
    });
    assert_eq!(bench.pressure.calls(), 0);
}

/// What the definition says of the moment `now`: the last word of pressure counts, until it was taken back or was
/// too old; from then on the share grows.
fn model(settings: &PressureSettings, heard: &[(u64, News)], now: u64) -> Verdict {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap();
    let is_pressure = |news: &News| matches!(news, News::Active { .. } | News::Warning);
    let Some(last) = heard.iter().rposition(|(_, news)| is_pressure(news)) else {
        return Verdict::Share(100);
    };
    let (at, news) = heard[last];
    let taken_back = heard[last..]
        .iter()
        .find(|(_, news)| matches!(news, News::Inactive | News::Absent))
        .map(|(at, _)| *at);
    let over = taken_back.unwrap_or(u64::MAX).min(at + ms(settings.believed));
    if now < over {
        return match news {
            News::Active { retry_after } => Verdict::None(retry_after.min(settings.retry_after_max)),
            _ => Verdict::Share(settings.warning_percent),
        };
    }
    let (passed, whole) = (now - over, ms(settings.recovery));
    if passed >= whole {
        return Verdict::Share(100);
    }
    let missing = u64::from(100 - settings.warning_percent);
    Verdict::Share(settings.warning_percent + u32::try_from(missing * passed / whole).unwrap())
}

fn any_news() -> impl Strategy<Value = News> {
    prop_oneof![
        (0_u64..60).prop_map(|seconds| News::Active { retry_after: Duration::from_secs(seconds) }),
        prop::sample::select(&News::ALL[1..]),
    ]
}

proptest! {
    #[test]
    fn it_is_what_the_model_says_at_every_moment(
        steps in prop::collection::vec((0_u64..6000, prop::option::of(any_news())), 1..60),
        recovery_ms in prop_oneof![Just(0), 1_u64..20_000],
        warning_percent in 1_u32..=100,
    ) {
        let mut bench = Bench::new();
        bench.settings.recovery = Duration::from_millis(recovery_ms);
        bench.settings.warning_percent = warning_percent;
        let (mut now, mut heard) = (0, Vec::new());
        for (pause, news) in steps {
            now += pause;
            if let Some(news) = news {
                bench.hear(now, news);
                heard.push((now, news));
            }
            let (state, verdict) = bench.pressure.look(&bench.settings, bench.at(now));
            let expected = model(&bench.settings, &heard, now);
            prop_assert_eq!(verdict, expected, "{:?} at {}", &heard, now);
            prop_assert_eq!(state == State::Refusing, matches!(expected, Verdict::None(_)));
        }
    }
}
