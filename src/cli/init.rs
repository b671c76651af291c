//! `aegis init`: the files of a new cluster, or of one more node.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use aegis_crypto::Seats;
use clap::Args;
use serde_json::json;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::folder::{ClusterFolder, NodePlan, Ports, SEAT_KEY, StoreFolder};

/// How many voters get a witness beside them unless it is said otherwise: with it, their
/// committee has the four seats that tolerate a liar.
const VOTERS_WITH_WITNESS: u64 = 3;
/// The most nodes that can found a cluster.
const NODES_MAX: u64 = 31;

/// The words of `aegis init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The folder to make
    #[arg(long, value_name = "DIR", default_value = "data")]
    dir: PathBuf,
    /// What people call the cluster
    #[arg(long, default_value = "aegis")]
    name: String,
    /// How many voters; an odd number
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u64).range(1..=31))]
    nodes: u64,
    /// Give every node a seat in the committee that certifies decisions, with a key of its own
    #[arg(long)]
    committee: bool,
    /// How many nodes beside the voters receive the log and hold a seat, without a vote in the
    /// replication; by default 1 beside 3 voters, else none
    #[arg(long, value_name = "N", requires = "committee",
          value_parser = clap::value_parser!(u64).range(0..=30))]
    witnesses: Option<u64>,
    /// A name or address at which a node is reached; one for all nodes, or one for each
    #[arg(long = "host", value_name = "HOST", default_value = "127.0.0.1")]
    hosts: Vec<String>,
    /// The port of the first API; peers are one and events three above, and each further
    /// node of the same host ten above the one before
    #[arg(long, value_name = "PORT", default_value_t = 8003)]
    port: u16,
    /// Make the files of one more node of the cluster in DIR instead
    #[arg(long, conflicts_with_all = ["nodes", "committee", "name", "rebuild"])]
    add_node: bool,
    /// The number of that node; by default the next that no folder in DIR has
    #[arg(long, value_name = "ID", requires = "add_node",
          value_parser = clap::value_parser!(u64).range(1..))]
    id: Option<u64>,
    /// Make the files of all nodes of the cluster in DIR anew, but for their data folders,
    /// which are going to be restored from a snapshot
    #[arg(long, conflicts_with = "name")]
    rebuild: bool,
}

pub(crate) fn run(context: &mut Context<'_>, args: &InitArgs) -> Result<(), Failure> {
    if args.add_node {
        add_node(context, args)
    } else if args.rebuild {
        rebuild(context, args)
    } else {
        create(context, args)
    }
}

fn create(context: &mut Context<'_>, args: &InitArgs) -> Result<(), Failure> {
    let size = Size {
        voters: args.nodes,
        witnesses: args.witnesses_of_new(),
    };
    let plan: Vec<_> = plan(size, &args.hosts, args.port)?
        .into_iter()
        .map(|node| NodePlan {
            seat: args.committee,
            ..node
        })
        .collect();
    let (folder, cluster_id) = ClusterFolder::create(context.local, &args.dir, &args.name, &plan)?;
    warn(context, &plan)?;
    if context.wants_json() {
        let nodes: Vec<_> = plan
            .iter()
            .map(|node| {
                json!({
                    "id": node.id,
                    "config": folder.node_config(node.id),
                    "endpoint": node.endpoint(),
                    "witness": node.witness,
                    "seat": node.seat,
                })
            })
            .collect();
        return context.console.json(&json!({
            "cluster_id": cluster_id,
            "dir": folder.dir(),
            "genesis": folder.genesis(),
            "registrar_key": folder.registrar_key(),
            "administrator_key": folder.administrator_key(),
            "admin_token": folder.admin_token(),
            "committee": seats(&plan).map(|seats| json!({
                "seats": seats.count(),
                "faults_max": seats.faults_max(),
                "quorum": seats.quorum(),
            })),
            "nodes": nodes,
        }));
    }
    let console = &mut context.console;
    console.line(format_args!(
        "Made cluster {cluster_id} ({}) in {}:",
        args.name,
        folder.dir().display()
    ))?;
    for (path, what) in [
        (folder.genesis(), "the root of trust; publish it"),
        (
            folder.registrar_key(),
            "attests agents; keep it off the nodes",
        ),
        (
            folder.administrator_key(),
            "signs an administrator's commands; keep it off the nodes",
        ),
        (folder.admin_token(), "the administrator's bearer token"),
    ] {
        console.line(format_args!("  {:<36} {what}", path.display().to_string()))?;
    }
    for node in &plan {
        let dir = folder.node(node.id).display().to_string();
        let part = if node.witness { ", a witness" } else { "" };
        console.line(format_args!(
            "  {dir:<36} node {}{part}, to be copied to {}",
            node.id, node.host
        ))?;
    }
    if let Some(seats) = seats(&plan) {
        console.line(format_args!(
            "\n{}\nEach seat's key is {SEAT_KEY} in its node's folder, and nowhere else.",
            tolerance(seats)
        ))?;
    }
    console.line("\nStart each node on its machine:")?;
    for node in &plan {
        console.line(format_args!(
            "  aegis serve --config {}",
            folder.node_config(node.id).display()
        ))?;
    }
    let endpoints: Vec<String> = plan.iter().map(NodePlan::endpoint).collect();
    console.line(format_args!(
        "\nThen look at them:\n  export AEGIS_ENDPOINT={}\n  export AEGIS_TOKEN_FILE={}\n  aegis status",
        endpoints.join(","),
        folder.admin_token().display(),
    ))
}

