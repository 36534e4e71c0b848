//! The rows of `tests/defences/areas/`: a file an area, a table a defence.
//!
//! Written by hand and read by people first: a test is named as cargo takes it, and what is replaced is the text itself,
//! since a line number is wrong after the next edit.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// An area: defences that belong together.
#[derive(Clone, Debug)]
pub struct Area {
    /// Of its file, without the ending.
    pub name: String,
    /// Its place among the areas on the page.
    pub place: u32,
    /// The heading on the page.
    pub title: String,
    /// In the order of the file. At least one.
    pub defences: Vec<Defence>,
}

/// A defence, how it is switched off, and the test that must fail then.
#[derive(Clone, Debug)]
pub struct Defence {
    /// Of all areas, the only one with it: `a-few-words`.
    pub name: String,
    /// What goes wrong outside, in the words of the project.
    pub fault: String,
    /// What the gateway does about it.
    pub answer: String,
    /// The source that holds it, from the root, with `/`.
    pub file: String,
    /// The text that is the defence; it stands in the file once.
    pub text: String,
    /// What stands there when it is switched off.
    pub off: String,
    /// The test that fails then.
    pub test: Test,
    /// How many seconds the test may take; a test that takes longer has failed.
    pub limit_s: u64,
}

/// A test, as `cargo test` finds it: `-p <package> --lib <name>`, or `-p <package> --test <program> <name>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Test {
    /// The package that it is in.
    pub package: String,
    /// The program of tests; `None` for the unit tests of the library.
    pub program: Option<String>,
    /// With its modules.
    pub name: String,
}

/// Time for a unit test that has no `limit_s`: they take seconds, and one that waits for ever should not hold up a run.
const LIMIT_OF_A_UNIT_TEST_S: u64 = 40;
/// Time for a test of another program: the slowest takes a minute on a busy machine.
const LIMIT_S: u64 = 180;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AreaFile {
    place: u32,
    title: String,
    defence: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    fault: String,
    answer: String,
    file: String,
    text: String,
    off: String,
    test: String,
    limit_s: Option<u64>,
}

/// The root of the repository.
pub fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("this package is two folders below the root").to_owned()
}

/// Reads all areas, in the order of the page.
///
/// # Errors
///
/// A file that cannot be read or is not of the form, with its path.
pub fn read(root: &Path) -> Result<Vec<Area>, String> {
    let folder = root.join("tests/defences/areas");
    let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let paths = paths.filter(|path| path.extension().is_some_and(|ending| ending == "toml"));
    let mut areas = paths.map(|path| area(&path)).collect::<Result<Vec<_>, _>>()?;
    areas.sort_by(|one, other| (one.place, &one.name).cmp(&(other.place, &other.name)));
    Ok(areas)
}

fn area(path: &Path) -> Result<Area, String> {
    let told = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let file = fs::read_to_string(path).map_err(|error| told(&error))?;
    let file: AreaFile = toml::from_str(&file).map_err(|error| told(&error))?;
    let defence = |row: Row| {
        let test =
            Test::parse(&row.test).ok_or_else(|| told(&format!("{}: not a test: {}", row.name, row.test)))?;
        let limit_s = if test.program.is_some() { LIMIT_S } else { LIMIT_OF_A_UNIT_TEST_S };
        Ok::<_, String>(Defence {
            name: row.name,
            fault: row.fault,
            answer: row.answer,
            file: row.file,
            text: row.text,
            off: row.off,
            test,
            limit_s: row.limit_s.unwrap_or(limit_s),
        })
    };
    Ok(Area {
        name: path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
        place: file.place,
        title: file.title,
        defences: file.defence.into_iter().map(defence).collect::<Result<_, _>>()?,
    })
}

impl Defence {
    /// The package that the file belongs to.
    pub fn package(&self) -> String {
        match self.file.strip_prefix("frontends/").and_then(|rest| rest.split_once('/')) {
            Some((folder, _)) => format!("ipc-gateway-{folder}"),
            None => "ipc-gateway".to_owned(),
        }
    }
}

impl Test {
    /// Reads it as it is written in a list.
    pub fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (package, program, name) = match words[..] {
            ["-p", package, "--lib", name] => (package, None, name),
            ["-p", package, "--test", program, name] => (package, Some(program.to_owned()), name),
            _ => return None,
        };
        Some(Self { package: package.to_owned(), program, name: name.to_owned() })
    }

    /// The folder of its package from the root; empty for the root package.
    pub fn folder(&self) -> String {
        let short = self.package.strip_prefix("ipc-gateway-");
        short.map_or_else(String::new, |short| format!("frontends/{short}"))
    }

    /// The words that have cargo build its program.
    pub fn target(&self) -> Vec<String> {
        let mut words = vec!["-p".to_owned(), self.package.clone()];
        match &self.program {
            None => words.push("--lib".to_owned()),
            Some(program) => words.extend(["--test".to_owned(), program.clone()]),
        }
        words
    }
}

impl fmt::Display for Test {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} {}", self.target().join(" "), self.name)
    }
}
