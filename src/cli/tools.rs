//! Which programs a self-contained run starts.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::processes::{self, Tools};

/// The programs, and the version of nats-server: the one `named`, else the one of the environment. Fails with a
/// line for a person.
pub(super) fn tools(
    named: Option<&Path>,
    variables: &[(OsString, OsString)],
) -> Result<(Tools, String), String> {
    let variable = |name: &str| {
        variables
            .iter()
            .find(|(own, value)| own == name && !value.is_empty())
            .map(|(_, value)| value.as_os_str())
    };
    let named = named.or_else(|| variable("NATS_SERVER_BIN").map(Path::new));
    let (nats_server, version) = processes::find_server(named, variable("PATH").map(OsStr::new))?;
    let gateway = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    // It is started from another folder.
    let nats_server = std::path::absolute(&nats_server).unwrap_or(nats_server);
    Ok((Tools { nats_server, gateway }, version))
}
