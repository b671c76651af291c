use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

const EXAMPLE: &str = include_str!("../../config/aegis.example.toml");
const LEAST: &str = "[node]\nid = 1\nname = 'a'\n[cluster]\nadmin_token_sha256 = \
    '0000000000000000000000000000000000000000000000000000000000000000'\n";

fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(text, variables).map_err(|faults| faults.iter().map(Fault::to_string).collect())
}

fn keys(prefix: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                keys(&format!("{prefix}.{name}"), value, found);
            }
        }
        Value::Array(items) => {
            for item in items {
                keys(prefix, item, found);
            }
        }
        _ => {
            found.insert(prefix.to_owned());
        }
    }
}

#[test]
fn the_example_has_every_key_and_only_those() {
    let config = parse(EXAMPLE, &[]).unwrap();
    let (mut known, mut written) = (BTreeSet::new(), BTreeSet::new());
    keys("", &serde_json::to_value(config).unwrap(), &mut known);
    let table: toml::Table = EXAMPLE.parse().unwrap();
    keys("", &serde_json::to_value(table).unwrap(), &mut written);
    assert_eq!(known, written);
}

#[test]
fn every_key_of_the_example_is_explained() {
    let mut explained = false;
    for line in EXAMPLE.lines() {
        let is_key = line.contains(" = ") && !line.starts_with('#');
        assert!(!is_key || explained, "nothing explains {line:?}");
        explained = line.starts_with('#');
    }
}

#[test]
fn the_example_shows_the_defaults() {
    let example = parse(EXAMPLE, &[]).unwrap();
    let least = parse(LEAST, &[]).unwrap();
    assert_eq!(example.cluster.genesis, least.cluster.genesis);
    assert!(example.is_founder() && !least.is_founder());
    assert_eq!(example.api, least.api);
    assert_eq!(example.peers, least.peers);
    assert_eq!(example.storage, least.storage);
    assert_eq!(example.raft, least.raft);
    assert_eq!(
        LogConfig {
            file: None,
            ..example.log
        },
        least.log
    );
}

#[test]
fn nothing_listens_beyond_loopback_by_default() {
    let config = parse(LEAST, &[]).unwrap();
    for listen in [
        config.api.listen,
        config.api.events_listen,
        config.peers.listen,
    ] {
        assert!(listen.ip().is_loopback());
    }
}

#[test]
fn the_environment_beats_the_file() {
    let config = parse(
        LEAST,
        &[
            ("AEGIS__NODE__ID", "7"),
            ("AEGIS__API__LISTEN", "0.0.0.0:80"),
            ("AEGIS__API__OPEN_READS", "false"),
            ("AEGIS__LOG__FORMAT", "json"),
            ("AEGIS__LOG__FILE", "aegis.log"),
        ],
    )
    .unwrap();
    assert_eq!(config.node.id, 7);
    assert_eq!(config.api.listen.to_string(), "0.0.0.0:80");
    assert!(!config.api.open_reads);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.log.file, Some("aegis.log".into()));
}

/// Sets one key of the example to another value.
fn example_with(key: &str, value: &str) -> Vec<String> {
    let mut table: toml::Table = EXAMPLE.parse().unwrap();
    let (section, name) = key.split_once('.').unwrap();
    let value: toml::Table = format!("value = {value}").parse().unwrap();
    table[section]
        .as_table_mut()
        .unwrap()
        .insert(name.into(), value["value"].clone());
    match parse(&table.to_string(), &[]) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(|fault| without_origin(fault)).collect(),
    }
}

fn without_origin(fault: &str) -> String {
    fault.split_once(": ").unwrap().1.to_owned()
}

