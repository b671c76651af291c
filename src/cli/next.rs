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
    step("Look at it", &["aegis status".to_owned()]);
    step(
        "Propose, and let three agents decide",
        &[propose(&ids, "Lunch at noon")]
            .into_iter()
            .chain(scene.guests.iter().map(|guest| vote(guest, "for")))
            .chain(["aegis results $P".to_owned()])
            .collect::<Vec<_>>(),
    );
    if let Some((id, pid)) = scene.leader {
        step(
            &format!("Kill node {id}, which leads now, and vote again"),
            &[format!("kill -9 {pid}"), propose(&ids, "Still here")]
                .into_iter()
                .chain(scene.guests.iter().map(|guest| vote(guest, "for")))
                .chain(["aegis results $P".to_owned()])
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
fn quoted(word: &str) -> String {
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
        };
        let text = commands(&scene);
        for line in [
            "  export AEGIS_ENDPOINT=http://127.0.0.1:8003,http://127.0.0.1:8013\n",
            "  export AEGIS_TOKEN_FILE='my data/admin.token'\n",
            "  aegis() { ./target/aegis \"$@\"; }\n",
            "  P=$(aegis propose --quiet --open --title 'Lunch at noon' --electorate demo-1,demo-2)\n",
            "  aegis vote --agent demo-2 --key 'my data/demo-2.pem' $P for\n",
            "  kill -9 4711\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        let calm = commands(&Scene {
            leader: None,
            program: "aegis",
            ..scene
        });
        assert!(
            !calm.contains("kill") && !calm.contains("aegis()"),
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
