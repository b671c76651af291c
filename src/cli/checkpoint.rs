//! `aegis checkpoint`: the newest head of the transparency log that a quorum has signed.

use clap::Args;
use serde_json::json;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::verify::{Roots, verify_checkpoint};

/// The words of `aegis checkpoint`.
#[derive(Debug, Args)]
pub(crate) struct CheckpointArgs {
    /// Check the signatures of the committee that --genesis names
    #[arg(long, requires = "genesis")]
    verify: bool,
    #[command(flatten)]
    roots: Roots,
}

pub(crate) async fn run(context: &mut Context<'_>, args: &CheckpointArgs) -> Result<(), Failure> {
    let epochs = if args.verify {
        args.roots.epochs()?
    } else {
        None
    };
    let client = context.client()?;
    let note = client.get("/checkpoint").await?.body;
    let text = String::from_utf8_lossy(&note).into_owned();
    let Some(epochs) = epochs else {
        return if context.wants_json() {
            context.console.json(&json!({"note": text}))
        } else {
            context.console.raw(&note)
        };
    };
    let found = verify_checkpoint(&epochs, &note).map_err(|error| {
        Failure::new(
            Exit::Negative,
            anyhow::Error::new(error).context("the checkpoint"),
        )
    })?;
    if context.wants_json() {
        return context.console.json(&json!({
            "valid": true, "note": text, "size": found.size, "root": found.root,
            "incarnation": found.incarnation, "epoch": found.epoch, "ordinal": found.ordinal,
            "chain": found.chain,
            "signers": found.signers.iter().map(|(_, name)| name).collect::<Vec<_>>(),
        }));
    }
    context.console.raw(&note)?;
    context.console.note(format_args!(
        "the checkpoint holds: {} entries under root {}, up to closing {}, signed by {}",
        found.size,
        found.root,
        found.ordinal,
        found.signed_by()
    ))
}