#[test]
fn every_bound_is_checked_and_named() {
    for (key, value, reason) in [
        ("node.id", "0", "0 is outside 1 to 18446744073709551615"),
        ("api.connections_max", "0", "0 is outside 1 to 1000000"),
        (
            "api.header_timeout_ms",
            "99",
            "99 is outside 100 to 3600000",
        ),
        (
            "api.body_timeout_ms",
            "3600001",
            "3600001 is outside 100 to 3600000",
        ),
        ("api.request_timeout_ms", "0", "0 is outside 100 to 3600000"),
        ("api.subscribers_max", "0", "0 is outside 1 to 1000000"),
        (
            "api.header_bytes_max",
            "8191",
            "8191 is outside 8192 to 65535",
        ),
        (
            "api.header_bytes_max",
            "65536",
            "invalid value: integer `65536`, expected u16",
        ),
        ("api.write_timeout_ms", "99", "99 is outside 100 to 3600000"),
        ("api.drain_timeout_ms", "99", "99 is outside 100 to 3600000"),
        (
            "api.subscriber_timeout_ms",
            "99",
            "99 is outside 100 to 3600000",
        ),
        ("api.linger_ms", "60001", "60001 is outside 0 to 60000"),
        ("storage.cache_mib", "7", "7 is outside 8 to 1048576"),
        ("storage.memtable_mib", "7", "7 is outside 8 to 65536"),
        ("storage.wal_mib", "7", "7 is outside 8 to 65536"),
        ("storage.log_tail_mib", "0", "0 is outside 1 to 65536"),
        (
            "storage.ballast_mib",
            "65537",
            "65537 is outside 0 to 65536",
        ),
        (
            "storage.free_floor_mib",
            "1048577",
            "1048577 is outside 0 to 1048576",
        ),
        ("storage.snapshots_kept", "0", "0 is outside 1 to 1000"),
        (
            "storage.snapshot_mib_max",
            "0",
            "0 is outside 1 to 4294967295",
        ),
        (
            "raft.election_timeout_ms_min",
            "199",
            "199 is less than 200, which is twice `raft.heartbeat_ms`",
        ),
        (
            "raft.election_timeout_ms_max",
            "399",
            "399 is less than 400, which is `raft.election_timeout_ms_min` and a heartbeat",
        ),
        (
            "raft.election_timeout_ms_max",
            "60001",
            "60001 is outside 0 to 60000",
        ),
        (
            "raft.replication_timeout_ms",
            "99",
            "99 is less than 100, which is `raft.heartbeat_ms`",
        ),
        (
            "raft.snapshot_every",
            "0",
            "0 is outside 1 to 18446744073709551615",
        ),
        (
            "raft.snapshot_timeout_ms",
            "9999",
            "9999 is outside 10000 to 3600000",
        ),
        (
            "raft.clock_tolerance_ms",
            "99",
            "99 is outside 100 to 60000",
        ),
        (
            "raft.submit_deadline_ms",
            "99",
            "99 is outside 100 to 60000",
        ),
        (
            "raft.read_deadline_ms",
            "60001",
            "60001 is outside 100 to 60000",
        ),
        ("raft.proposals_max", "0", "0 is outside 1 to 1048576"),
        (
            "peers.listen",
            "'127.0.0.1:8003'",
            "127.0.0.1:8003 is also that of `api.listen`",
        ),
        (
            "api.events_listen",
            "'127.0.0.1:8004'",
            "127.0.0.1:8004 is also that of `peers.listen`",
        ),
        (
            "cluster.admin_token_sha256",
            "'00'",
            "a SHA-256 digest has 64 hexadecimal digits, not 2 bytes",
        ),
        (
            "log.level",
            "'loud'",
            "unknown variant `loud`, expected one of `error`, `warn`, `info`, `debug`, `trace`",
        ),
        ("raft.fast", "true", RAFT_KEYS),
    ] {
        assert_eq!(
            example_with(key, value),
            [format!("`{key}`: {reason}")],
            "{key} = {value}"
        );
    }
    assert_eq!(
        example_with("raft.heartbeat_ms", "9"),
        ["`raft.heartbeat_ms`: 9 is outside 10 to 15000"]
    );
    assert!(example_with("api.listen", "'127.0.0.1:0'").is_empty());
}

