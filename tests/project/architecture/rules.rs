//! The table: levels, arrows, and what is excepted from them, each with its reason.

/// What the source is held to.
pub(crate) struct Rules {
    pub(crate) modules: &'static [Module],
    pub(crate) arrows: &'static [Exception],
    /// Modules up to this level are pure.
    pub(crate) pure_level_max: u8,
    /// Paths a pure module does not name, and why.
    pub(crate) impure: &'static [(&'static str, &'static str)],
    pub(crate) impurities: &'static [Exception],
    /// Lines of a file, without its tests.
    pub(crate) lines_max: usize,
    pub(crate) long_files: &'static [Exception],
}

/// A module at the root of the crate.
pub(crate) struct Module {
    pub(crate) name: &'static str,
    pub(crate) level: u8,
    /// What it imports besides `model`; only modules of lower levels.
    pub(crate) imports: &'static [&'static str],
}

/// What one file or folder may do although the table says no. One that nothing needs any more is a fault, too.
pub(crate) struct Exception {
    /// A file, or a folder with a slash at its end.
    pub(crate) place: &'static str,
    /// A module, or a path of `impure`; for a long file, "".
    pub(crate) allows: &'static str,
    pub(crate) reason: &'static str,
}

/// The one that everybody may import.
pub(crate) const COMMON: &str = "model";

impl Rules {
    pub(crate) fn of_leveret() -> Rules {
        Rules {
            modules: MODULES,
            arrows: ARROWS,
            pure_level_max: 3,
            impure: IMPURE,
            impurities: IMPURITIES,
            lines_max: 600,
            long_files: LONG_FILES,
        }
    }
}

const MODULES: &[Module] = &[
    Module { name: "model", level: 0, imports: &[] },
    Module { name: "pb", level: 0, imports: &[] },
    Module { name: "metrics", level: 0, imports: &[] },
    Module { name: "message", level: 1, imports: &["pb"] },
    Module { name: "schema", level: 1, imports: &[] },
    Module { name: "wire", level: 2, imports: &["message", "pb"] },
    Module { name: "routing", level: 2, imports: &["schema"] },
    Module { name: "queue", level: 2, imports: &[] },
    Module { name: "auth", level: 2, imports: &[] },
    Module { name: "storage", level: 2, imports: &[] },
    Module { name: "protocol", level: 3, imports: &["message", "wire"] },
    Module { name: "journey", level: 3, imports: &["pb", "queue", "routing", "storage"] },
    Module { name: "shard", level: 4, imports: &["message", "queue", "storage", "journey", "metrics"] },
    Module {
        name: "broker",
        level: 5,
        imports: &["message", "shard", "routing", "queue", "auth", "journey", "metrics"],
    },
    Module { name: "server", level: 6, imports: &["message", "broker", "protocol", "wire", "metrics"] },
    Module { name: "http", level: 6, imports: &["broker", "auth", "metrics"] },
    Module { name: "client", level: 6, imports: &["message", "wire"] },
    Module { name: "simulation", level: 6, imports: &["message", "broker"] },
    Module { name: "config", level: 7, imports: &["auth"] },
    Module { name: "cli", level: 8, imports: &["client"] },
    Module { name: "main", level: 9, imports: &["cli"] },
    Module { name: "lib", level: 9, imports: &[] },
];

const ARROWS: &[Exception] = &[
    Exception {
        place: "src/broker/",
        allows: "storage",
        reason: "it opens the data directory with the logs in it, and the catalog is a state machine over such a log",
    },
    Exception {
        place: "src/simulation/",
        allows: "storage",
        reason: "its disk is in memory, and it decides when a log is written",
    },
    Exception { place: "src/cli/simulate.rs", allows: "simulation", reason: "it runs the simulation" },
    Exception { place: "src/cli/serve.rs", allows: "broker", reason: "it wires the broker together" },
    Exception { place: "src/cli/serve.rs", allows: "protocol", reason: "it hands the limits to the server" },
    Exception { place: "src/cli/serve.rs", allows: "server", reason: "it starts the listener" },
    Exception { place: "src/cli/serve.rs", allows: "config", reason: "it reads what the broker is to do" },
    Exception {
        place: "src/cli/demo/own_broker.rs",
        allows: "broker",
        reason: "a demo brings a broker in memory, in the same process, so that there is nothing to start",
    },
    Exception {
        place: "src/cli/demo/own_broker.rs",
        allows: "protocol",
        reason: "it hands the limits to the server",
    },
    Exception { place: "src/cli/demo/own_broker.rs", allows: "server", reason: "it starts the listener" },
    Exception { place: "src/cli/log_files/", allows: "broker", reason: "it looks into the files of one" },
    Exception {
        place: "src/cli/log_files/",
        allows: "storage",
        reason: "it tells what was found in the files of a log, and hands in the disk that they are on",
    },
    Exception {
        place: "src/cli/log_files/",
        allows: "shard",
        reason: "it tells what the operations of a log are",
    },
    Exception { place: "src/cli/log.rs", allows: "config", reason: "it starts the log as it is configured" },
    Exception { place: "src/cli/config.rs", allows: "config", reason: "the command shows the configuration" },
    Exception {
        place: "src/cli/config_flags.rs",
        allows: "config",
        reason: "the flags of `serve` are made from the table of keys",
    },
    Exception {
        place: "src/cli/mod.rs",
        allows: "config",
        reason: "the flags of `serve` are put to the command line before it is parsed",
    },
    Exception {
        place: "src/cli/password.rs",
        allows: "auth",
        reason: "a password is kept in the type that no output shows",
    },
];

const IMPURE: &[(&str, &str)] = &[
    ("tokio", "it would tie a core to one runtime, and to its clock"),
    ("tokio_util", "it would tie a core to one runtime"),
    ("std::fs", "files are the business of a Disk"),
    ("std::net", "sockets are the business of the edges; addresses are in core::net"),
    ("std::thread", "who runs it decides about threads"),
    ("std::process", "a core knows no process"),
    ("std::env", "what it needs to know comes as an argument"),
    ("Instant::now", "time is an argument"),
    ("SystemTime", "time is an argument"),
    ("getrandom", "randomness is an argument, or a replay would differ"),
    ("rand", "randomness is an argument, or a replay would differ"),
    ("rustix", "system calls are the business of the edges"),
];

const IMPURITIES: &[Exception] = &[
    Exception {
        place: "src/wire/codec.rs",
        allows: "tokio_util",
        reason: "it implements the codec traits, so that sockets can be read as frames",
    },
    Exception { place: "src/storage/disk.rs", allows: "std::fs", reason: "it is the disk" },
    Exception { place: "src/storage/disk.rs", allows: "rustix", reason: "it is the disk" },
    Exception {
        place: "src/storage/disk.rs",
        allows: "getrandom",
        reason: "salts of logs come from the disk, so that a disk for tests gives the same ones again",
    },
    Exception {
        place: "src/storage/writer.rs",
        allows: "std::thread",
        reason: "the one thread that writes a log and waits for the disk",
    },
    Exception {
        place: "src/storage/writer.rs",
        allows: "Instant::now",
        reason: "how long that thread sleeps before it looks again whether a full disk has room",
    },
    Exception {
        place: "src/storage/lock.rs",
        allows: "std::process",
        reason: "the lock on a data directory names the process that holds it",
    },
];

const LONG_FILES: &[Exception] = &[];
