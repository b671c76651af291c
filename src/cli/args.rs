//! The words of the command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::failure::EXIT_CODES;
use crate::{
    agent, audit, bench, checkpoint, cluster, committee, completions, config_check, demo, dev,
    init, keygen, proposals, propose, results, serve, snapshot, status, verify, vote,
};

/// A decision ledger: proposals, signed votes and outcomes that nobody can quietly rewrite,
/// skew or lose.
#[derive(Debug, Parser)]
#[command(name = "aegis", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// A node's API; give several and the next is tried when one is down
    #[arg(
        long,
        global = true,
        env = "AEGIS_ENDPOINT",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:8003"
    )]
    pub(crate) endpoint: Vec<String>,
    /// The file with the bearer token (0600)
    #[arg(long, global = true, env = "AEGIS_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// How results are written
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// How long to go on asking the nodes, in seconds
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Table,
    /// For programs: exactly the API's JSON
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the files of a new cluster, or of one more node
    Init(init::InitArgs),
    /// Run a node
    Serve(serve::ServeArgs),
    /// Run a cluster of one process in a temporary folder, to try things out
    Dev(dev::DevArgs),
    /// Start four nodes here, replay real votes and certify the decisions
    Demo(demo::DemoArgs),
    /// Make a private key, or show the public part of one
    Keygen(keygen::KeygenArgs),
    /// Register agents and look after them
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Submit a proposal
    Propose(propose::ProposeArgs),
    /// Sign a ballot and cast it
    Vote(vote::VoteArgs),
    /// Show the count and the outcome of proposals
    Results(results::ResultsArgs),
    /// List proposals, or fetch what proves how one ended
    Proposals(proposals::ProposalsArgs),
    /// Verify a certificate or a bundle offline
    Verify(verify::VerifyArgs),
    /// Show the cluster and its members
    Status(status::StatusArgs),
    /// Move the leadership and change the membership
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Show the committee that certifies decisions, and propose to change it
    #[command(subcommand)]
    Committee(committee::CommitteeCommand),
    /// Fetch the newest head of the transparency log that a quorum has signed
    Checkpoint(checkpoint::CheckpointArgs),
    /// Back up and restore
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Check and export the audit chain
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Check configuration files
    #[command(subcommand)]
    Config(config_check::ConfigCommand),
    /// Print a script that completes commands in a shell
    Completions(completions::CompletionsArgs),
    /// Measure how many signed votes a cluster takes
    Bench(bench::BenchArgs),
}
