//! Tests of the configuration as a whole, through `Config::load`. No test touches the process's environment.

use std::path::{Path, PathBuf};

use contract::Operation;
use tempfile::TempDir;

use super::*;
use crate::route::{Principal, Rate};

mod environment;
mod loading;
mod problems;
mod registry;
mod reload;
mod secrets;

/// Sources with no file, however full the directory is in which the tests run.
fn nothing() -> Sources {
    Sources { usual_files: Vec::new(), ..Sources::default() }
}

fn with_environment(pairs: &[(&str, &str)]) -> Sources {
    let environment = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { environment, ..nothing() }
}

fn write(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Sources with one file; keep the directory until they are loaded.
fn with_file(text: &str) -> (TempDir, Sources) {
    let directory = TempDir::new().unwrap();
    let file = write(&directory, "gateway.toml", text);
    (directory, Sources { file: Some(file), ..nothing() })
}

fn load_file(text: &str) -> Result<Loaded, Problems> {
    let (_directory, sources) = with_file(text);
    Config::load(&sources)
}

fn good(sources: &Sources) -> Loaded {
    Config::load(sources).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The problems as text, without the directory's name.
fn bad(sources: &Sources) -> String {
    match Config::load(sources) {
        Ok(_) => panic!("the configuration was accepted"),
        Err(problems) => problems.to_string(),
    }
}

fn flag(path: &str, text: &str) -> Flag {
    Flag { name: "--some-flag".into(), path: path.into(), text: text.into() }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn patterns(route: &RouteSettings) -> Vec<&str> {
    route.patterns.iter().map(contract::Pattern::as_str).collect()
}
