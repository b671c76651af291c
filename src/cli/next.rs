//! The commands worth trying next, ready to be pasted.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::answers::Status;
use crate::client::Client;
use crate::failure::Failure;
use crate::registrar::Guest;

/// What the commands are about.
pub(crate) struct Scene<'s> {
    pub(crate) program: &'s str,
    pub(crate) admin_token: &'s Path,
    pub(crate) endpoints: &'s [&'s str],
    pub(crate) guests: &'s [Guest],
    /// The node that leads now, with its process.
    pub(crate) leader: Option<(u64, i32)>,
    /// What there is to verify.
    pub(crate) proven: Option<Proven<'s>>,
}

/// A decision that is certified.
#[derive(Clone, Copy)]
pub(crate) struct Proven<'p> {
    pub(crate) genesis: &'p Path,
    pub(crate) proposal: &'p str,
}

impl Proven<'_> {
    /// Waits for the certificate of what was just decided, and verifies it offline.
    fn verify(&self, file: &str) -> [String; 2] {
        [
            format!("aegis proposals certificate $P --wait --out {file}"),
            format!("aegis verify {file} --genesis {}", self.genesis()),
        ]
    }

    fn genesis(&self) -> String {
        quoted(&self.genesis.display().to_string())
    }
}

/// How this program was called, so that the commands call it the same way.
pub(crate) fn program() -> String {
    std::env::args()
        .next()
        .unwrap_or_else(|| "aegis".to_owned())
}

/// Who leads.
pub(crate) async fn leader(endpoints: &[&str]) -> Result<Option<u64>, Failure> {
    let endpoints: Vec<String> = endpoints
        .iter()
        .map(|&endpoint| endpoint.to_owned())
        .collect();
    let client = Client::new(&endpoints, None, Duration::from_secs(10))?;
    let status: Status = client.get("/status").await?.read()?;
    Ok(status.leader)
}

/// The commands, each with what it is for.
pub(crate) fn commands(scene: &Scene<'_>) -> String {
    let mut text = format!(
        "\nThe cluster is up. In another terminal:\n\n  \
         export AEGIS_ENDPOINT={}\n  export AEGIS_TOKEN_FILE={}\n",
        scene.endpoints.join(","),
        quoted(&scene.admin_token.display().to_string()),
    );
    if scene.program != "aegis" {
        writeln!(text, "  aegis() {{ {} \"$@\"; }}", quoted(scene.program))
            .expect("writing to a string cannot fail");
    }
    let ids: Vec<&str> = scene.guests.iter().map(|guest| guest.id.as_str()).collect();
    let mut step = |what: &str, commands: &[String]| {
        write!(text, "\n  # {what}\n").expect("writing to a string cannot fail");
        for command in commands {
            writeln!(text, "  {command}").expect("writing to a string cannot fail");
        }
    };
    let look = ["aegis status".to_owned()].into_iter();
    let both = scene.proven.map(|_| "aegis committee status".to_owned());
    step("Look at it", &look.chain(both).collect::<Vec<_>>());
    let decide = |title: &str, file: &str| {
        let certified = scene.proven.map(|proven| proven.verify(file));
        [propose(&ids, title)]
            .into_iter()
            .chain(scene.guests.iter().map(|guest| vote(guest, "for")))
            .chain(certified.into_iter().flatten())
            .chain(["aegis results $P".to_owned()])
            .collect::<Vec<_>>()
    };
    let verified = match scene.proven {
        Some(_) => "; verify the certificate offline, with the genesis document alone",
        None => "",
    };
    step(
        &format!("Propose, and let three agents decide{verified}"),
        &decide("Lunch at noon", "lunch.certificate"),
    );
    if let Some(proven) = &scene.proven {
        let (id, genesis) = (proven.proposal, proven.genesis());
        step(
            "Count a decision again offline, from every voter's signed ballot",
            &[
                format!("aegis proposals bundle {id} --out {id}.bundle"),
                format!("aegis verify --bundle {id}.bundle --genesis {genesis}"),
            ],
        );
    }
    if let Some((id, pid)) = scene.leader {
        let validator = scene.proven.map_or("", |_| " and is a validator");
        let kill = [format!("kill -9 {pid}")].into_iter();
        let look = scene.proven.map(|_| "aegis committee status".to_owned());
        step(
            &format!("Kill node {id}, which leads now{validator}, and decide again"),
            &kill
                .chain(decide("Still here", "killed.certificate"))
                .chain(look)
                .collect::<Vec<_>>(),
        );
    }
    step(
        "Back it up, check the backup, check the audit chain",
        &[
            "aegis snapshot save aegis.snapshot".to_owned(),
            "aegis snapshot status aegis.snapshot".to_owned(),
            "aegis audit verify".to_owned(),
        ],
    );
    text.truncate(text.trim_end().len());
    text
}

fn propose(electorate: &[&str], title: &str) -> String {
    format!(
        "P=$(aegis propose --quiet --open --title {} --electorate {})",
        quoted(title),
        electorate.join(",")
    )
}

fn vote(guest: &Guest, choice: &str) -> String {
    format!(
        "aegis vote --agent {} --key {} $P {choice}",
        guest.id,
        quoted(&guest.key_file.display().to_string())
    )
}

/// A word as a shell takes it literally.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "-_./:,=@%+".contains(char);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_ready_to_be_pasted() {
        let guest = |number: u8| Guest {
            id: format!("demo-{number}").parse().unwrap(),
            key_file: format!("my data/demo-{number}.pem").into(),
        };
        let scene = Scene {
            program: "./target/aegis",
            admin_token: Path::new("my data/admin.token"),
            endpoints: &["http://127.0.0.1:8003", "http://127.0.0.1:8013"],
            guests: &[guest(1), guest(2)],
            leader: Some((2, 4711)),
            proven: Some(Proven {
                genesis: Path::new("my data/genesis.json"),
                proposal: "prop_1",
            }),
        };
        let text = commands(&scene);
        for line in [
            "  export AEGIS_ENDPOINT=http://127.0.0.1:8003,http://127.0.0.1:8013\n",
            "  export AEGIS_TOKEN_FILE='my data/admin.token'\n",
            "  aegis() { ./target/aegis \"$@\"; }\n",
            "  P=$(aegis propose --quiet --open --title 'Lunch at noon' --electorate demo-1,demo-2)\n",
            "  aegis vote --agent demo-2 --key 'my data/demo-2.pem' $P for\n",
            "  kill -9 4711\n",
            "  aegis proposals certificate $P --wait --out lunch.certificate\n",
            "  aegis verify lunch.certificate --genesis 'my data/genesis.json'\n",
            "  aegis verify --bundle prop_1.bundle --genesis 'my data/genesis.json'\n",
            "  aegis proposals certificate $P --wait --out killed.certificate\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        let calm = commands(&Scene {
            leader: None,
            proven: None,
            program: "aegis",
            ..scene
        });
        assert!(
            !calm.contains("kill") && !calm.contains("aegis()") && !calm.contains("genesis"),
            "{calm}"
        );
    }

    #[test]
    fn words_survive_a_shell() {
        for (word, expected) in [
            ("data/demo/demo-1.pem", "data/demo/demo-1.pem"),
            ("Lunch at noon", "'Lunch at noon'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
            ("$(rm)", "'$(rm)'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}
