//! Documents that a person will paste from: the commands and flags in them are real ones,
//! and their links lead somewhere.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::aegis;
use crate::monitoring::{project, read};

const DOCUMENTS: &[&str] = &[
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs/operations.md",
    "docs/certificates.md",
];

/// What `--help` says, by the subcommand's words.
#[derive(Default)]
struct Helps(BTreeMap<Vec<String>, String>);

impl Helps {
    fn of(&mut self, words: &[&str]) -> &str {
        let key: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        self.0.entry(key).or_insert_with(|| {
            let arguments: Vec<_> = words.iter().copied().chain(["--help"]).collect();
            let output = aegis(&arguments);
            assert!(output.status.success(), "aegis {arguments:?} fails");
            String::from_utf8(output.stdout).unwrap()
        })
    }

    fn is_subcommand(&mut self, words: &[&str], next: &str) -> bool {
        let help = self.of(words);
        let listed = help.split("Commands:").nth(1).unwrap_or_default();
        let listed = listed.split("\n\n").next().unwrap_or_default();
        listed
            .lines()
            .any(|line| line.split_whitespace().next() == Some(next))
    }
}

/// The commands of a document: indented or fenced lines, and code in sentences, that begin
/// with `aegis `.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let code = line.trim_start().trim_start_matches("$ ");
        if (fenced || line.starts_with("    ")) && code.starts_with("aegis ") {
            found.push(code.to_owned());
        }
        if !fenced {
            let spans = line.split('`').skip(1).step_by(2);
            found.extend(
                spans
                    .filter(|span| span.starts_with("aegis "))
                    .map(str::to_owned),
            );
        }
    }
    found
}

#[test]
fn commands_in_documents_are_real() {
    let mut helps = Helps::default();
    let mut checked = 0_u32;
    for document in DOCUMENTS {
        for command in commands(&read(document)) {
            let mut path: Vec<&str> = Vec::new();
            let mut words = command.split_whitespace().skip(1).peekable();
            // A global option with its value may stand before the subcommand.
            let mut flags = Vec::new();
            while let Some(word) = words.next() {
                if word.starts_with("--") && path.is_empty() {
                    flags.push(word);
                    words.next_if(|value| value.contains("://"));
                } else if word.starts_with('-') {
                    flags.push(word);
                } else if helps.is_subcommand(&path, word) {
                    path.push(word);
                } else if path.is_empty() {
                    panic!("{document}: `{command}`: there is no command {word}");
                }
            }
            let help = helps.of(&path).to_owned();
            for flag in flags {
                let flag = flag.split('=').next().unwrap();
                let known = help
                    .split_whitespace()
                    .any(|word| word.trim_end_matches(',') == flag);
                assert!(known, "{document}: `{command}`: there is no {flag}");
            }
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} commands were found");
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn anchors(document: &str) -> BTreeSet<String> {
    read(document)
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(anchor)
        .collect()
}

/// What a document's links point to.
fn links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect()
}

#[test]
fn links_in_documents_lead_somewhere() {
    for document in DOCUMENTS {
        let text = read(document);
        for link in links(&text)
            .into_iter()
            .filter(|link| !link.contains("://"))
        {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() {
                (*document).to_owned()
            } else {
                let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
                format!("{folder}/{path}")
                    .trim_start_matches('/')
                    .to_owned()
            };
            assert!(project(&target).exists(), "{document}: {link} is not there");
            if !anchor.is_empty() {
                let known = anchors(&target.replace("docs/../", ""));
                assert!(
                    known.contains(anchor),
                    "{document}: {link} has no such heading"
                );
            }
        }
    }
}
