//! Templates of JSON: text with placeholders in braces, filled so that the result is JSON whatever is filled in.
//!
//! Within quotes a placeholder stands for the text (`"{tenant}"`, `"a-{tenant}"`), outside of them for a value: a
//! text in quotes, a number, an object, or `null` where there is nothing (`{details}`). `{a|b}` is the first that is
//! there. A brace that no name follows is JSON's own. What a template is made of is known when it is read, so that a
//! template which could become something else than JSON is refused with the configuration.

use std::borrow::Cow;

use contract::{Error, Kind};

use super::source::{Given, Place, Source, Value};

/// A template that has been checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    /// As it is written.
    Text(Box<str>),
    /// A text within quotes.
    Quoted(Vec<Source>),
    /// A value.
    Bare(Vec<Source>),
}

/// What becomes of a text that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing<'a> {
    /// It is refused: the request lacks it. The names of the path's parameters are for the message.
    Refused(&'a [&'a str]),
    /// It is the empty text.
    Empty,
}

impl Template {
    /// Reads a template of JSON. The error says what is wrong, to be read after the key.
    pub(crate) fn json(text: &str, place: Place<'_>) -> Result<Self, String> {
        let template = Self::parse(text, place, false)?;
        let mut sample = String::new();
        for part in &template.parts {
            match part {
                Part::Text(text) => sample.push_str(text),
                Part::Quoted(_) => {}
                Part::Bare(_) => sample.push_str("null"),
            }
        }
        match serde_json::from_str::<serde::de::IgnoredAny>(&sample) {
            Ok(_) => Ok(template),
            Err(error) => Err(format!("is not JSON when it is filled in: {error}")),
        }
    }

    /// Reads a template of plain text, such as a header's value: every placeholder stands for its text.
    pub(crate) fn text(text: &str, place: Place<'_>) -> Result<Self, String> {
        Self::parse(text, place, true)
    }

    fn parse(text: &str, place: Place<'_>, is_text: bool) -> Result<Self, String> {
        let mut parts = Vec::new();
        let (mut quoted, mut escaped, mut from) = (false, false, 0);
        let mut letters = text.char_indices().peekable();
        while let Some((at, letter)) = letters.next() {
            let named = letters.peek().is_some_and(|(_, next)| next.is_ascii_alphabetic());
            if letter == '{' && named && !escaped {
                let end = text[at..].find('}').map(|end| at + end);
                let end = end.ok_or_else(|| format!("has a placeholder without its }}: {}", &text[at..]))?;
                let sources: Vec<_> = text[at + 1..end]
                    .split('|')
                    .map(|one| Source::parse(one, place))
                    .collect::<Result<_, _>>()
                    .map_err(|what| format!("has a placeholder that cannot be: {what}"))?;
                if from < at {
                    parts.push(Part::Text(text[from..at].into()));
                }
                parts.push(if is_text || quoted { Part::Quoted(sources) } else { Part::Bare(sources) });
                from = end + 1;
                while letters.peek().is_some_and(|(next, _)| *next < from) {
                    letters.next();
                }
                continue;
            }
            match letter {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                _ => {}
            }
        }
        if from < text.len() {
            parts.push(Part::Text(text[from..].into()));
        }
        Ok(Self { parts })
    }

    /// All that it asks for.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &Source> {
        self.parts.iter().flat_map(|part| match part {
            Part::Text(_) => &[][..],
            Part::Quoted(sources) | Part::Bare(sources) => sources,
        })
    }

    /// Fills it in as JSON.
    pub(crate) fn fill(&self, given: &impl Given, missing: Missing<'_>) -> Result<String, Error> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Quoted(sources) => match first(sources, given, missing)? {
                    Some(value) => escape(&value.as_text(), &mut out),
                    None => refuse(sources, missing)?,
                },
                Part::Bare(sources) => match first(sources, given, missing)? {
                    Some(Value::Json(json)) => out.push_str(&json),
                    Some(Value::Text(text)) => {
                        out.push('"');
                        escape(&text, &mut out);
                        out.push('"');
                    }
                    None => out.push_str("null"),
                },
            }
        }
        Ok(out)
    }

    /// Fills it in as plain text; `None` if something that it needs is not there.
    pub(crate) fn fill_text(
        &self,
        given: &impl Given,
        missing: Missing<'_>,
    ) -> Result<Option<String>, Error> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Quoted(sources) | Part::Bare(sources) => match first(sources, given, missing)? {
                    Some(value) => out.push_str(&value.as_text()),
                    None => return Ok(None),
                },
            }
        }
        Ok(Some(out))
    }
}

