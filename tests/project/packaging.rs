//! What is packed with the broker fits it: the service, the configuration, the scripts of the Debian package.

use std::path::Path;
use std::process::Command;

use crate::docs::{page_text, root};

const BINARY: &str = env!("CARGO_BIN_EXE_leveret");
/// Where a package keeps what the broker stores.
const DATA: &str = "/var/lib/leveret/data";

#[test]
fn the_packed_configuration_is_the_example_with_another_place_for_the_data() {
    let default = "# data = \"./leveret-data\"";
    let example = leveret::config::example();
    assert!(example.contains(default), "{example}");
    let packed = example.replace(default, &format!("data = \"{DATA}\""));
    assert_eq!(page_text("packaging/leveret.toml"), packed);
}

#[test]
fn the_service_starts_what_is_packed() {
    let unit = page_text("packaging/leveret.service");
    let manifest = page_text("Cargo.toml");
    for (said, packed) in [
        ("ExecStart=/usr/bin/leveret serve --config /etc/leveret/leveret.toml", "usr/bin/"),
        ("Type=notify", "systemd-units = { unit-name = \"leveret\""),
        ("User=leveret", "maintainer-scripts = \"packaging/debian\""),
        ("StateDirectory=leveret", "conf-files = [\"/etc/leveret/leveret.toml\"]"),
    ] {
        assert!(unit.lines().any(|line| line == said), "the unit does not say {said}");
        assert!(manifest.contains(packed), "Cargo.toml does not say {packed}");
    }
    assert!(Path::new(DATA).starts_with("/var/lib/leveret"), "StateDirectory is where the data is");
    // The broker finds its share of the memory in /proc/meminfo, and raises its limit of open files.
    for taken in ["ProcSubset=pid", "@resources"] {
        assert!(!unit.contains(taken), "the broker needs what {taken} takes away");
    }
}

/// With systemd's own check, where there is one.
#[test]
fn the_service_is_one_that_systemd_takes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leveret.service");
    // The check looks for the program.
    let unit = page_text("packaging/leveret.service").replace("/usr/bin/leveret", BINARY);
    std::fs::write(&path, unit).unwrap();
    let mut verify = Command::new("systemd-analyze");
    let Ok(output) = verify.args(["verify", "--man=no"]).arg(&path).output() else {
        eprintln!("no systemd-analyze here: the unit was not checked with it");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_scripts_are_shell() {
    for script in ["packaging/debian/postinst", "packaging/debian/postrm"] {
        let output = Command::new("sh").arg("-n").arg(root().join(script)).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        // Here the package's tools put what starts and stops the service.
        assert!(page_text(script).contains("\n#DEBHELPER#\n"), "{script}");
    }
}
