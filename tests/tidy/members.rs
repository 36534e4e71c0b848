//! The members of the workspace, as cargo and their manifests tell them, and the rules over them.

use std::fs;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::source::root;

/// The packages of the doors.
const DOOR_PACKAGES: [&str; 4] =
    ["ipc-gateway-ipc", "ipc-gateway-websocket", "ipc-gateway-grpc", "ipc-gateway-http"];
/// What may stand below `frontends/`.
const FRONTENDS: [&str; 7] = ["contract", "wire", "ipc", "websocket", "grpc", "http", "conformance"];
/// Crates of protocols and backends: the contract is in the words of none of them.
const PROTOCOL_CRATES: [&str; 10] = [
    "async-nats",
    "axum",
    "http",
    "hyper",
    "hyper-util",
    "prost",
    "rustls",
    "tokio-tungstenite",
    "tonic",
    "tungstenite",
];

/// A member.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// From the root, with `/`; empty for the root package.
    pub(crate) directory: String,
    pub(crate) licence: Option<String>,
    pub(crate) inherits_lints: bool,
    /// Packages that it is built from, and that its tests alone use.
    dependencies: Vec<String>,
    dev_dependencies: Vec<String>,
}

impl Member {
    /// A member with one dependency.
    pub(crate) fn example(directory: &str, dependency: &str) -> Self {
        let name = directory.rsplit('/').next().filter(|name| !name.is_empty());
        Self {
            name: name.map_or("ipc-gateway".to_owned(), |name| format!("ipc-gateway-{name}")),
            directory: directory.to_owned(),
            licence: Some("MIT".to_owned()),
            inherits_lints: true,
            dependencies: vec![dependency.to_owned()],
            dev_dependencies: Vec::new(),
        }
    }

    fn finding(&self, rule: &str) -> String {
        format!("{}: {rule}", manifest(&self.directory))
    }

    fn is_door(&self) -> bool {
        DOOR_PACKAGES.contains(&self.name.as_str())
    }
}

/// The manifest of a member, from the root.
pub(crate) fn manifest(directory: &str) -> String {
    if directory.is_empty() { "Cargo.toml".to_owned() } else { format!("{directory}/Cargo.toml") }
}

/// The root's manifest.
pub(crate) fn root_manifest() -> toml::Table {
    fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap()
}

/// The licence's text.
pub(crate) fn licence() -> String {
    fs::read_to_string(root().join("LICENCE.md")).unwrap()
}

/// The crates of the doors, as the root package names them in its sources.
pub(crate) fn door_crates() -> &'static [String] {
    static CRATES: OnceLock<Vec<String>> = OnceLock::new();
    CRATES.get_or_init(|| {
        let metadata = metadata();
        let packages = metadata["packages"].as_array().unwrap();
        let root = packages.iter().find(|package| package["name"] == "ipc-gateway").unwrap();
        let dependencies = root["dependencies"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().map(|name| name.replace('-', "_"));
        dependencies
            .filter(|dependency| DOOR_PACKAGES.iter().any(|door| dependency["name"] == *door))
            .filter_map(|dependency| text(&dependency["rename"]).or_else(|| text(&dependency["name"])))
            .collect()
    })
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// All members.
pub(crate) fn all() -> Vec<Member> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let members: Vec<_> = packages.iter().map(|package| member(package, &metadata)).collect();
    assert!(members.len() >= 4, "only {} members were found", members.len());
    members
}

fn member(package: &Value, metadata: &Value) -> Member {
    let text = |key: &str| package[key].as_str().unwrap().to_owned();
    let manifest = text("manifest_path");
    let directory = manifest.strip_prefix(metadata["workspace_root"].as_str().unwrap()).unwrap();
    let directory = directory.trim_end_matches("Cargo.toml").trim_matches('/').to_owned();
    let of_kind = |is_dev: bool| {
        let all = package["dependencies"].as_array().unwrap().iter();
        let wanted = all.filter(|dependency| (dependency["kind"] == "dev") == is_dev);
        wanted.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect()
    };
    let table: toml::Table = fs::read_to_string(&manifest).unwrap().parse().unwrap();
    let lints = table.get("lints").and_then(|lints| lints.get("workspace"));
    Member {
        name: text("name"),
        directory,
        licence: package["license"].as_str().map(str::to_owned),
        inherits_lints: lints.and_then(toml::Value::as_bool) == Some(true),
        dependencies: of_kind(false),
        dev_dependencies: of_kind(true),
    }
}

/// Who may depend on whom.
pub(crate) fn dependencies(members: &[Member]) -> Vec<String> {
    members
        .iter()
        .flat_map(|member| member.dependencies.iter().filter_map(|name| judge(member, name)))
        .collect()
}

/// What is wrong with this dependency of this member.
fn judge(member: &Member, dependency: &str) -> Option<String> {
    let is_member = dependency == "ipc-gateway" || dependency.starts_with("ipc-gateway-");
    let short = member.name.strip_prefix("ipc-gateway-").unwrap_or_default();
    let is_of = |name: &str| dependency == name || dependency.starts_with(&format!("{name}-"));
    let rule = match short {
        "contract" if is_member => "the contract depends on no other member",
        "contract" if PROTOCOL_CRATES.contains(&dependency) => {
            "the contract depends on no protocol or backend"
        }
        "wire" if is_member && dependency != "ipc-gateway-contract" => "wire depends on the contract alone",
        // One port serves both.
        "http" if dependency == "ipc-gateway-websocket" => return None,
        _ if member.is_door()
            && is_member
            && !matches!(dependency, "ipc-gateway-contract" | "ipc-gateway-wire") =>
        {
            "a door depends on contract and wire alone"
        }
        _ if short != "grpc" && (is_of("tonic") || is_of("prost")) => {
            "only frontends/grpc has tonic and prost"
        }
        // Its outside party is a client of NATS like any other.
        "conformance" if is_of("async-nats") => return None,
        _ if !member.directory.is_empty() && is_of("async-nats") => "only the root package has async-nats",
        _ => return None,
    };
    Some(member.finding(&format!("{rule}, and not on {dependency}")))
}

/// Where members are, what they are called, and what they carry.
pub(crate) fn form(members: &[Member]) -> Vec<String> {
    let mut findings = Vec::new();
    for member in members {
        let place = member.directory.strip_prefix("frontends/").filter(|name| FRONTENDS.contains(name));
        let is_known = member.directory.is_empty() && member.name == "ipc-gateway"
            || place.is_some_and(|name| member.name == format!("ipc-gateway-{name}"))
            || member.directory == "tests/defences" && member.name == "ipc-gateway-defences";
        if !is_known {
            let known = FRONTENDS.join(", ");
            findings.push(
                member.finding(&format!("a member is ipc-gateway-<name> in frontends/<name>: {known}")),
            );
        }
        if member.licence.as_deref() != Some("MIT") {
            findings.push(member.finding("a member has the workspace's licence, MIT"));
        }
        if !member.inherits_lints {
            findings.push(member.finding("a member has the workspace's lints"));
        }
        if member.is_door()
            && member.dev_dependencies.iter().any(|name| DOOR_PACKAGES.contains(&name.as_str()))
        {
            findings.push(member.finding("a door is tested without another door"));
        }
    }
    findings
}
