//! Compiles `proto/` with a protobuf compiler written in Rust, so that no `protoc` is needed on the machine.

use std::path::Path;

const FILES: [&str; 7] = [
    "leveret/v1/admin.proto",
    "leveret/v1/connection.proto",
    "leveret/v1/consume.proto",
    "leveret/v1/frame.proto",
    "leveret/v1/message.proto",
    "leveret/v1/publish.proto",
    "leveret/v1/topology.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files: Vec<_> = FILES.iter().map(|file| Path::new("proto").join(file)).collect();
    let descriptors = protox::compile(&files, ["proto"])?;
    prost_build::Config::new().bytes(["."]).btree_map(["."]).compile_fds(descriptors)?;
    Ok(())
}
