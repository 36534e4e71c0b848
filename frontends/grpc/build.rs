//! Makes the messages, the service and its client from `proto/`, without protoc.
//!
//! The messages that carry deliveries are ours and not generated (`src/shared.rs`): a delivery stands in them as
//! the bytes that were encoded once for all who listen. On the wire both are the same.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

const FILES: [&str; 2] = ["gateway/v1/errors.proto", "gateway/v1/gateway.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    for file in FILES {
        println!("cargo::rerun-if-changed={}", root.join(file).display());
    }
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(FILES)?;
    // For reflection: with the comments, which tools show.
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("gateway.fds"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".gateway.v1")
        .extern_path(".gateway.v1.SubscribeResponse", "crate::shared::SubscribeResponse")
        .extern_path(".gateway.v1.SessionResponse", "crate::shared::SessionResponse")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
