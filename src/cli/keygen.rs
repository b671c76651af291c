//! `aegis keygen`: a private key for an agent, and the public part of one.

use std::path::PathBuf;

use aegis_crypto::{Jwk, SecretKey};
use clap::Args;
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::secret;

/// The words of `aegis keygen`.
#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// The key file to make (PKCS#8 PEM, 0600); nothing is overwritten
    file: PathBuf,
    /// Show the public part of a key file that exists instead of making one
    #[arg(long)]
    show: bool,
}

pub(crate) fn run(context: &mut Context<'_>, args: &KeygenArgs) -> Result<(), Failure> {
    let key = if args.show {
        secret::read_key(&args.file).map_err(Failure::failed)?
    } else {
        let key = SecretKey::generate().map_err(Failure::failed)?;
        secret::create(&args.file, &key.to_pem()).map_err(Failure::failed)?;
        key
    };
    let (kid, jwk) = (key.public().kid(), Jwk::from(key.public()));
    if context.wants_json() {
        return context
            .console
            .json(&json!({"file": args.file, "kid": kid, "jwk": jwk}));
    }
    let jwk = serde_json::to_string(&jwk).map_err(Failure::context("cannot write the key"))?;
    context.console.line(format_args!(
        "file  {}\nkid   {kid}\njwk   {jwk}",
        args.file.display()
    ))
}
