//! `aegis bench`: how many signed votes a cluster takes.
//!
//! The ballots are signed and written as request bodies before anything is measured, and
//! no two are alike. Then a number of connections send them in a closed loop, each its
//! next ballot when its last was answered, so that generator and nodes can share a machine:
//! a request costs the generator little more than its system calls. Latencies are those of
//! a closed loop, not corrected for coordinated omission.

mod cpu;
mod load;
mod prepare;
mod report;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::answers::Status;
use crate::client::Client;
use crate::context::Context;
use crate::failure::{Exit, Failure};

use load::{Load, Target};
use prepare::Ballots;
use report::Run;

/// The words of `aegis bench`. It needs the administrator's token.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// How many connections, one run for each
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "64",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: Vec<u32>,
    /// How long each run is measured, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    duration: u64,
    /// How long each run warms up before, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=600))]
    warmup: u64,
    /// How many ballots a request carries
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    batch: u32,
    /// Which nodes take them
    #[arg(long, value_enum, default_value_t = TargetChoice::Leader)]
    target: TargetChoice,
    /// How many ballots to sign in all; a run that uses up its share ends early
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    ballots: u32,
    /// How many agents vote; each proposal takes one ballot of each
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    agents: u32,
    /// The registrar's private key, to attest the agents
    #[arg(long, value_name = "FILE", env = "AEGIS_REGISTRAR_KEY")]
    registrar_key: PathBuf,
    /// The processes of nodes on this machine, to tell their CPU time
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pids: Vec<u32>,
    /// Append the results to this Markdown file, too
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Only sign, and write the request bodies to this file, one a line
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

/// Which nodes take the ballots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TargetChoice {
    /// The one that leads
    Leader,
    /// All of --endpoint in turn
    Spread,
}

pub(crate) async fn run(context: &mut Context<'_>, args: &BenchArgs) -> Result<(), Failure> {
    let client = context.client()?;
    let ballots = Ballots {
        agents: usize::try_from(args.agents).map_err(Failure::failed)?,
        ballots: usize::try_from(args.ballots).map_err(Failure::failed)?,
        batch: usize::try_from(args.batch).map_err(Failure::failed)?,
    };
    let bodies = ballots
        .prepare(&mut context.console, &client, &args.registrar_key)
        .await?;
    if let Some(path) = &args.save {
        return save(path, &bodies);
    }
    let targets = targets(&client, args.target).await?;
    let share = bodies.len().div_ceil(args.connections.len().max(1)).max(1);
    let mut runs = Vec::new();
    for (connections, bodies) in args.connections.iter().zip(bodies.chunks(share)) {
        context
            .console
            .note(format_args!("{connections} connections"))?;
        let load = Load {
            targets: &targets,
            connections: *connections,
            warmup: Duration::from_secs(args.warmup),
            duration: Duration::from_secs(args.duration),
            batch: args.batch,
            pids: &args.pids,
        };
        runs.push(Run::new(args.batch, load.fire(bodies).await?));
    }
    if let Some(path) = &args.markdown {
        report::append_markdown(path, &runs)?;
    }
    if context.wants_json() {
        context.console.json(&runs)
    } else {
        context.console.line(report::markdown(&runs))
    }
}

/// The addresses that the ballots go to.
async fn targets(client: &Client, choice: TargetChoice) -> Result<Vec<Target>, Failure> {
    if choice == TargetChoice::Spread {
        return client.endpoints().map(Target::parse).collect();
    }
    let status: Status = client.get("/status").await?.read()?;
    let leader = status
        .members
        .iter()
        .find(|member| Some(member.id) == status.leader);
    let leader = leader.ok_or_else(|| Failure::say(Exit::Unreachable, "nobody leads"))?;
    Ok(vec![Target::parse(&format!(
        "http://{}",
        leader.api_address
    ))?])
}

fn save(path: &std::path::Path, bodies: &[bytes::Bytes]) -> Result<(), Failure> {
    let write = || {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for body in bodies {
            file.write_all(body)?;
            file.write_all(b"\n")?;
        }
        file.flush()
    };
    write().map_err(Failure::context(format!("cannot write {}", path.display())))
}
