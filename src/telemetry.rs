//! Logs: one line an event, to standard error.
//!
//! A person at a terminal gets readable lines, everything else JSON, because what is not a terminal is a collector.
//! Standard output is left to the command line's own answers. What is wrong with a filter is said before anything
//! starts: a filter that quietly matches nothing is found out when the log is needed.

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// How a log line is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// [`Self::Human`] when standard error is a terminal, else [`Self::Json`].
    #[default]
    Auto,
    /// One readable line an event, with colours on a terminal unless `NO_COLOR` is set (no-color.org).
    Human,
    /// One JSON object an event: `timestamp`, `level`, `target`, the event's fields, and `span`.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// A level (`off`, `error`, `warn`, `info`, `debug`, `trace`), or filter directives by target, such as
    /// `info,ipc_gateway::backend=debug`.
    pub level: String,
    /// How a line is written.
    pub format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Auto }
    }
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A word that is neither a level nor `target=level`. Alone, it would be taken for a target, and everything
    /// else would go silent.
    #[error(
        "{word:?} is not a log level (off, error, warn, info, debug, trace) nor target=level, for example \
         info,ipc_gateway::backend=debug"
    )]
    Level {
        /// The word, as it was given.
        word: String,
    },
    /// A directive that cannot be read.
    #[error("the log filter {filter:?} cannot be read: {source}")]
    Filter {
        /// All of the filter, as it was given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Logging was set up before in this process; what was set then stays.
    #[error("logging is set up already")]
    Installed,
}

/// Sets up logging for the whole process. Call it once; a second call changes nothing and says so.
pub fn init(settings: &LogSettings) -> Result<(), LogError> {
    let filter = parse_filter(&settings.level)?;
    let is_terminal = io::stderr().is_terminal();
    let is_human = match settings.format {
        LogFormat::Auto => is_terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let colours = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let installed = if is_human {
        human(filter, colours, io::stderr).try_init()
    } else {
        json(filter, io::stderr).try_init()
    };
    installed.map_err(|_| LogError::Installed)
}

/// Whether a filter would be taken by [`init`], for a configuration that is only checked.
pub fn check_filter(level: &str) -> Result<(), LogError> {
    parse_filter(level).map(drop)
}

fn parse_filter(filter: &str) -> Result<EnvFilter, LogError> {
    // The parser takes a space for a part of the target, which then matches nothing.
    let words: Vec<&str> = filter.split(',').map(str::trim).collect();
    for word in &words {
        let is_directive = word.contains(['=', '[', ']']);
        let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
        if !is_directive && !is_level {
            return Err(LogError::Level { word: (*word).to_owned() });
        }
    }
    // A level alone means this program; a directive for a library is said in so many words.
    let libraries =
        if words.len() == 1 && LEVELS[1..4].iter().any(|level| level.eq_ignore_ascii_case(words[0])) {
            crate::backend::nats::LIBRARY_LOG
        } else {
            ""
        };
    EnvFilter::builder()
        .parse(words.join(",") + libraries)
        .map_err(|source| LogError::Filter { filter: filter.to_owned(), source })
}

fn human<W>(filter: EnvFilter, colours: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(writer).finish()
}

fn json<W>(filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(writer)
        .finish()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn json_lines_are_objects_with_the_fields_at_the_top() {
        let paper = Paper::default();
        let writer = paper.clone();
        let subscriber = json(parse_filter("info").unwrap(), move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(route = "orders", "refused \"so\"\nit goes");
            tracing::debug!("not at this level");
        });
        let text = paper.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["route"], "orders");
        assert_eq!(line["message"], "refused \"so\"\nit goes");
        assert!(line["timestamp"].as_str().is_some_and(|stamp| stamp.ends_with('Z')), "{line}");
    }

    #[test]
    fn human_lines_have_colours_only_when_asked() {
        for colours in [true, false] {
            let paper = Paper::default();
            let writer = paper.clone();
            let subscriber = human(parse_filter("warn").unwrap(), colours, move || writer.clone());
            tracing::subscriber::with_default(subscriber, || {
                tracing::info!("quiet");
                tracing::error!("loud");
            });
            let text = paper.text();
            assert!(text.contains("loud") && !text.contains("quiet"), "{text}");
            assert_eq!(text.contains('\u{1b}'), colours, "{text:?}");
        }
    }

    #[test]
    fn a_filter_by_target_lets_only_that_target_through() {
        let paper = Paper::default();
        let writer = paper.clone();
        let filter = parse_filter("error,ipc_gateway::backend=debug").unwrap();
        let subscriber = json(filter, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!(target: "ipc_gateway::backend::nats", "kept");
            tracing::debug!(target: "ipc_gateway::admin", "left");
        });
        assert!(paper.text().contains("kept") && !paper.text().contains("left"), "{}", paper.text());
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_by_name() {
        for (filter, bad) in [("verbose", "verbose"), ("", ""), ("info,", ""), ("info,hyper", "hyper")] {
            let error = check_filter(filter).unwrap_err();
            assert!(matches!(&error, LogError::Level { word } if word == bad), "{filter}: {error}");
        }
        for filter in ["hyper=loud", "info,a=b=c", "[span"] {
            let error = check_filter(filter).unwrap_err();
            assert!(matches!(error, LogError::Filter { .. }), "{filter}: {error}");
        }
        for filter in ["INFO", "off", "warn,hyper=error", "info, ipc_gateway[request]=trace"] {
            assert!(check_filter(filter).is_ok(), "{filter}");
        }
    }

    #[test]
    fn a_second_init_is_an_error_and_not_a_panic() {
        // Another test may have been first, so only the second answer is certain.
        let settings = LogSettings { level: "off".into(), format: LogFormat::Json };
        drop(init(&settings));
        assert!(matches!(init(&settings), Err(LogError::Installed)));
        let wrong = LogSettings { level: "loud".into(), ..settings };
        assert!(matches!(init(&wrong), Err(LogError::Level { .. })));
    }
}
