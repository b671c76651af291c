//! What of a configuration is out of range or contradictory.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use super::{ApiConfig, CommitteeConfig, Config, RaftConfig, StorageConfig};
use crate::layers::{Fault, Layers};

/// The longest name of a node, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// The most founding members.
const MEMBERS_MAX: usize = 31;

impl Config {
    /// Every fault of a configuration that was read from these layers.
    pub(super) fn faults(&self, layers: &Layers) -> Vec<Fault> {
        let mut checks = Checks {
            layers,
            faults: Vec::new(),
        };
        self.check(&mut checks);
        checks.faults
    }

    fn check(&self, checks: &mut Checks<'_>) {
        checks.range("node.id", self.node.id, 1..=u64::MAX);
        checks.name("node.name", &self.node.name);
        self.check_members(checks);
        self.check_listeners(checks);
        self.api.check(checks);
        self.storage.check(checks);
        self.raft.check(checks);
        self.committee.check(checks);
    }

    fn check_members(&self, checks: &mut Checks<'_>) {
        let members = &self.cluster.members;
        if members.len() > MEMBERS_MAX {
            checks.fault(
                "cluster.members",
                format!("there are {}, at most {MEMBERS_MAX}", members.len()),
            );
        }
        if !members.is_empty() && members.iter().all(|member| member.witness) {
            let reason = "all are witnesses; a cluster is founded by one voter at least";
            checks.fault("cluster.members", reason.to_owned());
        }
        let (mut ids, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for (position, member) in members.iter().enumerate() {
            let key = |field: &str| format!("cluster.members[{position}].{field}");
            checks.range(&key("id"), member.id, 1..=u64::MAX);
            checks.name(&key("name"), &member.name);
            if !ids.insert(member.id) {
                checks.fault(&key("id"), format!("{} is another member's", member.id));
            }
            for (field, address) in [
                ("peer_address", &member.peer_address),
                ("api_address", &member.api_address),
            ] {
                checks.address(&key(field), address);
                if !addresses.insert(address) {
                    checks.fault(&key(field), format!("{address} stands here twice"));
                }
            }
            if member.id == self.node.id && member.name != self.node.name {
                checks.fault(
                    &key("name"),
                    format!(
                        "it is {:?}, but `node.name` is {:?}",
                        member.name, self.node.name
                    ),
                );
            }
        }
    }

    fn check_listeners(&self, checks: &mut Checks<'_>) {
        let listeners = [
            ("api.listen", self.api.listen),
            ("peers.listen", self.peers.listen),
            ("api.events_listen", self.api.events_listen),
        ];
        for (position, (key, listen)) in listeners.iter().enumerate() {
            let earlier = listeners.iter().take(position);
            // Port 0 asks the operating system for a free one.
            for (other, _) in earlier.filter(|(_, taken)| taken == listen && listen.port() != 0) {
                checks.fault(key, format!("{listen} is also that of `{other}`"));
            }
        }
    }
}

impl CommitteeConfig {
    fn check(&self, checks: &mut Checks<'_>) {
        for (key, value) in [
            ("committee.timeout_ms", self.timeout_ms),
            ("committee.resend_ms", self.resend_ms),
            ("committee.quiet_ms", self.quiet_ms),
        ] {
            checks.range(key, value, 10..=600_000);
        }
        checks.range(
            "committee.timeout_ms_max",
            self.timeout_ms_max,
            self.timeout_ms..=3_600_000,
        );
    }
}

impl ApiConfig {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.range("api.connections_max", self.connections_max, 1..=1_000_000);
        checks.range(
            "api.header_bytes_max",
            self.header_bytes_max,
            8_192..=u16::MAX,
        );
        for (key, value) in [
            ("api.header_timeout_ms", self.header_timeout_ms),
            ("api.body_timeout_ms", self.body_timeout_ms),
            ("api.request_timeout_ms", self.request_timeout_ms),
            ("api.write_timeout_ms", self.write_timeout_ms),
            ("api.drain_timeout_ms", self.drain_timeout_ms),
            ("api.subscriber_timeout_ms", self.subscriber_timeout_ms),
        ] {
            checks.range(key, value, 100..=3_600_000);
        }
        checks.range("api.linger_ms", self.linger_ms, 0..=60_000);
        checks.range("api.subscribers_max", self.subscribers_max, 1..=1_000_000);
    }
}