/// The committee that the nodes hold seats in.
fn seats(plan: &[NodePlan]) -> Option<Seats> {
    Seats::new(plan.iter().filter(|node| node.seat).count())
}

/// What a committee of so many seats bears.
fn tolerance(seats: Seats) -> String {
    let (count, faults, quorum) = (seats.count(), seats.faults_max(), seats.quorum());
    let bears = match faults {
        0 => "no liar".to_owned(),
        1 => "1 liar".to_owned(),
        more => format!("{more} liars"),
    };
    let more = if faults == 0 {
        "; four seats would tolerate one"
    } else {
        ""
    };
    let signatures = if quorum == 1 {
        "signature"
    } else {
        "signatures"
    };
    format!(
        "A committee of {count} tolerates {bears} (n = {count}, f = {faults}): a certificate takes {quorum} {signatures}{more}."
    )
}

impl InitArgs {
    /// How many witnesses a new cluster has.
    fn witnesses_of_new(&self) -> u64 {
        let standard = self.committee && self.nodes == VOTERS_WITH_WITNESS;
        self.witnesses.unwrap_or(u64::from(standard))
    }
}

/// Says what a person may not have meant.
fn warn(context: &mut Context<'_>, plan: &[NodePlan]) -> Result<(), Failure> {
    let voters = plan.iter().filter(|node| !node.witness).count();
    if voters.is_multiple_of(2) {
        context.console.note(format_args!(
            "note: {voters} voters bear no more failures than {} do",
            voters.saturating_sub(1)
        ))?;
    }
    if plan.iter().any(|node| !node.listens_on_loopback()) {
        context.console.note(
            "note: the API will be reachable from other machines, without TLS; put a proxy in front of it",
        )?;
    }
    Ok(())
}

fn add_node(context: &mut Context<'_>, args: &InitArgs) -> Result<(), Failure> {
    let folder = find(&args.dir)?;
    let id = match args.id {
        Some(id) => id,
        None => folder
            .node_ids()?
            .last()
            .map_or(1, |last| last.saturating_add(1)),
    };
    let [host] = args.hosts.as_slice() else {
        return Err(Failure::say(Exit::Usage, "one node has one --host"));
    };
    let node = free_place(id, host, args.port, &folder.api_addresses()?)?;
    let cluster_id = folder.add_nodes(
        context.local,
        std::slice::from_ref(&node),
        &[],
        StoreFolder::Make,
    )?;
    let config = folder.node_config(id);
    let (peer_address, api_address) = (node.peer_address(), node.api_address());
    if context.wants_json() {
        return context.console.json(&json!({
            "cluster_id": cluster_id,
            "id": id,
            "config": config,
            "peer_address": peer_address,
            "api_address": api_address,
        }));
    }
    let seatless = if folder.read_genesis()?.committee().is_some() {
        "\n\nIt has no seat in the committee until a certified decision gives it one:\n  \
         aegis committee add --help"
    } else {
        ""
    };
    context.console.line(format_args!(
        "Made the files of node {id} in {}.\n\n\
         Copy it to {host}, start the node there, and add it to the cluster:\n  \
         aegis serve --config {}\n  \
         aegis cluster add-learner {id} --name {} --peer-address {peer_address} --api-address {api_address}\n\n\
         When `aegis status` shows that it has caught up, it may vote:\n  aegis cluster promote {id}{seatless}",
        folder.node(id).display(),
        config.display(),
        node.name(),
    ))
}

