//! The command line: what people and scripts type, and what they read.
//!
//! A command talks to a cluster over its HTTP API like any other client, and signs with
//! keys that never leave this machine. What only a node's side can do it asks of
//! [`Local`]. Results go to standard output, as tables for people or as the API's own JSON
//! for programs (`-o json`); everything else goes to standard error. How a command ended
//! is told by its exit code ([`Exit`]).

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod agent;
mod answers;
mod args;
mod audit;
mod bench;
mod checkpoint;
mod client;
mod cluster;
mod committee;
mod completions;
mod config_check;
mod console;
mod context;
mod demo;
mod dev;
mod download;
mod failure;
mod folder;
mod init;
mod keygen;
mod local;
mod next;
mod proposals;
mod propose;
mod registrar;
mod results;
pub mod secret;
mod serve;
mod snapshot;
mod statements;
mod status;
mod table;
mod verify;
mod vote;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use args::Args;
use console::Console;
use context::Context;
pub use failure::{Exit, Failure};
pub use local::{Credential, Local, Ready, Restored, SnapshotSummary};

/// Runs the command that the process was started with. A rustls crypto provider must be
/// installed before.
#[must_use]
pub fn main(local: &dyn Local) -> ExitCode {
    run(local, std::env::args_os(), Console::standard()).into()
}

fn run(local: &dyn Local, words: impl IntoIterator<Item = OsString>, mut console: Console) -> Exit {
    let args = match Args::try_parse_from(words) {
        Ok(args) => args,
        Err(error) => return explain(&error, &mut console),
    };
    let mut context = Context::new(local, console, args.global);
    match context.run(args.command) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            let text = failure.to_string();
            if !text.is_empty() && context.console.note(format_args!("error: {text}")).is_err() {
                // Nobody reads standard error; the exit code still tells.
                return failure.exit();
            }
            failure.exit()
        }
    }
}

/// Shows what clap has to say: help and the version are results, a mistake is not.
fn explain(error: &clap::Error, console: &mut Console) -> Exit {
    let text = if console.out_is_terminal() {
        error.render().ansi().to_string()
    } else {
        error.render().to_string()
    };
    let text = text.trim_end();
    let (shown, exit) = if error.use_stderr() {
        (console.note(text), Exit::Usage)
    } else {
        (console.line(text), Exit::Done)
    };
    match shown {
        Ok(()) => exit,
        Err(failure) => failure.exit(),
    }
}

#[cfg(test)]
mod tests;