impl StorageConfig {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.range("storage.cache_mib", self.cache_mib, 8..=1_048_576);
        checks.range("storage.memtable_mib", self.memtable_mib, 8..=65_536);
        checks.range("storage.wal_mib", self.wal_mib, 8..=65_536);
        checks.range("storage.log_tail_mib", self.log_tail_mib, 1..=65_536);
        checks.range("storage.ballast_mib", self.ballast_mib, 0..=65_536);
        checks.range("storage.free_floor_mib", self.free_floor_mib, 0..=1_048_576);
        checks.range("storage.snapshots_kept", self.snapshots_kept, 1..=1_000);
        checks.range(
            "storage.snapshot_mib_max",
            self.snapshot_mib_max,
            1..=u32::MAX,
        );
    }
}

impl RaftConfig {
    fn check(&self, checks: &mut Checks<'_>) {
        const MINUTE_MS: u64 = 60_000;
        checks.range("raft.heartbeat_ms", self.heartbeat_ms, 10..=MINUTE_MS / 4);
        // A follower misses two heartbeats before it doubts its leader.
        let least = self.heartbeat_ms.saturating_mul(2);
        checks.at_least(
            "raft.election_timeout_ms_min",
            self.election_timeout_ms_min,
            least,
            "twice `raft.heartbeat_ms`",
        );
        let least = self
            .election_timeout_ms_min
            .saturating_add(self.heartbeat_ms);
        checks.at_least(
            "raft.election_timeout_ms_max",
            self.election_timeout_ms_max,
            least,
            "`raft.election_timeout_ms_min` and a heartbeat",
        );
        checks.range(
            "raft.election_timeout_ms_max",
            self.election_timeout_ms_max,
            0..=MINUTE_MS,
        );
        checks.at_least(
            "raft.replication_timeout_ms",
            self.replication_timeout_ms,
            self.heartbeat_ms,
            "`raft.heartbeat_ms`",
        );
        checks.range("raft.snapshot_every", self.snapshot_every, 1..=u64::MAX);
        checks.range(
            "raft.snapshot_timeout_ms",
            self.snapshot_timeout_ms,
            10_000..=60 * MINUTE_MS,
        );
        for (key, value) in [
            ("raft.clock_tolerance_ms", self.clock_tolerance_ms),
            ("raft.submit_deadline_ms", self.submit_deadline_ms),
            ("raft.read_deadline_ms", self.read_deadline_ms),
        ] {
            checks.range(key, value, 100..=MINUTE_MS);
        }
        checks.range("raft.proposals_max", self.proposals_max, 1..=1 << 20);
    }
}

/// Collects what is out of range or contradictory.
struct Checks<'c> {
    layers: &'c Layers,
    faults: Vec<Fault>,
}

impl Checks<'_> {
    fn fault(&mut self, key: &str, reason: String) {
        self.faults.push(Fault {
            key: key.to_owned(),
            origin: self.layers.origin(key).cloned(),
            reason,
        });
    }

    fn range<T: PartialOrd + fmt::Display>(
        &mut self,
        key: &str,
        value: T,
        range: RangeInclusive<T>,
    ) {
        if !range.contains(&value) {
            let (least, most) = range.into_inner();
            self.fault(key, format!("{value} is outside {least} to {most}"));
        }
    }

    fn at_least(&mut self, key: &str, value: u64, least: u64, what: &str) {
        if value < least {
            self.fault(
                key,
                format!("{value} is less than {least}, which is {what}"),
            );
        }
    }

    fn name(&mut self, key: &str, name: &str) {
        let plain = name.bytes().all(|byte| byte.is_ascii_graphic());
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !plain {
            self.fault(
                key,
                format!(
                    "{name:?} is not 1 to {NAME_BYTES_MAX} visible ASCII characters without spaces"
                ),
            );
        }
    }

    fn address(&mut self, key: &str, address: &str) {
        let port = address
            .rsplit_once(':')
            .filter(|(host, _)| !host.is_empty())
            .and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none_or(|port| port == 0) {
            self.fault(
                key,
                format!("{address:?} is not a host and a port like 10.0.0.1:8004"),
            );
        }
    }
}
