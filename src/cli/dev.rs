//! `aegis dev`: a cluster of one process in a temporary folder, to try things out.

use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use clap::Args;
use rustix::process::{Signal, getpid, kill_process};
use serde_json::json;

use crate::client::Client;
use crate::context::{Context, block_on};
use crate::failure::{Exit, Failure};
use crate::folder::{ClusterFolder, NodePlan, Ports};
use crate::next::{self, Scene};
use crate::registrar::{Guest, Registrar};
use crate::secret;

/// How long the node may take for what it is asked at the beginning.
const PATIENCE: Duration = Duration::from_secs(30);

/// The words of `aegis dev`.
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// The port of the API; events are three above
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 8003,
        conflicts_with = "free_ports"
    )]
    port: u16,
    /// Take whatever ports are free
    #[arg(long)]
    free_ports: bool,
}

pub(crate) fn run(context: &mut Context<'_>, args: DevArgs) -> Result<(), Failure> {
    let temporary = tempfile::Builder::new()
        .prefix("aegis-dev-")
        .tempdir()
        .map_err(Failure::context("cannot make a temporary folder"))?;
    let node = NodePlan {
        id: 1,
        host: "127.0.0.1".to_owned(),
        ports: if args.free_ports {
            free_ports()?
        } else {
            fixed_ports(args.port)?
        },
        witness: false,
        seat: false,
        log_file: Some("aegis.log"),
    };
    let nodes = std::slice::from_ref(&node);
    let (folder, _) = ClusterFolder::create(context.local, temporary.path(), "dev", nodes)?;
    serve(context, &folder, &node)?;
    temporary
        .close()
        .map_err(Failure::context("cannot remove the temporary folder"))
}

/// Runs the node on a thread of its own, and introduces it when it serves.
fn serve(
    context: &mut Context<'_>,
    folder: &ClusterFolder,
    node: &NodePlan,
) -> Result<(), Failure> {
    let (local, config) = (context.local, folder.node_config(node.id));
    let (ready, serving) = mpsc::channel();
    std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            let ready = move || ready.send(()).expect("the other end waits below");
            local.serve(&config, Box::new(ready))
        });
        // An error means that the node ended before it served.
        let introduced = match serving.recv() {
            Ok(()) => introduce(context, folder, node),
            Err(mpsc::RecvError) => Ok(()),
        };
        if introduced.is_err() {
            kill_process(getpid(), Signal::TERM)
                .map_err(Failure::context("cannot stop the node"))?;
        }
        match server.join() {
            Ok(served) => introduced.and(served),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn introduce(
    context: &mut Context<'_>,
    folder: &ClusterFolder,
    node: &NodePlan,
) -> Result<(), Failure> {
    let endpoint = node.endpoint();
    let guests = block_on(guests(folder, &endpoint))?;
    let events = format!("ws://{}/consensus", node.events_address());
    if context.wants_json() {
        let agents: Vec<_> = guests
            .iter()
            .map(|guest| json!({"id": guest.id, "key": guest.key_file}))
            .collect();
        return context.console.json(&json!({
            "endpoint": endpoint,
            "events": events,
            "dir": folder.dir(),
            "token_file": folder.admin_token(),
            "registrar_key": folder.registrar_key(),
            "agents": agents,
        }));
    }
    let token = secret::read(&folder.admin_token()).map_err(Failure::failed)?;
    let console = &mut context.console;
    console.line(format_args!(
        "api     {endpoint}\ndocs    {endpoint}/docs\nevents  {events}\nfolder  {} (removed at the end)\ntoken   {}",
        folder.dir().display(),
        token.trim()
    ))?;
    console.line(next::commands(&Scene {
        program: &next::program(),
        admin_token: &folder.admin_token(),
        endpoints: &[&endpoint],
        guests: &guests,
        leader: None,
        proven: None,
    }))?;
    console.line("\nCtrl-C stops it and removes everything.")
}

async fn guests(folder: &ClusterFolder, endpoint: &str) -> Result<Vec<Guest>, Failure> {
    let token = secret::read(&folder.admin_token()).map_err(Failure::failed)?;
    let client = Client::new(&[endpoint.to_owned()], Some(&token), PATIENCE)?;
    let registrar = Registrar::new(&client, &folder.registrar_key()).await?;
    registrar.register_guests(folder.dir()).await
}

fn fixed_ports(port: u16) -> Result<Ports, Failure> {
    Ports::of(port, 1).ok_or_else(|| {
        Failure::say(
            Exit::Usage,
            format_args!("there are not enough ports above {port}"),
        )
    })
}

/// Three ports that nothing listens on at the moment.
fn free_ports() -> Result<Ports, Failure> {
    let listen = || TcpListener::bind("127.0.0.1:0");
    let free = || {
        // All are held at once, so that they differ.
        let listeners = [listen()?, listen()?, listen()?];
        let [api, peers, events] = &listeners;
        Ok::<_, std::io::Error>(Ports {
            api: api.local_addr()?.port(),
            peers: peers.local_addr()?.port(),
            events: events.local_addr()?.port(),
        })
    };
    free().map_err(Failure::context("cannot find free ports"))
}
