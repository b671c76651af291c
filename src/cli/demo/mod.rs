//! `aegis demo`: four nodes on this machine replay real votes and certify what they decide.
//!
//! It makes the cluster's folder if there is none, starts three voters and a witness as
//! processes of their own, each with a seat in the committee, registers the 435 members of
//! the U.S. House of Representatives of 1984 as agents, lets each of 16 of them propose a
//! bill, casts everyone's signed ballots over HTTP, waits for every decision's certificate,
//! verifies it with the genesis document alone, and checks every figure against the file
//! that they came from. Then the cluster stays up until Ctrl-C. Run again it goes on with
//! the same data: what an earlier run did is found on the ledger and not done again.

mod certified;
mod members;
mod nodes;
mod ports;
mod replay;
mod report;
mod roll_calls;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aegis_crypto::Digest;
use aegis_ledger::{Genesis, Ordinal};
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::answers::AuditVerdict;
use crate::client::Client;
use crate::console::Console;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::folder::{ClusterFolder, NodeConfig, NodePlan, Ports};
use crate::next::{self, Proven, Scene};
use crate::registrar::{Guest, Registrar};
use crate::secret;

use certified::{Certified, Closed};
use members::Voter;
use nodes::Nodes;
use replay::{Bill, Decided, Replay};
use roll_calls::{BILLS, HOUSE_VOTES_84, RollCalls};

/// How many nodes are started: voters, and a witness beside them, so that the committee of
/// all tolerates a liar.
const VOTERS: u64 = 3;
const NODES: u64 = VOTERS + 1;
/// How long the nodes may take to serve.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the nodes' audit chains may take to be the same once nothing happens.
const CHAINS_TIMEOUT: Duration = Duration::from_secs(10);
/// How often they are compared.
const CHAINS_POLL: Duration = Duration::from_millis(200);
/// How long a node that cannot be reached is left alone.
const READY_POLL: Duration = Duration::from_millis(100);
/// How long a node that can be reached is waited for at a time.
const READY_ASK: Duration = Duration::from_secs(5);

/// The words of `aegis demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The cluster's folder; made if it is not there, gone on with if it is
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// The address of all nodes, when the folder is made
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port of the first node's API, when the folder is made
    #[arg(long, value_name = "PORT", default_value_t = 8003)]
    port: u16,
    /// The roll calls to replay; those of house-votes-84.csv by default
    #[arg(long, value_name = "FILE")]
    votes: Option<PathBuf>,
    /// Stop when everything was checked instead of leaving the cluster up
    #[arg(long)]
    once: bool,
}

/// Where a node of the folder is to be reached.
struct Place {
    id: u64,
    endpoint: String,
    listeners: [SocketAddr; 3],
}

pub(crate) async fn run(context: &mut Context<'_>, args: &DemoArgs) -> Result<(), Failure> {
    let calls = read_calls(args.votes.as_deref())?;
    let folder = open_folder(context, args)?;
    let places = folder
        .node_ids()?
        .into_iter()
        .map(|id| place(&folder, id))
        .collect::<Result<Vec<_>, _>>()?;
    let listeners: Vec<SocketAddr> = places.iter().flat_map(|place| place.listeners).collect();
    ports::check(&listeners).map_err(|error| {
        Failure::failed(error).advise("stop what listens there, then run this again")
    })?;
    let mut stop = StopSignals::new()?;
    let ids: Vec<u64> = places.iter().map(|place| place.id).collect();
    let mut nodes = Nodes::start(&folder, &ids)?;
    let demo = Demo {
        folder: &folder,
        places: &places,
        calls: &calls,
    };
    let done = tokio::select! {
        biased;
        () = stop.asked() => Err(Failure::say(Exit::Failed, "stopped before everything was done")),
        ended = nodes.ended() => Err(ended?.failure()),
        done = demo.play(&mut context.console) => done,
    };
    let left = match done {
        Ok(shown) if !args.once => {
            demo.leave_up(&mut context.console, &mut nodes, &mut stop, &shown)
                .await
        }
        Ok(_) => Ok(()),
        Err(failure) => Err(failure),
    };
    let killed = nodes.stop().await?;
    for id in killed {
        context.console.note(format_args!(
            "node {id} did not stop in time and was killed"
        ))?;
    }
    left?;
    context.console.note("stopped")
}

