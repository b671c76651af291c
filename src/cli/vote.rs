//! `aegis vote`: a ballot, signed here and cast there.

use std::path::PathBuf;

use aegis_crypto::NumberText;
use aegis_ledger::{AgentId, Choice, Ppb};
use clap::Args;

use crate::answers::VoteReceipt;
use crate::client::segment;
use crate::console::plain;
use crate::context::Context;
use crate::failure::Failure;
use crate::secret;
use crate::statements::{Answer, BallotForm, Signer};

/// The words of `aegis vote`.
#[derive(Debug, Args)]
pub(crate) struct VoteArgs {
    /// The proposal, like prop_17
    proposal: String,
    /// for, against or abstain
    #[arg(value_parser = parse_choice)]
    choice: Choice,
    /// The voter
    #[arg(long, value_name = "ID", env = "AEGIS_AGENT")]
    agent: AgentId,
    /// The voter's private key (PKCS#8 PEM, 0600)
    #[arg(long, value_name = "FILE", env = "AEGIS_KEY_FILE")]
    key: PathBuf,
    /// How sure the voter is, from 0 to 1
    #[arg(long, value_name = "DECIMAL", default_value = "1", value_parser = parse_confidence)]
    confidence: NumberText,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(crate) async fn run(context: &mut Context<'_>, args: &VoteArgs) -> Result<(), Failure> {
    let key = secret::read_key(&args.key).map_err(Failure::failed)?;
    let client = context.client()?;
    let form = client
        .get(&format!("/proposals/{}/ballot", segment(&args.proposal)))
        .await?;
    let form: BallotForm = form.read()?;
    let answer = Answer {
        choice: args.choice,
        confidence: args.confidence.clone(),
        justification: args.reason.as_deref(),
    };
    let signer = Signer {
        id: &args.agent,
        key: &key,
    };
    let receipt = client
        .post_same("/votes", &signer.vote(&form, &answer))
        .await?;
    if context.wants_json() {
        return context.show_json(&receipt);
    }
    let receipt: VoteReceipt = receipt.read()?;
    context.console.line(format_args!(
        "{} {}: {} votes {} on {}",
        plain(&receipt.vote_id),
        plain(&receipt.status),
        args.agent,
        args.choice.as_str(),
        plain(&form.proposal),
    ))
}

fn parse_choice(text: &str) -> Result<Choice, String> {
    Choice::parse(text).ok_or_else(|| "use for, against or abstain".to_owned())
}

fn parse_confidence(text: &str) -> Result<NumberText, String> {
    Ppb::unit(text).map_err(|error| error.to_string())?;
    text.parse()
        .map_err(|_| "use a decimal like 0.9".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_and_confidences_are_checked_before_anything_is_signed() {
        assert_eq!(parse_choice("approve"), Ok(Choice::For));
        assert!(parse_choice("yes").is_err());
        for text in ["0", "1", "0.9", "0.123456789", "1.0"] {
            assert_eq!(parse_confidence(text).unwrap().as_str(), text);
        }
        for text in ["", "1.1", "-1", "1e0", ".5", "0.1234567891", "0.", "٠"] {
            assert!(parse_confidence(text).is_err(), "{text}");
        }
    }
}
