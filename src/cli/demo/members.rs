//! The members of the House as agents, and their keys.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use aegis_crypto::SecretKey;
use aegis_crypto::claims::AgentType;
use aegis_ledger::AgentId;
use zeroize::Zeroizing;

use super::roll_calls::{Member, RollCalls};
use crate::failure::{Exit, Failure};
use crate::secret;
use crate::statements::{NewAgent, Signer};

/// A member of the House as an agent.
#[derive(Debug)]
pub(crate) struct Voter {
    pub(crate) id: AgentId,
    pub(crate) key: SecretKey,
}

impl Voter {
    pub(crate) fn signer(&self) -> Signer<'_> {
        Signer {
            id: &self.id,
            key: &self.key,
        }
    }
}

fn member_id(number: usize) -> AgentId {
    format!("member-{number:03}")
        .parse()
        .expect("it is plain ASCII and short")
}

/// The members' keys: those of an earlier run, or fresh ones that the next run finds.
pub(crate) fn voters(file: &Path, members: usize) -> Result<Vec<Voter>, Failure> {
    if !file.exists() {
        write_keys(file, members)?;
    }
    let text = secret::read(file).map_err(Failure::failed)?;
    let voters = parse_keys(&text).ok_or_else(|| unusable(file))?;
    if voters.len() == members {
        Ok(voters)
    } else {
        Err(unusable(file))
    }
}

fn unusable(file: &Path) -> Failure {
    Failure::say(
        Exit::Failed,
        format_args!(
            "{} has other keys than this demonstration's",
            file.display()
        ),
    )
    .advise("start over with `make clean-data`")
}

/// Writes a line `<agent id> <seed in hexadecimal>` for each member, complete or not at all.
fn write_keys(file: &Path, members: usize) -> Result<(), Failure> {
    let mut text = Zeroizing::new(String::with_capacity(members.saturating_mul(80)));
    for number in 1..=members {
        let mut seed = Zeroizing::new([0_u8; 32]);
        getrandom::fill(seed.as_mut_slice())
            .map_err(Failure::context("the operating system gave no randomness"))?;
        let digits = Zeroizing::new(hex::encode(seed.as_slice()));
        writeln!(text, "{} {}", member_id(number), digits.as_str())
            .expect("writing to a string cannot fail");
    }
    let partial = file.with_extension("partial");
    let unwritten = |error| Failure::context(format!("cannot write {}", file.display()))(error);
    if partial.exists() {
        // A run was stopped while it wrote; nobody knows these keys.
        fs::remove_file(&partial).map_err(unwritten)?;
    }
    secret::create(&partial, &text).map_err(Failure::failed)?;
    fs::rename(&partial, file).map_err(unwritten)
}

fn parse_keys(text: &str) -> Option<Vec<Voter>> {
    text.lines()
        .map(|line| {
            let (id, digits) = line.split_once(' ')?;
            let mut seed = Zeroizing::new([0_u8; 32]);
            hex::decode_to_slice(digits, seed.as_mut_slice()).ok()?;
            Some(Voter {
                id: id.parse().ok()?,
                key: SecretKey::from_seed(&seed),
            })
        })
        .collect()
}

/// The members as agents, ready to be registered.
pub(crate) fn agents<'v>(voters: &'v [Voter], calls: &RollCalls) -> Vec<(NewAgent, &'v SecretKey)> {
    let rows = voters.iter().zip(&calls.members);
    rows.map(|(voter, member)| {
        let agent = NewAgent {
            id: voter.id.clone(),
            name: member_name(&voter.id, member),
            agent_type: AgentType::Human,
            weight: 1,
        };
        (agent, &voter.key)
    })
    .collect()
}

fn member_name(id: &AgentId, member: &Member) -> String {
    format!("{id} ({})", member.party)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kept_for_the_next_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("members.keys");
        // Left by a run that was stopped while it wrote.
        secret::create(&file.with_extension("partial"), "member-001 ").unwrap();
        let first = voters(&file, 435).unwrap();
        let second = voters(&file, 435).unwrap();
        assert_eq!(first.len(), 435);
        assert_eq!(first[434].id.as_str(), "member-435");
        assert!(
            first
                .iter()
                .zip(&second)
                .all(|(a, b)| a.key.public() == b.key.public())
        );
        let mut kids: Vec<_> = first.iter().map(|voter| voter.key.public().kid()).collect();
        kids.sort_unstable();
        kids.dedup();
        assert_eq!(kids.len(), 435);
        assert!(
            voters(&file, 434)
                .unwrap_err()
                .to_string()
                .contains("clean-data")
        );
    }

    #[test]
    fn a_file_of_another_form_is_refused() {
        let seed = "00".repeat(32);
        assert_eq!(
            parse_keys(&format!("a {seed}\nb {seed}\n")).unwrap().len(),
            2
        );
        for text in ["a", "a 00", &format!("- {seed}"), &format!("a {seed}0")] {
            assert!(parse_keys(text).is_none(), "{text}");
        }
    }
}
