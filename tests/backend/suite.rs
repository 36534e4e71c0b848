//! The conformance suite of backends: what a rig must offer, and the one table of cases that each runs.
//!
//! A rig is a backend under test and an outside party on the same subjects, who speaks to it by other means
//! than the backend. Nothing here names a backend, so that passing says the same of each of them.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use ipc_gateway::backend::Backend;

/// A backend under test, and the outside party.
pub(crate) trait Rig: Sized {
    /// The backend under test.
    type Backend: Backend;
    /// An outside subscription.
    type Listener: Listener;
    /// An outside responder; it stops when dropped.
    type Responder;

    /// Opens a backend that is reachable and has every subject to itself: cases run at the same time, and one
    /// of them listens on `>` (so for NATS, a server or an account of its own).
    fn open() -> impl Future<Output = Self>;

    /// The backend.
    fn backend(&self) -> &Self::Backend;

    /// The largest payload, in bytes, that must pass together with the headers of a small request.
    fn payload_bytes_fits(&self) -> usize;

    /// The smallest payload, in bytes, that must be refused as `too_large`.
    fn payload_bytes_refused(&self) -> usize;

    /// How many unread small messages the backend keeps at least for a stream, before it may lose some.
    fn subscription_capacity(&self) -> usize;

    /// Requests that wait for an answer now, as the backend's readings say.
    fn waiting(&self) -> u64;

    /// Subscriptions of the backend now, as its readings say.
    fn subscriptions(&self) -> u64;

    /// Answers what comes on `pattern`, one after another, as a member of `queue` if it is given. In force
    /// for the backend when this returns.
    fn respond(
        &self,
        pattern: &str,
        queue: Option<&str>,
        behaviour: Behaviour,
    ) -> impl Future<Output = Self::Responder>;

    /// Listens without answering. In force for the backend when this returns.
    fn listen(&self, pattern: &str, queue: Option<&str>) -> impl Future<Output = Self::Listener>;

    /// Publishes, and returns when it has left.
    fn publish(&self, subject: &str, headers: &[(&str, &str)], payload: Bytes) -> impl Future<Output = ()>;

    /// Closes the backend (a case may have done so already) and whatever the rig started.
    fn close(self) -> impl Future<Output = ()>;
}

/// An outside subscription; it ends when dropped.
pub(crate) trait Listener {
    /// The next message; waits as long as it takes (each case has a time limit as a whole).
    fn hear(&mut self) -> impl Future<Output = Heard>;
}

/// A message as the outside party sees it.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// Its concrete subject.
    pub(crate) subject: String,
    /// Names and values, in any order of the names.
    pub(crate) headers: Vec<(String, String)>,
    /// The payload.
    pub(crate) payload: Bytes,
}

impl Heard {
    /// The values of a header, found whatever the case of its name.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }
}

/// What an outside responder does with each message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behaviour {
    /// Waits before answering.
    pub(crate) delay: Duration,
    /// Headers of the answer.
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    /// The payload of the answer; `None` sends the request's back.
    pub(crate) payload: Option<Bytes>,
    /// What it sends before the answer.
    pub(crate) before: Option<&'static str>,
    /// How many answers it sends beyond the first.
    pub(crate) more: usize,
    /// Answers with so many messages instead, numbered from 0, all but the last saying that more follow.
    pub(crate) parts: usize,
    /// The last of them says so too.
    pub(crate) unfinished: bool,
    /// Sends none at all.
    pub(crate) silent: bool,
}

/// Headers and payload of one answer.
pub(crate) type Answer = (Vec<(&'static str, &'static str)>, Bytes);

impl Behaviour {
    /// Sends the request's payload back.
    pub(crate) fn echo() -> Self {
        Self::default()
    }

    /// Never answers.
    pub(crate) fn silent() -> Self {
        Self { silent: true, ..Self::default() }
    }

    /// Answers with so many messages.
    pub(crate) fn parts(parts: usize) -> Self {
        Self { parts, ..Self::default() }
    }

    /// What to answer to this payload.
    pub(crate) fn answers(&self, asked: &Bytes) -> Vec<Answer> {
        if self.silent {
            return Vec::new();
        }
        if self.parts == 0 {
            let before = self.before.map(|text| (self.headers.clone(), Bytes::from_static(text.as_bytes())));
            let payload = self.payload.clone().unwrap_or_else(|| asked.clone());
            let answers = std::iter::repeat_n((self.headers.clone(), payload), 1 + self.more);
            return before.into_iter().chain(answers).collect();
        }
        let part = |number: usize| {
            let more = (number + 1 < self.parts || self.unfinished).then_some(("Ipc-Gateway-More", "1"));
            let headers = self.headers.iter().copied().chain(more).collect();
            (headers, number.to_string().into())
        };
        (0..self.parts).map(part).collect()
    }

    /// Always answers this.
    pub(crate) fn fixed(payload: &'static str) -> Self {
        Self { payload: Some(Bytes::from_static(payload.as_bytes())), ..Self::default() }
    }
}

/// No case takes longer: a hang is a failure with a name.
const CASE_SECONDS_MAX: u64 = 60;

/// Runs one case on a rig of its own.
pub(crate) async fn run<R: Rig>(case: impl AsyncFnOnce(&R)) {
    let whole = async {
        let rig = R::open().await;
        case(&rig).await;
        rig.close().await;
    };
    let limit = Duration::from_secs(CASE_SECONDS_MAX);
    tokio::time::timeout(limit, whole).await.expect("the case ends within its time limit");
}

/// The table: every rig runs every case, each as a test of its name.
macro_rules! conformance {
    ($rig:ty) => {
        $crate::suite::cases! { $rig:
            // Requests and their answers.
            empty_payload,
            binary_payload,
            four_mebibytes,
            largest_payload_passes,
            too_large_is_refused_unsent,
            headers_to_the_responder,
            headers_of_the_answer,
            reserved_headers_of_a_peer_never_pass,
            no_responders_at_once,
            two_responders_one_answer,
            queue_group_shares_requests,
            thousand_concurrent_requests_do_not_mix,
            double_replies_are_ignored,
            late_replies_are_ignored,
            acknowledgements_of_streams_are_skipped_where_asked,
            error_headers_make_failed,
            dropping_a_request_frees_its_slot,
            giving_a_request_up_tells_its_responder,
            a_streamed_answer_is_whole_and_in_order,
            an_answer_of_one_is_a_message_where_many_may_come,
            many_answers_where_one_may_come_are_failed,
            a_streamed_answer_over_its_count_is_cut_off,
            a_streamed_answer_that_falls_silent_is_over,
            a_streamed_answer_that_is_not_read_is_over,
            dropping_a_streamed_answer_tells_its_responder,
            // Publishing.
            every_plain_listener_hears,
            queue_group_hears_once,
            publish_carries_headers,
            publishes_keep_their_order,
            publish_to_nobody_is_accepted,
            // Subscribing.
            stream_tells_subject_and_headers,
            star_matches_one_token,
            tail_matches_the_rest,
            slow_reader_is_told_the_gap,
            dropping_a_stream_ends_the_subscription,
            reserved_subjects_are_not_delivered,
            // The whole.
            health_says_reachable,
            close_ends_streams,
        }
    };
}

macro_rules! cases {
    ($rig:ty: $($name:ident,)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $crate::suite::run::<$rig>($crate::cases::$name).await;
        }
    )* };
}

pub(crate) use {cases, conformance};