fn rebuild(context: &mut Context<'_>, args: &InitArgs) -> Result<(), Failure> {
    let folder = find(&args.dir)?;
    let genesis = folder.read_genesis()?;
    if args.committee && genesis.committee().is_none() {
        return Err(Failure::say(
            Exit::Usage,
            "the cluster's genesis names no committee, so that --committee has no meaning",
        ));
    }
    let seats = genesis.seats();
    let others = u64::try_from(seats.len())
        .unwrap_or(u64::MAX)
        .saturating_sub(args.nodes);
    let size = Size {
        voters: args.nodes,
        witnesses: args.witnesses.unwrap_or(others),
    };
    let plan: Vec<_> = plan(size, &args.hosts, args.port)?
        .into_iter()
        .map(|node| NodePlan {
            seat: seats.iter().any(|seat| seat.name.as_str() == node.name()),
            ..node
        })
        .collect();
    let cluster_id = folder.add_nodes(context.local, &plan, &plan, StoreFolder::LeaveOut)?;
    let configs: Vec<String> = plan
        .iter()
        .map(|node| folder.node_config(node.id).display().to_string())
        .collect();
    if context.wants_json() {
        return context
            .console
            .json(&json!({"cluster_id": cluster_id, "configs": configs}));
    }
    context.console.line(format_args!(
        "Made the files of {} nodes of cluster {cluster_id} in {}, without data folders.\n\n\
         Restore those from a snapshot, all at once:\n  aegis snapshot restore FILE --to {}",
        plan.len(),
        folder.dir().display(),
        configs.join(" "),
    ))?;
    if plan.iter().any(|node| node.seat) {
        context.console.line(format_args!(
            "\nBring the {SEAT_KEY} of each node's old folder into its new one. Nobody can make it\n\
             anew: remove the section [committee] of a node whose key is lost, and give its seat\n\
             another key when the cluster runs (`aegis committee rotate-key`)."
        ))?;
    }
    Ok(())
}

fn find(dir: &Path) -> Result<ClusterFolder, Failure> {
    ClusterFolder::find(dir).ok_or_else(|| {
        Failure::say(
            Exit::NotFound,
            format_args!("there is no cluster in {}", dir.display()),
        )
        .advise("name its folder with --dir, or make a cluster with `aegis init`")
    })
}

/// How many nodes there are of each kind; the voters come first.
#[derive(Clone, Copy, Debug)]
struct Size {
    voters: u64,
    witnesses: u64,
}

/// The nodes of a cluster, with one host for all or one for each.
fn plan(size: Size, hosts: &[String], port: u16) -> Result<Vec<NodePlan>, Failure> {
    let nodes = size.voters.saturating_add(size.witnesses);
    if nodes > NODES_MAX {
        return Err(Failure::say(
            Exit::Usage,
            format_args!("{nodes} nodes are more than the {NODES_MAX} that can found a cluster"),
        ));
    }
    let given = u64::try_from(hosts.len()).unwrap_or(u64::MAX);
    if given != 1 && given != nodes {
        return Err(Failure::say(
            Exit::Usage,
            format_args!(
                "there are {nodes} nodes and {given} hosts; give one --host, or one for each node"
            ),
        ));
    }
    let mut plan: Vec<NodePlan> = Vec::new();
    for (id, host) in (1..=nodes).zip(hosts.iter().cycle()) {
        let before = plan.iter().filter(|node| node.host == *host).count();
        let number = u64::try_from(before).unwrap_or(u64::MAX).saturating_add(1);
        plan.push(NodePlan {
            id,
            host: host.clone(),
            ports: Ports::of(port, number).ok_or_else(|| no_ports(port))?,
            witness: id > size.voters,
            seat: false,
            log_file: None,
        });
    }
    Ok(plan)
}

