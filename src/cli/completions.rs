//! `aegis completions`: what a shell needs to complete commands.

use clap::{Args as ClapArgs, CommandFactory as _};
use clap_complete::Shell;

use crate::args::Args;
use crate::context::Context;
use crate::failure::Failure;

/// The words of `aegis completions`.
#[derive(Debug, ClapArgs)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(context: &mut Context<'_>, args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "aegis", &mut script);
    context.console.raw(&script)
}
