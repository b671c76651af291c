//! `aegis config`: configuration files.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;

/// The words of `aegis config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a node's configuration file together with the environment
    Check {
        /// The file
        file: PathBuf,
    },
}

pub(crate) fn run(context: &mut Context<'_>, command: &ConfigCommand) -> Result<(), Failure> {
    let ConfigCommand::Check { file } = command;
    context.local.check_config(file)?;
    if context.wants_json() {
        context.console.json(&json!({"file": file, "valid": true}))
    } else {
        context
            .console
            .line(format_args!("{} is valid", file.display()))
    }
}
