//! What a command has to work with.

use std::future::Future;
use std::time::Duration;

use aegis_crypto::Digest;

use crate::args::{Command, Global, Output};
use crate::client::{Answer, Client};
use crate::console::Console;
use crate::failure::Failure;
use crate::local::Local;
use crate::{
    agent, audit, bench, checkpoint, cluster, committee, completions, config_check, demo, dev,
    init, keygen, proposals, propose, results, secret, serve, snapshot, status, verify, vote,
};

/// The machine, the terminal and the cluster that a command works with.
pub(crate) struct Context<'a> {
    pub(crate) local: &'a dyn Local,
    pub(crate) console: Console,
    pub(crate) global: Global,
}

impl<'a> Context<'a> {
    pub(crate) fn new(local: &'a dyn Local, console: Console, global: Global) -> Self {
        Self {
            local,
            console,
            global,
        }
    }

    /// Runs a command.
    pub(crate) fn run(&mut self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Init(args) => init::run(self, &args),
            Command::Serve(args) => serve::run(self, &args),
            Command::Dev(args) => dev::run(self, args),
            Command::Keygen(args) => keygen::run(self, &args),
            Command::Verify(args) => verify::run(self, &args),
            Command::Config(command) => config_check::run(self, &command),
            Command::Completions(args) => completions::run(self, &args),
            Command::Demo(args) => block_on(demo::run(self, &args)),
            Command::Agent(command) => block_on(agent::run(self, &command)),
            Command::Propose(args) => block_on(propose::run(self, &args)),
            Command::Vote(args) => block_on(vote::run(self, &args)),
            Command::Results(args) => block_on(results::run(self, &args)),
            Command::Proposals(args) => block_on(proposals::run(self, &args)),
            Command::Status(args) => block_on(status::run(self, &args)),
            Command::Cluster(command) => block_on(cluster::run(self, &command)),
            Command::Committee(command) => block_on(committee::run(self, &command)),
            Command::Checkpoint(args) => block_on(checkpoint::run(self, &args)),
            Command::Snapshot(command) => block_on(snapshot::run(self, &command)),
            Command::Audit(command) => block_on(audit::run(self, &command)),
            Command::Bench(args) => block_on(bench::run(self, &args)),
        }
    }

    /// A client of the cluster that the global options name.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let token = match &self.global.token_file {
            Some(path) => Some(secret::read(path).map_err(Failure::failed)?),
            None => None,
        };
        Ok(Client::new(
            &self.global.endpoint,
            token.as_ref(),
            Duration::from_secs(self.global.timeout),
        )?)
    }

    /// Whether results are for programs.
    pub(crate) fn wants_json(&self) -> bool {
        self.global.output == Output::Json
    }

    /// Writes an answer as it came, and ends its line; an answer without a body is nothing.
    pub(crate) fn show_json(&mut self, answer: &Answer) -> Result<(), Failure> {
        self.console.raw(&answer.body)?;
        if answer.body.is_empty() || answer.body.ends_with(b"\n") {
            Ok(())
        } else {
            self.console.raw(b"\n")
        }
    }
}

/// The cluster's id, which every signed statement names: the digest of its genesis document.
pub(crate) async fn cluster_id(client: &Client) -> Result<Digest, Failure> {
    let genesis = client.get("/genesis").await?;
    Ok(Digest::of(&genesis.body))
}

/// Runs a command's conversation with the cluster to its end.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::context("cannot start the asynchronous runtime"))?
        .block_on(work)
}
