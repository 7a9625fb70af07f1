//! The `leveret` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    leveret::cli::main()
}