/// A node with the first ports of its host that no other node has.
fn free_place(
    id: u64,
    host: &str,
    port: u16,
    taken: &BTreeSet<String>,
) -> Result<NodePlan, Failure> {
    let places = (1..).map_while(|number| {
        Some(NodePlan {
            id,
            host: host.to_owned(),
            ports: Ports::of(port, number)?,
            witness: false,
            seat: false,
            log_file: None,
        })
    });
    let mut places = places.skip_while(|place| taken.contains(&place.api_address()));
    places.next().ok_or_else(|| no_ports(port))
}

fn no_ports(base: u16) -> Failure {
    Failure::say(
        Exit::Usage,
        format_args!("there are not enough ports above {base}; choose a lower --port"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn voters(voters: u64) -> Size {
        Size {
            voters,
            witnesses: 0,
        }
    }

    #[test]
    fn witnesses_follow_the_voters() {
        let size = Size {
            voters: 3,
            witnesses: 1,
        };
        let plan = plan(size, &hosts(&["a", "a", "a", "b"]), 8003).unwrap();
        let witnesses: Vec<_> = plan.iter().map(|node| node.witness).collect();
        assert_eq!(witnesses, [false, false, false, true]);
        assert_eq!(plan[3].api_address(), "b:8003");
    }

    #[test]
    fn what_a_committee_tolerates_is_told_plainly() {
        let told = |count| tolerance(Seats::new(count).unwrap());
        assert_eq!(
            told(3),
            "A committee of 3 tolerates no liar (n = 3, f = 0): a certificate takes 2 signatures; \
             four seats would tolerate one."
        );
        assert_eq!(
            told(4),
            "A committee of 4 tolerates 1 liar (n = 4, f = 1): a certificate takes 3 signatures."
        );
        assert!(told(1).contains("takes 1 signature;"));
        assert!(told(7).contains("tolerates 2 liars (n = 7, f = 2): a certificate takes 5 "));
    }

    fn hosts(hosts: &[&str]) -> Vec<String> {
        hosts.iter().map(|host| (*host).to_owned()).collect()
    }

    #[test]
    fn nodes_of_one_host_share_its_ports_out() {
        let plan = plan(voters(3), &hosts(&["127.0.0.1"]), 8003).unwrap();
        let ports: Vec<_> = plan
            .iter()
            .map(|node| (node.ports.api, node.ports.peers, node.ports.events))
            .collect();
        assert_eq!(
            ports,
            [(8003, 8004, 8006), (8013, 8014, 8016), (8023, 8024, 8026)]
        );
    }

    #[test]
    fn nodes_of_different_hosts_have_the_same_ports() {
        let plan = plan(voters(3), &hosts(&["a", "b", "a"]), 8003).unwrap();
        let apis: Vec<_> = plan.iter().map(NodePlan::api_address).collect();
        assert_eq!(apis, ["a:8003", "b:8003", "a:8013"]);
    }

    #[test]
    fn one_more_node_takes_the_first_ports_that_are_free() {
        let taken = ["h:8003", "h:8023", "i:8013"].map(str::to_owned).into();
        for (host, expected) in [("h", "h:8013"), ("i", "i:8003"), ("j", "j:8003")] {
            assert_eq!(
                free_place(4, host, 8003, &taken).unwrap().api_address(),
                expected
            );
        }
        let taken = ["h:65530".to_owned()].into();
        assert_eq!(
            free_place(4, "h", 65_530, &taken).unwrap_err().exit(),
            Exit::Usage
        );
    }

    #[test]
    fn a_plan_that_cannot_be_is_a_usage_error() {
        for (hosts, port) in [(hosts(&["a", "b"]), 8003), (hosts(&["a"]), 65_520)] {
            let refused = plan(voters(3), &hosts, port).unwrap_err();
            assert_eq!(refused.exit(), Exit::Usage);
        }
        let size = Size {
            voters: 31,
            witnesses: 1,
        };
        let refused = plan(size, &hosts(&["a"]), 8003).unwrap_err();
        assert_eq!(refused.exit(), Exit::Usage);
    }
}
