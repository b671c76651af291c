//! The layers cannot drift: what each crate's manifest names is compared with what its
//! layer may name.
//!
//! Two more walls stand beside these tests. The compiler refuses a `use` of a crate that
//! the manifest does not name, so a manifest that passes here binds the code under it;
//! and clippy's `disallowed-types` keeps clocks and hash maps out of the pure crates.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// What each crate may name of the workspace, the root package last. A crate that is not
/// here has no place in the design yet and fails the test.
const LAYERS: &[(&str, &[&str])] = &[
    ("aegis-crypto", &[]),
    ("aegis-ledger", &["aegis-crypto"]),
    ("aegis-pbft", &["aegis-crypto"]),
    ("aegis-sim", &["aegis-crypto", "aegis-ledger", "aegis-pbft"]),
    ("aegis-storage", &["aegis-crypto", "aegis-ledger"]),
    ("aegis-peers", &["aegis-crypto"]),
    (
        "aegis-committee",
        &[
            "aegis-crypto",
            "aegis-ledger",
            "aegis-pbft",
            "aegis-peers",
            "aegis-storage",
        ],
    ),
    (
        "aegis-raft",
        &[
            "aegis-crypto",
            "aegis-ledger",
            "aegis-peers",
            "aegis-storage",
        ],
    ),
    ("aegis-api", &["aegis-crypto", "aegis-ledger"]),
    ("aegis-cli", &["aegis-api", "aegis-crypto", "aegis-ledger"]),
    (
        "aegis",
        &[
            "aegis-api",
            "aegis-cli",
            "aegis-committee",
            "aegis-crypto",
            "aegis-ledger",
            "aegis-pbft",
            "aegis-peers",
            "aegis-raft",
            "aegis-storage",
        ],
    ),
];

/// Everything that the pure crates may name from outside. Nothing here reads a clock,
/// opens a file or a socket, logs, or runs a task on its own account; `getrandom` is
/// `crypto`'s alone, for making keys.
const PURE: &[(&str, &[&str])] = &[
    (
        "aegis-crypto",
        &[
            "base64",
            "ed25519",
            "ed25519-dalek",
            "getrandom",
            "hex",
            "serde",
            "serde_json",
            "sha2",
            "thiserror",
            "zeroize",
        ],
    ),
    (
        "aegis-ledger",
        &["jiff", "postcard", "serde", "serde_json", "thiserror"],
    ),
    ("aegis-pbft", &["postcard", "serde", "thiserror"]),
];

/// Crates with exactly one user, so that replacing one is the work of one layer.
const SOLE_USERS: &[(&str, &str)] = &[("rocksdb", "aegis-storage"), ("openraft", "aegis-raft")];

/// The dependencies that each workspace member compiles into its library, by crate.
type Manifests = BTreeMap<String, BTreeSet<String>>;

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo ran this test, so it is there");
    assert!(
        output.status.success(),
        "cargo {arguments:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

/// Reads every member's dependencies of one sort: `None` is normal, else `dev` or `build`.
fn manifests(kinds: &[Option<&str>]) -> Manifests {
    let metadata = cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--offline",
    ]);
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("a list");
            let named = dependencies
                .iter()
                .filter(|dependency| kinds.contains(&dependency["kind"].as_str()))
                .map(|dependency| text(&dependency["name"]))
                .collect();
            (text(&package["name"]), named)
        })
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn is_ours(name: &str) -> bool {
    name == "aegis" || name.starts_with("aegis-")
}

#[test]
fn crates_name_only_the_layers_below_them() {
    let layers: BTreeMap<_, _> = LAYERS
        .iter()
        .map(|&(name, below)| (name.to_owned(), set(below)))
        .collect();
    let members = manifests(&[None, Some("build")]);
    assert_eq!(
        members.keys().collect::<Vec<_>>(),
        layers.keys().collect::<Vec<_>>(),
        "the members of the workspace are those that the design names"
    );
    for (name, dependencies) in &members {
        let ours: BTreeSet<_> = dependencies
            .iter()
            .filter(|name| is_ours(name))
            .cloned()
            .collect();
        let above: Vec<_> = ours.difference(&layers[name]).collect();
        assert!(above.is_empty(), "{name} may not depend on {above:?}");
    }
}

#[test]
fn pure_crates_name_nothing_that_could_act() {
    let members = manifests(&[None, Some("build")]);
    for &(name, allowed) in PURE {
        let foreign: BTreeSet<_> = members[name]
            .iter()
            .filter(|name| !is_ours(name))
            .cloned()
            .collect();
        let extra: Vec<_> = foreign.difference(&set(allowed)).cloned().collect();
        assert!(
            extra.is_empty(),
            "{name} is pure and may not depend on {extra:?}"
        );
    }
}

#[test]
fn engines_have_one_user_each() {
    let members = manifests(&[None, Some("build"), Some("dev")]);
    for &(engine, user) in SOLE_USERS {
        let users: Vec<_> = members
            .iter()
            .filter(|(_, dependencies)| dependencies.contains(engine))
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(users, [user], "{engine} has one user");
    }
}

#[test]
fn one_crypto_provider_is_linked() {
    let tree = cargo(&[
        "tree",
        "--workspace",
        "--offline",
        "--edges",
        "normal,build,dev",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let crates: BTreeSet<_> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(crates.contains("aws-lc-rs"), "rustls runs on aws-lc-rs");
    assert!(
        !crates.contains("ring"),
        "ring is in the tree: `cargo tree -i ring` says by whom"
    );
}