const RAFT_KEYS: &str = "there is no such key; there are heartbeat_ms, election_timeout_ms_min, \
    election_timeout_ms_max, replication_timeout_ms, snapshot_every, log_kept, \
    snapshot_timeout_ms, clock_tolerance_ms, submit_deadline_ms, read_deadline_ms, proposals_max, \
    transfer_lag_max, promote_lag_max";

#[test]
fn members_are_checked_against_each_other() {
    let member = |id: u64, name: &str, port: u16| {
        format!(
            "[[cluster.members]]\nid = {id}\nname = '{name}'\n\
             peer_address = 'h:{port}'\napi_address = 'h:{}'\n",
            port.saturating_sub(1)
        )
    };
    let with = |members: &[String]| parse(&format!("{LEAST}{}", members.concat()), &[]);
    assert!(with(&[member(1, "a", 8004), member(2, "b", 8014)]).is_ok());
    for (members, expected) in [
        (
            [member(1, "a", 8004), member(1, "a", 8014)],
            "`cluster.members[1].id`: 1 is another member's",
        ),
        (
            [member(1, "a", 8004), member(2, "b", 8003)],
            "`cluster.members[1].peer_address`: h:8003 stands here twice",
        ),
        (
            [member(1, "x", 8004), member(2, "b", 8014)],
            "`cluster.members[0].name`: it is \"x\", but `node.name` is \"a\"",
        ),
        (
            [member(1, "a", 8004), member(0, "b", 8014)],
            "`cluster.members[1].id`: 0 is outside 1 to 18446744073709551615",
        ),
        (
            [member(1, "a", 8004), member(2, "b c", 8014)],
            "`cluster.members[1].name`: \"b c\" is not 1 to 64 visible ASCII characters without spaces",
        ),
        (
            [member(1, "a", 8004), member(2, "b", 1)],
            "`cluster.members[1].api_address`: \"h:0\" is not a host and a port like 10.0.0.1:8004",
        ),
    ] {
        let faults = with(&members).unwrap_err();
        let faults: Vec<String> = faults.iter().map(|fault| without_origin(fault)).collect();
        assert_eq!(faults, [expected]);
    }
    let witness = |id, name, port| format!("{}witness = true\n", member(id, name, port));
    assert!(with(&[member(1, "a", 8004), witness(2, "b", 8014)]).is_ok());
    assert_eq!(
        with(&[witness(1, "a", 8004), witness(2, "b", 8014)]).unwrap_err(),
        [
            "line 6: `cluster.members`: all are witnesses; a cluster is founded by one voter at least"
        ]
    );
    let many: Vec<String> = (2..=33)
        .map(|id: u16| member(id.into(), "m", id.saturating_mul(10)))
        .collect();
    assert_eq!(
        with(&many).unwrap_err(),
        ["line 6: `cluster.members`: there are 32, at most 31"]
    );
}

#[test]
fn all_faults_of_a_file_are_told_together() {
    let text = format!("{LEAST}[raft]\nproposals_max = 0\n[storage]\nwal_mib = 1\n");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    std::fs::write(&path, text).unwrap();
    let error = Config::read(&path, []).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}\n  line 9: `storage.wal_mib`: 1 is outside 8 to 65536\
             \n  line 7: `raft.proposals_max`: 0 is outside 1 to 1048576",
            path.display()
        )
    );
    let missing = Config::read(&folder.path().join("none"), []).unwrap_err();
    assert!(
        missing.to_string().starts_with("cannot read /"),
        "{missing}"
    );
}

#[test]
fn paths_are_relative_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    std::fs::write(&path, format!("{LEAST}[storage]\ndir = '/elsewhere'\n")).unwrap();
    let config = Config::read(&path, []).unwrap();
    assert_eq!(config.peers.key, folder.path().join("node-key.pem"));
    assert_eq!(config.cluster.genesis, folder.path().join("genesis.json"));
    assert_eq!(config.storage.dir, Path::new("/elsewhere"));
    assert_eq!(config.log.file, None);
}
