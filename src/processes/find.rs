//! Which nats-server a self-contained run starts.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Older ones lack what is measured, and 2.9 crashes on WebSocket.
const VERSION_MIN: (u32, u32) = (2, 11);

/// The program: what was named, else on the search path if it is new enough, else in a `tools` folder beside
/// this program's own or under `target`. Gives it with its version; fails with a line that says how to get
/// one.
pub fn find(
    named: Option<&Path>,
    search_path: Option<&std::ffi::OsStr>,
) -> Result<(PathBuf, String), String> {
    if let Some(path) = named {
        return match version(path) {
            Some((text, number)) if number >= VERSION_MIN => Ok((path.to_owned(), text)),
            Some((text, _)) => Err(format!("{} is version {text}; {}", path.display(), how_to_get_one())),
            None => {
                Err(format!("{} does not run or is no nats-server; {}", path.display(), how_to_get_one()))
            }
        };
    }
    let on_path =
        search_path.into_iter().flat_map(std::env::split_paths).map(|folder| folder.join("nats-server"));
    // target/release/ipc-gateway stands beside target/tools.
    let own = std::env::current_exe().ok();
    let beside = own
        .iter()
        .flat_map(|own| own.ancestors().skip(2).take(2))
        .map(|folder| folder.join("tools/nats-server"));
    let under = std::iter::once(PathBuf::from("target/tools/nats-server"));
    for path in on_path.chain(beside).chain(under) {
        if path.is_file()
            && let Some((text, number)) = version(&path)
            && number >= VERSION_MIN
        {
            return Ok((path, text));
        }
    }
    Err(format!("no nats-server was found: {}", how_to_get_one()))
}

fn how_to_get_one() -> String {
    format!(
        "{}.{} or later is needed. Name one with --nats-server FILE or NATS_SERVER_BIN, install it on the PATH, \
         or let `tests/run` put one under target/tools (releases: https://github.com/nats-io/nats-server/releases)",
        VERSION_MIN.0, VERSION_MIN.1,
    )
}

/// The version as text and as numbers.
fn version(program: &Path) -> Option<(String, (u32, u32))> {
    let output = Command::new(program).arg("--version").output().ok()?;
    parse(&String::from_utf8(output.stdout).ok()?)
}

/// `nats-server: v2.11.4`.
fn parse(text: &str) -> Option<(String, (u32, u32))> {
    let text = text.strip_prefix("nats-server:")?.trim().trim_start_matches('v');
    let mut numbers = text.split('.');
    let number = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    Some((text.to_owned(), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse("nats-server: v2.11.4\n"), Some(("2.11.4".to_owned(), (2, 11))));
        assert!(parse("nats-server: v2.9.25").unwrap().1 < VERSION_MIN);
        assert_eq!(parse("GNU bash, version 5.2"), None);
    }

    #[test]
    fn without_one_it_is_said_how_to_get_one() {
        let error = find(Some(Path::new("/nowhere/nats-server")), None).unwrap_err();
        assert!(error.contains("--nats-server") && error.contains("NATS_SERVER_BIN"), "{error}");
    }
}
