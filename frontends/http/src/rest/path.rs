//! Paths: the template of one, and the segments of a request's.

use std::borrow::Cow;

/// Most segments of a template. Deeper paths exist, deeper interfaces do not.
pub(crate) const SEGMENTS_MAX: usize = 32;

/// The template of a path, such as `/policies/{tenant}/complexity`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathTemplate(Vec<Segment>);

/// One segment of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Stands for itself.
    Literal(Box<str>),
    /// Stands for any text that is not empty, under this name.
    Parameter(Box<str>),
}

impl PathTemplate {
    /// Reads a template. The error says what is wrong, to be read after the key.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix('/').ok_or("does not start with /")?;
        let segments: Vec<_> = rest.split('/').map(Segment::parse).collect::<Result<_, _>>()?;
        if segments.len() > SEGMENTS_MAX {
            return Err(format!("has more than {SEGMENTS_MAX} segments"));
        }
        let template = Self(segments);
        let mut names: Vec<_> = template.parameters().collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("has two parameters named {}", pair[0])),
            None => Ok(template),
        }
    }

    /// The segments.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The names of its parameters, in order.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|segment| match segment {
            Segment::Parameter(name) => Some(&**name),
            Segment::Literal(_) => None,
        })
    }

    /// Whether a path could be one of both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let same = |pair: (&Segment, &Segment)| match pair {
            (Segment::Literal(one), Segment::Literal(other)) => one == other,
            _ => true,
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }

    /// Whether both stand for the same paths, whatever their parameters are called.
    pub(crate) fn has_shape_of(&self, other: &Self) -> bool {
        let same = |pair: (&Segment, &Segment)| match pair {
            (Segment::Literal(one), Segment::Literal(other)) => one == other,
            (Segment::Parameter(_), Segment::Parameter(_)) => true,
            _ => false,
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            return if is_name(name) {
                Ok(Self::Parameter(name.into()))
            } else {
                Err(format!("has a parameter {text} whose name is not lower-case letters, digits and _"))
            };
        }
        // RFC 3986, 3.3: what stands in a path for itself. Templates are written decoded, and need no more.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
        match text {
            "" => Err("has an empty segment: look for // or a / at the end".to_owned()),
            "." | ".." => Err("has a segment . or .., which clients take away".to_owned()),
            _ if text.contains(['{', '}']) => Err(format!("has a parameter within a segment: {text}")),
            _ if !text.bytes().all(plain) => {
                Err(format!("has a character that no path has as it is: {text}"))
            }
            _ => Ok(Self::Literal(text.into())),
        }
    }
}

/// Whether `name` may name a parameter.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The segments of a request's path, decoded one by one, so that an encoded `/` is text and never a separator. An
/// empty segment is one. Fails for what is not percent-encoded UTF-8; `None` is a path with more segments than
/// any template has.
pub(crate) fn segments(path: &str) -> Result<Option<Vec<Cow<'_, str>>>, Malformed> {
    let rest = path.strip_prefix('/').ok_or(Malformed)?;
    if rest.bytes().filter(|byte| *byte == b'/').count() >= SEGMENTS_MAX {
        return Ok(None);
    }
    rest.split('/').map(decode).collect::<Result<_, _>>().map(Some)
}

/// The parameters of a query in the form of HTML's forms: `+` is a space. A name without `=` has an empty value.
pub(crate) fn query(text: &str) -> Result<Vec<(String, String)>, Malformed> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let part = |text: &str| decode(&text.replace('+', " ")).map(Cow::into_owned);
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((part(name)?, part(value)?))
        })
        .collect()
}

/// What is not percent-encoded UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Decodes `%` and two hex digits (RFC 3986, 2.1).
fn decode(text: &str) -> Result<Cow<'_, str>, Malformed> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, after @ ..] = rest else { return Err(Malformed) };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(digit(*high).ok_or(Malformed)? << 4 | digit(*low).ok_or(Malformed)?);
        rest = after;
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn template(text: &str) -> PathTemplate {
        PathTemplate::parse(text).unwrap()
    }

    #[test]
    fn a_template_is_literals_and_named_parameters() {
        let names: Vec<_> = template("/a/{tenant}/b.c/{p_2}").parameters().map(str::to_owned).collect();
        assert_eq!(names, ["tenant", "p_2"]);
        for (bad, what) in [
            ("a", "does not start with /"),
            ("/", "empty segment"),
            ("/a//b", "empty segment"),
            ("/a/", "empty segment"),
            ("/a/../b", "segment . or .."),
            ("/{a}/{a}", "two parameters named a"),
            ("/{A}", "whose name"),
            ("/{}", "whose name"),
            ("/x{a}", "within a segment"),
            ("/{a", "within a segment"),
            ("/a%20b", "no path has"),
            ("/a?b", "no path has"),
            ("/ä", "no path has"),
        ] {
            let told = PathTemplate::parse(bad).unwrap_err();
            assert!(told.contains(what), "{bad}: {told}");
        }
        assert!(PathTemplate::parse(&"/a".repeat(SEGMENTS_MAX)).is_ok());
        assert!(PathTemplate::parse(&"/a".repeat(SEGMENTS_MAX + 1)).is_err());
    }

    #[test]
    fn shapes_are_compared_without_names() {
        assert!(template("/a/{x}").has_shape_of(&template("/a/{y}")));
        assert!(!template("/a/{x}").has_shape_of(&template("/a/b")));
        assert!(template("/a/{x}").overlaps(&template("/{y}/b")));
        assert!(
            !template("/a/{x}").overlaps(&template("/b/{x}")) && !template("/a").overlaps(&template("/a/b"))
        );
    }

    #[test]
    fn an_encoded_slash_is_text_and_an_empty_segment_is_one() {
        let of = |path| segments(path).unwrap().unwrap();
        assert_eq!(of("/a%2Fb/%61//c+"), ["a/b", "a", "", "c+"]);
        for bad in ["/%", "/%4", "/%zz", "/%ff", "*"] {
            assert_eq!(segments(bad), Err(Malformed), "{bad}");
        }
        assert_eq!(segments(&"/a".repeat(SEGMENTS_MAX + 1)), Ok(None));
    }

    #[test]
    fn a_query_is_decoded_like_a_form() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            query("a=1+2&&b=%26%3D&c&a=").unwrap(),
            [pair("a", "1 2"), pair("b", "&="), pair("c", ""), pair("a", "")]
        );
        assert_eq!(query("a=%ff"), Err(Malformed));
    }

    proptest! {
        #[test]
        fn whatever_is_encoded_comes_back(text in "\\PC{0,12}") {
            let encoded = text.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02x}"));
            prop_assert_eq!(decode(&encoded).unwrap(), text.clone());
            let _ = (decode(&text), PathTemplate::parse(&text), query(&text), segments(&text));
        }
    }
}