fn read_calls(file: Option<&Path>) -> Result<RollCalls, Failure> {
    let Some(path) = file else {
        return RollCalls::parse(HOUSE_VOTES_84).map_err(Failure::failed);
    };
    let text = std::fs::read_to_string(path)
        .map_err(Failure::context(format!("cannot read {}", path.display())))?;
    let calls = RollCalls::parse(&text).map_err(Failure::context(path.display()))?;
    if calls.members.len() < BILLS.len() {
        return Err(Failure::say(
            Exit::Failed,
            format_args!(
                "{} has fewer members than bills, and each bill has an author of its own",
                path.display()
            ),
        ));
    }
    Ok(calls)
}

fn open_folder(context: &mut Context<'_>, args: &DemoArgs) -> Result<ClusterFolder, Failure> {
    if let Some(folder) = ClusterFolder::find(&args.data) {
        context.console.note(format_args!(
            "going on with the cluster in {}",
            args.data.display()
        ))?;
        if folder.read_genesis()?.committee().is_none() {
            return Err(Failure::say(
                Exit::Failed,
                "that cluster has no committee to certify anything",
            )
            .advise("start over with `make clean-data`, or choose another --data"));
        }
        return Ok(folder);
    }
    let plan = (1..=NODES)
        .map(|id| {
            let ports = Ports::of(args.port, id)?;
            Some(NodePlan {
                id,
                host: args.host.to_string(),
                ports,
                witness: id > VOTERS,
                seat: true,
                log_file: None,
            })
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| {
            Failure::say(
                Exit::Usage,
                format_args!("--port {} leaves too few ports", args.port),
            )
        })?;
    let (folder, cluster_id) = ClusterFolder::create(context.local, &args.data, "demo", &plan)?;
    context.console.note(format_args!(
        "made cluster {cluster_id} in {}",
        args.data.display()
    ))?;
    Ok(folder)
}

/// What a node's configuration says about where it listens.
fn place(folder: &ClusterFolder, id: u64) -> Result<Place, Failure> {
    let config = NodeConfig::read(&folder.node_config(id))?;
    let (api, peers) = (config.api, config.peers);
    Ok(Place {
        id,
        endpoint: format!("http://{}", api.listen),
        listeners: [api.listen, peers.listen, api.events_listen],
    })
}

/// SIGINT and SIGTERM.
struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(Failure::context("cannot listen for signals"));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What was made of it all.
struct Played {
    /// For whoever watches.
    guests: Vec<Guest>,
    /// A decision that is certified.
    decided: String,
}

struct Demo<'d> {
    folder: &'d ClusterFolder,
    places: &'d [Place],
    calls: &'d RollCalls,
}

