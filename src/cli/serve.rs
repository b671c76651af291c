//! `aegis serve`: a node.

use std::path::PathBuf;

use clap::Args;

use crate::context::Context;
use crate::failure::Failure;

/// The words of `aegis serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The node's configuration file
    #[arg(
        long,
        value_name = "FILE",
        env = "AEGIS_CONFIG",
        default_value = "node.toml"
    )]
    config: PathBuf,
}

pub(crate) fn run(context: &mut Context<'_>, args: &ServeArgs) -> Result<(), Failure> {
    context.local.serve(&args.config, Box::new(|| {}))
}
