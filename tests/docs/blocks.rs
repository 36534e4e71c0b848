//! The marked blocks of a page, and what they match.

use std::fmt;

/// An example to run.
#[derive(Debug)]
pub(crate) enum Example {
    /// A script for the shell, and what it prints if the page says so.
    Shell { script: String, output: Option<String> },
    /// A conversation in frames.
    Frames { said: Vec<Frame> },
    /// The configuration file of the gateways from here on.
    Configuration { text: String },
}

/// One line of a conversation.
#[derive(Debug)]
pub(crate) enum Frame {
    Sent(Vec<u8>),
    Expected(Pattern),
}

/// Bytes, some of which may be any.
#[derive(Debug)]
pub(crate) struct Pattern {
    bytes: Vec<Option<u8>>,
    any_rest: bool,
}

impl Pattern {
    pub(crate) fn matches(&self, bytes: &[u8]) -> bool {
        let long_enough =
            if self.any_rest { bytes.len() >= self.bytes.len() } else { bytes.len() == self.bytes.len() };
        long_enough && self.bytes.iter().zip(bytes).all(|(want, have)| want.is_none_or(|want| want == *have))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let byte = |byte: &Option<u8>| byte.map_or("..".to_owned(), |byte| format!("{byte:02x}"));
        let bytes: Vec<_> = self.bytes.iter().map(byte).collect();
        write!(formatter, "{}{}", bytes.join(" "), if self.any_rest { " …" } else { "" })
    }
}

/// A fenced block.
struct Block<'a> {
    /// Of its first fence.
    line: usize,
    info: &'a str,
    text: String,
}

/// What is wrong with a page, and in which line.
type Fault = (usize, String);

fn blocks(page: &str) -> Result<Vec<Block<'_>>, Fault> {
    let (mut blocks, mut open) = (Vec::new(), None::<Block<'_>>);
    for (number, line) in page.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block { line: number + 1, info: info.trim(), text: String::new() });
            }
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    open.map_or(Ok(blocks), |block| Err((block.line, "the block has no end".to_owned())))
}

/// The examples of a page, each with the line of its block.
pub(crate) fn examples(page: &str) -> Result<Vec<(usize, Example)>, Fault> {
    let mut examples = Vec::new();
    let mut is_output_next = false;
    for block in blocks(page)? {
        let was_output_next = std::mem::take(&mut is_output_next);
        match block.info {
            "sh run" => {
                examples.push((block.line, Example::Shell { script: block.text, output: None }));
                is_output_next = true;
            }
            "text output" => match examples.last_mut() {
                Some((_, Example::Shell { output, .. })) if was_output_next => *output = Some(block.text),
                _ => return Err((block.line, "an output follows the block that is run".to_owned())),
            },
            "toml config" => examples.push((block.line, Example::Configuration { text: block.text })),
            "hex frame" => examples.push((block.line, Example::Frames { said: frames(&block)? })),
            info if info.contains(' ') => {
                return Err((
                    block.line,
                    format!("{info:?} is none of: sh run, text output, hex frame, toml config"),
                ));
            }
            _ => {}
        }
    }
    Ok(examples)
}

fn frames(block: &Block<'_>) -> Result<Vec<Frame>, Fault> {
    let mut said = Vec::new();
    for (number, line) in block.text.lines().enumerate() {
        let fault = |what: &str| (block.line + 1 + number, format!("{what}: {line}"));
        let (is_sent, hex) = match line.split_once(' ') {
            Some((">", hex)) => (true, hex),
            Some(("<", hex)) => (false, hex),
            _ => return Err(fault("a line begins with > or <")),
        };
        let mut pattern = Pattern { bytes: Vec::new(), any_rest: false };
        for word in hex.split_whitespace() {
            if pattern.any_rest {
                return Err(fault("nothing stands behind …"));
            }
            match word {
                "…" => pattern.any_rest = true,
                ".." => pattern.bytes.push(None),
                byte if byte.len() == 2 => {
                    let byte = u8::from_str_radix(byte, 16).map_err(|_| fault("not a byte in hex"))?;
                    pattern.bytes.push(Some(byte));
                }
                _ => return Err(fault("not a byte in hex")),
            }
        }
        let bytes: Option<Vec<u8>> = pattern.bytes.iter().copied().collect();
        said.push(match bytes {
            Some(bytes) if is_sent && !pattern.any_rest => Frame::Sent(bytes),
            _ if is_sent => return Err(fault("what is sent has no gaps")),
            _ => Frame::Expected(pattern),
        });
    }
    Ok(said)
}

/// Whether what was printed is what is expected, line by line.
pub(crate) fn lines_match(expected: &str, printed: &str) -> bool {
    let (expected, printed): (Vec<_>, Vec<_>) = (expected.lines().collect(), printed.lines().collect());
    expected.len() == printed.len()
        && expected.iter().zip(printed).all(|(want, have)| line_matches(want, have))
}

/// Whether a line is what is expected, where `…` stands for anything.
fn line_matches(expected: &str, printed: &str) -> bool {
    let Some((start, rest)) = expected.split_once('…') else { return expected == printed };
    let Some(mut printed) = printed.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('…').collect();
    let end = parts.pop().expect("a split has a last part");
    for part in parts {
        let Some(at) = printed.find(part) else { return false };
        printed = &printed[at + part.len()..];
    }
    printed.ends_with(end)
}

#[test]
fn an_ellipsis_stands_for_anything_within_a_line() {
    for (expected, printed, does) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("a…", "a", true),
        ("a…", "abc", true),
        ("…c", "abc", true),
        ("a…c", "abc", true),
        ("a…c", "abcd", false),
        ("a…b…c", "a1b2c", true),
        ("a…b…c", "a12c", false),
        ("ab…ba", "aba", false),
        ("…", "", true),
    ] {
        assert_eq!(line_matches(expected, printed), does, "{expected} {printed}");
    }
    assert!(lines_match("a\n…\n", "a\nb\n"));
    assert!(!lines_match("a\n…\n", "a\n") && !lines_match("a\n", "a\nb\n"));
}
