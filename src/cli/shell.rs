//! `leveret completions` and `leveret man`: what shells and `man` want to know of this program.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use super::failure::Failure;
use super::output;

/// What was typed after `completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArguments {
    /// The shell
    shell: Shell,
}

/// What was typed after `man`.
#[derive(Debug, Args)]
pub(super) struct ManArguments {
    /// Write the pages of all commands into this directory, which must be there
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints what a shell needs to complete what is typed.
pub(super) fn completions(arguments: &CompletionsArguments, mut program: Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, "leveret", &mut script);
    output::bytes(&script)
}

/// Prints the page of the program, or writes those of all its commands.
pub(super) fn man(arguments: &ManArguments, program: Command) -> Result<(), Failure> {
    match &arguments.dir {
        Some(dir) => clap_mangen::generate_to(program, dir)
            .map_err(|error| Failure::io(&format!("cannot write pages to {}", dir.display()), &error)),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(program).render(&mut page)?;
            output::bytes(&page)
        }
    }
}
