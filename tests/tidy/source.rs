//! Sources as the rules see them: without comments and texts, each path of names written out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A file of text.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A Rust source.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// From the root, with `/`.
    pub(crate) path: String,
    /// As it is.
    pub(crate) text: String,
    /// With blanks for comments, texts and modules of tests; its lines are those of the file.
    pub(crate) code: String,
    /// Whether all of it is tests.
    pub(crate) is_test: bool,
}

/// A path of names, such as `crate::route::Call`, and the line it ends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) line: usize,
    pub(crate) path: Vec<String>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = without_tests(&without_comments_and_texts(text));
        // The matrix of doors is tests too, with a library so that its page can be written by a command.
        let is_test = ["tests/", "frontends/conformance/"].iter().any(|place| path.starts_with(place))
            || path.contains("/tests/")
            || path.ends_with("/tests.rs");
        Self { path: path.to_owned(), text: text.to_owned(), code, is_test }
    }

    /// A finding of a rule in this file.
    pub(crate) fn finding(&self, line: usize, rule: &str) -> String {
        format!("{}:{line}: {rule}", self.path)
    }

    /// All paths of names in the code, imports written out one by one, `self` and `super` resolved.
    pub(crate) fn names(&self) -> Vec<Named> {
        let mut names = names(&self.code);
        for named in &mut names {
            named.path = self.resolve(&named.path);
        }
        names
    }

    /// The first name that `is_wrong`, as a finding.
    pub(crate) fn first_named(&self, rule: &str, is_wrong: impl Fn(&[String]) -> bool) -> Vec<String> {
        let found = self.names().into_iter().find(|named| is_wrong(&named.path));
        found.map(|named| self.finding(named.line, rule)).into_iter().collect()
    }

    /// The modules that this file is, from the root of its crate.
    fn module(&self) -> Vec<String> {
        let inside = self.path.split_once("src/").map_or("", |(_, inside)| inside);
        let inside = inside.trim_end_matches(".rs").trim_end_matches("mod").trim_end_matches('/');
        let names = inside.split('/').filter(|name| !matches!(*name, "" | "lib" | "main"));
        names.map(str::to_owned).collect()
    }

    fn resolve(&self, path: &[String]) -> Vec<String> {
        if !matches!(path.first().map(String::as_str), Some("super" | "self")) {
            return path.to_vec();
        }
        let mut module = self.module();
        let up = path.iter().take_while(|name| matches!(name.as_str(), "super" | "self")).count();
        let supers = path[..up].iter().filter(|name| *name == "super").count();
        module.truncate(module.len().saturating_sub(supers));
        ["crate".to_owned()].into_iter().chain(module).chain(path[up..].iter().cloned()).collect()
    }

    /// The names of modules that are compiled for tests only and have files of their own.
    fn test_modules(&self) -> Vec<String> {
        let lines: Vec<&str> = self.text.lines().map(str::trim).collect();
        let pairs = lines.windows(2).filter(|pair| is_for_tests(pair[0]));
        let declared = pairs.filter_map(|pair| {
            let (_, name) = pair[1].strip_suffix(';')?.rsplit_once("mod ")?;
            let file = Path::new(&self.path);
            let stem = file.file_stem()?.to_str()?;
            let parent = file.parent()?;
            let inside =
                if matches!(stem, "lib" | "main" | "mod") { parent.into() } else { parent.join(stem) };
            Some(inside.join(name).to_str()?.to_owned())
        });
        declared.collect()
    }
}

/// Whether a line is an attribute such as `#[cfg(test)]` or `#[cfg(all(test, unix))]`.
fn is_for_tests(line: &str) -> bool {
    line.starts_with("#[cfg(")
        && !line.contains("not(test")
        && line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "test")
}

/// All Rust sources of the repository.
pub(crate) fn all() -> &'static [Source] {
    static SOURCES: OnceLock<Vec<Source>> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let rust =
            texts().iter().filter(|text| Path::new(&text.path).extension().is_some_and(|end| end == "rs"));
        let mut sources: Vec<_> = rust.map(|text| Source::new(&text.path, &text.text)).collect();
        let of_tests: BTreeSet<String> = sources.iter().flat_map(Source::test_modules).collect();
        for source in &mut sources {
            let is_in = |module: &String| {
                source.path == format!("{module}.rs") || source.path.starts_with(&format!("{module}/"))
            };
            source.is_test |= of_tests.iter().any(is_in);
        }
        sources
    })
}

/// All files of text of the repository, but what is built and what git keeps for itself.
pub(crate) fn texts() -> &'static [Text] {
    static TEXTS: OnceLock<Vec<Text>> = OnceLock::new();
    TEXTS.get_or_init(|| {
        let (root, mut texts) = (root(), Vec::new());
        let mut directories = vec![root.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if path.is_symlink() || matches!(name, "target" | ".git") {
                    continue;
                }
                if path.is_dir() {
                    directories.push(path);
                } else if let Ok(text) = fs::read_to_string(&path) {
                    let path = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                    texts.push(Text { path, text });
                }
            }
        }
        texts.sort_by(|one, other| one.path.cmp(&other.path));
        texts
    })
}