impl Demo<'_> {
    /// Everything up to the checked table; the guests are for whoever watches.
    async fn play(&self, console: &mut Console) -> Result<Played, Failure> {
        let began = Instant::now();
        let genesis = self.folder.read_genesis()?;
        let clients = self.clients()?;
        self.wait_until_ready(console, &clients).await?;
        let first = clients
            .first()
            .ok_or_else(|| Failure::say(Exit::Failed, "the folder has no nodes"))?;
        let keys = self.folder.dir().join("demo");
        if !keys.exists() {
            secret::create_folder(&keys).map_err(Failure::failed)?;
        }
        let voters = members::voters(&keys.join("members.keys"), self.calls.members.len())?;
        let registrar = Registrar::new(first, &self.folder.registrar_key()).await?;
        let registered = registrar
            .register(&members::agents(&voters, self.calls))
            .await?;
        let before = voters.len().saturating_sub(registered);
        console.note(format_args!(
            "{registered} agents registered, {before} were already"
        ))?;
        let replay = Replay {
            calls: self.calls,
            voters: &voters,
            cluster_id: registrar.cluster_id,
            clients: &clients,
        };
        let (decided, certified) = vote(console, &replay, &voters).await?;
        console.line(report::table(&decided))?;
        self.check(console, &decided, &clients).await?;
        let newest = self.check_certificates(console, &genesis, &certified)?;
        replay.covered(&genesis, newest).await?;
        let guests = registrar.register_guests(&keys).await?;
        console.note(format_args!(
            "all of it took {:.1} s",
            began.elapsed().as_secs_f32()
        ))?;
        let first = decided.into_iter().next();
        let first = first.ok_or_else(|| Failure::say(Exit::Failed, "there are no bills"))?;
        Ok(Played {
            guests,
            decided: first.bill.proposal_id,
        })
    }

    /// Verifies the certificates here, with nothing but the genesis document, and returns the
    /// newest closing among them.
    fn check_certificates(
        &self,
        console: &mut Console,
        genesis: &Genesis,
        certified: &[Certified],
    ) -> Result<Ordinal, Failure> {
        let newest = certified::verify(genesis, certified, self.calls)?;
        console.line(format_args!(
            "{} certificates hold, verified here with {} alone",
            certified.len(),
            self.folder.genesis().display()
        ))?;
        Ok(newest)
    }

    /// A client for each node that asks the others when its own does not answer.
    fn clients(&self) -> Result<Vec<Client>, Failure> {
        let token = secret::read(&self.folder.admin_token()).map_err(Failure::failed)?;
        let endpoints: Vec<String> = self
            .places
            .iter()
            .map(|place| place.endpoint.clone())
            .collect();
        (0..endpoints.len())
            .map(|first| {
                let mut endpoints = endpoints.clone();
                endpoints.rotate_left(first);
                Ok(Client::new(
                    &endpoints,
                    Some(&token),
                    Duration::from_secs(30),
                )?)
            })
            .collect()
    }

    async fn wait_until_ready(
        &self,
        console: &mut Console,
        clients: &[Client],
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_TIMEOUT;
        let total = u64::try_from(self.places.len()).unwrap_or(u64::MAX);
        let mut progress = console.progress("nodes ready", total);
        progress.at(0)?;
        for (place, done) in self.places.iter().zip(1..) {
            let client = clients
                .first()
                .ok_or_else(|| Failure::say(Exit::Failed, "there are no nodes"))?;
            let node = client.only(&place.endpoint, READY_ASK)?;
            while let Err(error) = node.get_root("/readyz").await {
                if Instant::now() >= deadline {
                    let late = format!(
                        "node {} was not ready after {} s",
                        place.id,
                        READY_TIMEOUT.as_secs()
                    );
                    return Err(Failure::new(
                        Exit::Unreachable,
                        anyhow::Error::new(error).context(late),
                    ));
                }
                tokio::time::sleep(READY_POLL).await;
            }
            progress.at(done)?;
        }
        Ok(())
    }

    /// Checks the figures against the file, and the nodes against each other.
    async fn check(
        &self,
        console: &mut Console,
        decided: &[Decided],
        clients: &[Client],
    ) -> Result<(), Failure> {
        let differences = report::differences(decided, self.calls);
        if !differences.is_empty() {
            return Err(
                Failure::say(Exit::Negative, "the cluster's figures are not the file's")
                    .advise(differences.join("\n")),
            );
        }
        let deadline = Instant::now() + CHAINS_TIMEOUT;
        let (entries, head) = loop {
            let heads = self.heads(clients).await?;
            match heads.as_slice() {
                [same] => break *same,
                // A certificate that two validators brought is recorded twice, the second
                // time without effect, perhaps while the nodes were asked.
                _ if Instant::now() < deadline => tokio::time::sleep(CHAINS_POLL).await,
                _ => {
                    return Err(Failure::say(
                        Exit::Negative,
                        format_args!("the nodes' audit chains differ: {heads:?}"),
                    ));
                }
            }
        };
        console.line(format_args!(
            "\nEvery figure is the file's, and the {} nodes hold the same audit chain:\n{entries} entries, head {head}",
            self.places.len()
        ))
    }

    /// The length and the head of each node's audit chain, equal neighbours once.
    async fn heads(&self, clients: &[Client]) -> Result<Vec<(u64, Digest)>, Failure> {
        let mut heads = Vec::new();
        for (place, client) in self.places.iter().zip(clients) {
            let node = client.only(&place.endpoint, READY_TIMEOUT)?;
            let verdict: AuditVerdict = node.get("/audit/verify").await?.read()?;
            if !verdict.valid {
                return Err(Failure::say(
                    Exit::Negative,
                    format_args!("the audit chain of node {} does not hold", place.id),
                ));
            }
            heads.push((verdict.entries, verdict.head));
        }
        heads.dedup();
        Ok(heads)
    }

    /// Tells what to try and waits for Ctrl-C. A node that dies is reported, and the others
    /// go on.
    async fn leave_up(
        &self,
        console: &mut Console,
        nodes: &mut Nodes,
        stop: &mut StopSignals,
        played: &Played,
    ) -> Result<(), Failure> {
        let endpoints: Vec<&str> = self
            .places
            .iter()
            .map(|place| place.endpoint.as_str())
            .collect();
        let leader = next::leader(&endpoints).await?;
        console.line(next::commands(&Scene {
            program: &next::program(),
            admin_token: &self.folder.admin_token(),
            endpoints: &endpoints,
            guests: &played.guests,
            leader: leader.and_then(|id| Some((id, nodes.pid(id)?))),
            proven: Some(Proven {
                genesis: &self.folder.genesis(),
                proposal: &played.decided,
            }),
        }))?;
        console.line("\nCtrl-C stops it; the next run goes on with the same data.")?;
        while !nodes.is_empty() {
            let ended = tokio::select! {
                biased;
                () = stop.asked() => return Ok(()),
                ended = nodes.ended() => ended?,
            };
            console.note(format_args!(
                "{}; start it again with:\n  {} serve --config {}",
                ended.how(),
                next::program(),
                ended.config.display()
            ))?;
        }
        Err(Failure::say(Exit::Failed, "no node is left"))
    }
}

