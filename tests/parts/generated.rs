//! The code that is generated from `proto/` is checked in, so that whoever builds the broker needs no protobuf compiler.

use std::path::Path;

/// Set to anything, it makes the test write the file instead of comparing it.
const UPDATE: &str = "UPDATE_GENERATED";

#[test]
fn the_generated_code_is_that_of_the_protocol() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let proto = root.join("proto");
    let mut files: Vec<_> =
        proto.join("leveret/v1").read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let descriptors = protox::compile(files, [proto]).unwrap();
    let made = tempfile::tempdir().unwrap();
    prost_build::Config::new()
        .bytes(["."])
        .btree_map(["."])
        .out_dir(made.path())
        .compile_fds(descriptors)
        .unwrap();
    let generated = std::fs::read_to_string(made.path().join("leveret.v1.rs")).unwrap();
    let path = root.join("proto/generated/leveret.v1.rs");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap();
    assert!(
        checked_in == generated,
        "{} is not what proto/ says: run `{UPDATE}=1 cargo test --test parts generated`",
        path.display()
    );
}