/// The first source that has something. In an answer what cannot be read is not there: the answer is told anyway.
fn first<'a>(
    sources: &[Source],
    given: &'a impl Given,
    missing: Missing<'_>,
) -> Result<Option<Value<'a>>, Error> {
    for source in sources {
        match source.find(given) {
            Ok(None) => {}
            Err(_) if missing == Missing::Empty => {}
            found => return found,
        }
    }
    Ok(None)
}

fn refuse(sources: &[Source], missing: Missing<'_>) -> Result<(), Error> {
    match missing {
        Missing::Empty => Ok(()),
        Missing::Refused(parameters) => Err(lacking(sources, parameters)),
    }
}

/// What is told who left out what one of these sources would have.
pub(crate) fn lacking(sources: &[Source], parameters: &[&str]) -> Error {
    let names: Vec<_> = sources.iter().map(|source| source.name(parameters)).collect();
    Error::new(Kind::Invalid, format!("{} is missing", names.join(" or ")))
}

/// Appends `text` as it stands between the quotes of a JSON string (RFC 8259, 7).
fn escape(text: &str, out: &mut String) {
    let quoted = serde_json::to_string(text).expect("a text can be written");
    out.push_str(&quoted[1..quoted.len() - 1]);
}

/// JSON of a text.
pub(crate) fn quoted(text: &str) -> Cow<'static, str> {
    Cow::Owned(serde_json::to_string(text).expect("a text can be written"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use contract::{Identity, Method};
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;

    struct Sent {
        path: Vec<String>,
        query: Vec<(String, String)>,
        headers: HeaderMap,
        identity: Identity,
        body: Vec<u8>,
    }

    impl Sent {
        fn with(path: &[&str]) -> Self {
            Self {
                path: path.iter().map(|&part| part.to_owned()).collect(),
                query: vec![
                    ("q".to_owned(), "7".to_owned()),
                    ("d".into(), "1".into()),
                    ("d".into(), "2".into()),
                ],
                headers: HeaderMap::new(),
                identity: Identity::new("uid:1", Method::Local),
                body: br#"{"id":"r\"1","n":1.0,"nothing":null,"half":"\ud800"}"#.to_vec(),
            }
        }
    }

    impl Given for Sent {
        fn path(&self) -> &[String] {
            &self.path
        }
        fn query(&self) -> Result<&[(String, String)], Error> {
            Ok(&self.query)
        }
        fn headers(&self) -> &HeaderMap {
            &self.headers
        }
        fn identity(&self) -> &Identity {
            &self.identity
        }
        fn tenant(&self) -> &'static str {
            "t"
        }
        fn request(&self) -> &[u8] {
            &self.body
        }
    }

    const NAMES: &[&str] = &["tenant", "policy"];

    fn filled(template: &str) -> Result<String, Error> {
        let template = Template::json(template, Place::Request(NAMES)).unwrap();
        template.fill(&Sent::with(&["a\"b", "p"]), Missing::Refused(NAMES))
    }

    #[test]
    fn within_quotes_it_is_text_and_outside_a_value() {
        assert_eq!(filled(r#"{"t":"{tenant}","p":{policy}}"#).unwrap(), r#"{"t":"a\"b","p":"p"}"#);
        assert_eq!(
            filled(r#"{ "a": "x-{policy}-{query:q}", "b": {query:none}, "{tenant}": {} }"#).unwrap(),
            r#"{ "a": "x-p-7", "b": null, "a\"b": {} }"#
        );
        assert_eq!(filled(r#"["{query:none|policy}","\"{identity:tenant}"]"#).unwrap(), r#"["p","\"t"]"#);
        assert_eq!(filled("[1,{\"a\":{}}]").unwrap(), "[1,{\"a\":{}}]");
    }

    #[test]
    fn what_a_text_needs_and_is_not_there_is_refused() {
        let told = filled(r#"{"a":"{query:none|header:x-none}"}"#).unwrap_err();
        assert_eq!(
            (told.kind(), told.text()),
            (Kind::Invalid, "the query parameter none or the header x-none is missing")
        );
        assert_eq!(filled(r#"{"a":{query:d}}"#).unwrap_err().kind(), Kind::Malformed);
        let template = Template::json(r#"{"a":"{query:none}","d":"{query:d}"}"#, Place::Error).unwrap();
        assert_eq!(template.fill(&Sent::with(&[]), Missing::Empty).unwrap(), r#"{"a":"","d":""}"#);
    }

    #[test]
    fn parts_of_bodies_are_values_and_null_is_nothing() {
        let text = r#"[{request:/id},"{request:/n}",{request:/n},{request:/nothing|request:/id},{request:/half},{answer:/x}]"#;
        let template = Template::json(text, Place::Error).unwrap();
        let filled = template.fill(&Sent::with(&[]), Missing::Empty).unwrap();
        assert_eq!(filled, r#"["r\"1","1.0",1.0,"r\"1",null,null]"#);
    }

    #[test]
    fn what_could_not_be_filled_in_is_refused_with_a_reason() {
        for (bad, what) in [
            ("{\"a\":\"{other}\"}", "{other} is not known; there are tenant, policy, query:"),
            ("{\"a\":{tenant|}}", "{} is not known"),
            ("{\"a\":{tenant", "without its }"),
            ("{\"a\":1{tenant}}", "is not JSON"),
            ("{{tenant}:1}", "is not JSON"),
            ("{\"a\":{tenant}{policy}}", "is not JSON"),
            ("{\"a\":\"{tenant}}", "is not JSON"),
            ("{\"a\":\"{query:}\"}", "names no parameter"),
            ("{\"a\":\"{header:a b}\"}", "names no header"),
            ("{\"a\":\"{request:/x}\"}", "is not known"),
            ("{\"a\":\"{code}\"}", "is not known"),
        ] {
            let told = Template::json(bad, Place::Request(NAMES)).unwrap_err();
            assert!(told.contains(what), "{bad}: {told}");
        }
    }

    proptest! {
        /// Whatever a parameter holds, the body is JSON and has that value.
        #[test]
        fn a_filled_template_is_json_with_those_values(tenant in any::<String>(), policy in "\\PC{0,8}") {
            let text = r#"{"tenant_id":"{tenant}","policy_id":{policy},"both":"{policy}\n{tenant}"}"#;
            let template = Template::json(text, Place::Request(NAMES)).unwrap();
            let sent = Sent::with(&[&tenant, &policy]);
            let filled = template.fill(&sent, Missing::Refused(NAMES)).unwrap();
            let expected = json!({"tenant_id": tenant, "policy_id": policy, "both": format!("{policy}\n{tenant}")});
            prop_assert_eq!(serde_json::from_str::<Json>(&filled).unwrap(), expected);
        }

        /// What is accepted gives JSON, and nothing panics.
        #[test]
        fn whatever_is_accepted_gives_json(text in r#"([\[\]{}",:0-1\\ ]|\{tenant\}|\{query:q\}|"x"){0,12}"#, value in any::<String>()) {
            if let Ok(template) = Template::json(&text, Place::Request(NAMES)) {
                let filled = template.fill(&Sent::with(&[&value, ""]), Missing::Refused(NAMES)).unwrap();
                prop_assert!(serde_json::from_str::<Json>(&filled).is_ok(), "{} became {}", text, filled);
            }
        }
    }
}