/// Opens one bill after the other and casts its ballots, while the certificates of those
/// before are waited for; then reads the outcomes.
async fn vote(
    console: &mut Console,
    replay: &Replay<'_>,
    voters: &[Voter],
) -> Result<(Vec<Decided>, Vec<Certified>), Failure> {
    let (closed, to_certify) = mpsc::unbounded_channel();
    let casting = cast(console, replay, voters, closed);
    let (bills, certified) = tokio::try_join!(casting, certified::collect(replay, to_certify))?;
    if let Some(took) = certified::took(&certified) {
        console.note(took)?;
    }
    let mut decided = Vec::new();
    for bill in bills {
        decided.push(replay.decided(bill).await?);
    }
    Ok((decided, certified))
}

/// Casts the ballots of one bill after the other.
async fn cast(
    console: &mut Console,
    replay: &Replay<'_>,
    voters: &[Voter],
    closed: mpsc::UnboundedSender<Closed>,
) -> Result<Vec<Bill>, Failure> {
    let began = Instant::now();
    let ballots = u64::try_from(BILLS.len().saturating_mul(voters.len())).unwrap_or(u64::MAX);
    let mut progress = console.progress("ballots", ballots);
    progress.at(0)?;
    let (mut bills, mut cast, mut done) = (Vec::new(), 0_u64, 0_u64);
    for column in 0..BILLS.len() {
        let bill = replay.propose(column).await?;
        let cast_now = replay.cast(&bill, &mut progress, &mut done).await?;
        cast = cast.saturating_add(cast_now);
        let next = Closed {
            bill: bill.clone(),
            now: cast_now > 0,
        };
        if closed.send(next).is_err() {
            // Whoever waits for certificates has failed, which ends this as well.
            break;
        }
        bills.push(bill);
    }
    let took = began.elapsed();
    if cast > 0 {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = cast.saturating_mul(1_000).checked_div(took_ms).unwrap_or(0);
        console.note(format_args!(
            "{cast} signed ballots in {:.3} s, {rate} a second",
            took.as_secs_f32()
        ))?;
    } else {
        console.note("every ballot was cast in an earlier run")?;
    }
    Ok(bills)
}