/// The text with a blank for each character of a comment, a text or a character literal. Line ends stay.
fn without_comments_and_texts(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match (chars[at], chars.get(at + 1)) {
            ('/', Some('/')) => (at..chars.len()).find(|at| chars[*at] == '\n').unwrap_or(chars.len()),
            ('/', Some('*')) => end_of_comment(&chars, at),
            ('"', _) => end_of_text(&chars, at + 1, '"'),
            ('r', Some('"' | '#')) if !is_of_name(&chars, at) => end_of_raw_text(&chars, at),
            ('\'', Some('\\')) => end_of_text(&chars, at + 1, '\''),
            ('\'', Some(_)) if chars.get(at + 2) == Some(&'\'') => at + 3,
            _ => at,
        };
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            let end = end.min(chars.len());
            code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Whether the character before is part of the same name; the `b` of `br"…"` is not.
fn is_of_name(chars: &[char], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map(|at| chars[at]);
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    match before(1) {
        Some('b') => before(2).is_some_and(is_name),
        before => before.is_some_and(is_name),
    }
}

fn end_of_comment(chars: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn end_of_text(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// `r` itself when no raw text starts there (a raw name).
fn end_of_raw_text(chars: &[char], start: usize) -> usize {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(start + 1 + hashes) != Some(&'"') {
        return start;
    }
    let mut at = start + 2 + hashes;
    while at < chars.len() {
        let closing = &chars[at..chars.len().min(at + 1 + hashes)];
        if closing[0] == '"' && closing.len() == 1 + hashes && closing[1..].iter().all(|c| *c == '#') {
            return at + 1 + hashes;
        }
        at += 1;
    }
    at
}

/// Blanks modules that are compiled for tests only.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut lines = code.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        kept.push_str(line);
        let is_module = |line: &&str| line.contains("mod ") && line.contains('{');
        if !is_for_tests(line.trim()) || !lines.peek().is_some_and(is_module) {
            continue;
        }
        let mut depth = 0_i32;
        for line in lines.by_ref() {
            kept.extend(line.chars().filter(|c| *c == '\n'));
            for c in line.chars() {
                depth += i32::from(c == '{') - i32::from(c == '}');
            }
            if depth == 0 {
                break;
            }
        }
    }
    kept
}

/// The paths of names in code, in their order.
fn names(code: &str) -> Vec<Named> {
    let mut reader = Reader { chars: code.chars().collect(), at: 0, line: 1, found: Vec::new() };
    while reader.at < reader.chars.len() {
        let c = reader.chars[reader.at];
        if c.is_alphabetic() || c == '_' {
            reader.path(&mut Vec::new());
        } else if c.is_ascii_digit() {
            reader.word();
        } else {
            reader.step();
        }
    }
    reader.found
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    line: usize,
    found: Vec<Named>,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn step(&mut self) {
        self.line += usize::from(self.chars[self.at] == '\n');
        self.at += 1;
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.step();
        }
    }

    fn word(&mut self) -> String {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    /// A path from here on, or a tree of them in braces, behind `before`.
    fn path(&mut self, before: &mut Vec<String>) {
        let depth = before.len();
        loop {
            match self.peek() {
                Some('{') if before.len() > depth || depth > 0 => {
                    self.tree(before);
                    break;
                }
                Some(c) if c.is_alphanumeric() || c == '_' => {
                    let word = self.word();
                    before.push(word);
                }
                _ => {
                    self.found.push(Named { line: self.line, path: before.clone() });
                    break;
                }
            }
            let (at, line) = (self.at, self.line);
            self.blanks();
            if self.chars[self.at..].starts_with(&[':', ':']) {
                self.at += 2;
                self.blanks();
            } else {
                (self.at, self.line) = (at, line);
                self.found.push(Named { line, path: before.clone() });
                break;
            }
        }
        before.truncate(depth);
    }

    /// What is in braces, up to and with the closing one.
    fn tree(&mut self, before: &mut Vec<String>) {
        self.step();
        while let Some(c) = self.peek() {
            if c == '}' {
                return self.step();
            }
            if c.is_alphabetic() || c == '_' {
                self.path(before);
            } else {
                self.step();
            }
        }
    }
}

#[test]
fn imports_are_written_out() {
    let source = Source::new(
        "src/policies/rate_limit/peers.rs",
        "//! A.\nuse crate::{a::{self, b as c},\n  d::*};\nuse super::bucket;\nfn f() { x::y::<z>(1.0e3) }\n",
    );
    let names: Vec<_> =
        source.names().iter().map(|named| format!("{} {}", named.line, named.path.join("::"))).collect();
    for expected in [
        "2 crate::a::self",
        "2 crate::a::b",
        "3 crate::d",
        "4 crate::policies::rate_limit::bucket",
        "5 x::y",
        "5 z",
    ] {
        assert!(names.iter().any(|name| name == expected), "{expected} is not in {names:?}");
    }
}
