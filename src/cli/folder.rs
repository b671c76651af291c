//! The folder of a cluster, as `aegis init` makes it.
//!
//! ```text
//! <dir>/genesis.json            the root of trust; its SHA-256 is the cluster's id
//! <dir>/ca.pem                  the certificate of the cluster's authority
//! <dir>/operator/               what no node is given (0700, every file 0600)
//!     ca-key.pem                names nodes
//!     registrar.pem             attests agents
//!     administrator.pem         signs an administrator's commands
//!     admin.token               the administrator's bearer token
//! <dir>/node-<i>/               one node's, to be copied to its machine (0700)
//!     node.toml  genesis.json  ca.pem  node.pem  node-key.pem  store/
//!     seat-key.pem              signs for its seat, where it has one (0600)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use aegis_crypto::{Digest, Jwk, SecretKey};
use aegis_ledger::{Genesis, GenesisDocument, Seat, initial_policies_digest};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::failure::{Exit, Failure};
use crate::local::{Credential, Local};
use crate::secret;

/// How far the ports of two nodes of one machine are apart.
const PORT_STEP: u16 = 10;
/// What an administrator's token begins with, so that it is known for what it is if found.
const TOKEN_PREFIX: &str = "aegis_admin_";
/// The key of a node's seat, in the node's folder.
pub(crate) const SEAT_KEY: &str = "seat-key.pem";

/// The ports of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) api: u16,
    pub(crate) peers: u16,
    pub(crate) events: u16,
}

impl Ports {
    /// Those of the `number`th node of a machine, from 1, where the first has its API at
    /// `base`.
    pub(crate) fn of(base: u16, number: u64) -> Option<Self> {
        let step = u16::try_from(number.checked_sub(1)?)
            .ok()?
            .checked_mul(PORT_STEP)?;
        let api = base.checked_add(step)?;
        Some(Self {
            api,
            peers: api.checked_add(1)?,
            events: api.checked_add(3)?,
        })
    }
}

/// A node that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodePlan {
    pub(crate) id: u64,
    /// The name or address at which others reach it.
    pub(crate) host: String,
    pub(crate) ports: Ports,
    /// Whether it only receives the log.
    pub(crate) witness: bool,
    /// Whether it has a seat in the committee.
    pub(crate) seat: bool,
    /// A file in the node's folder to log to, instead of standard error.
    pub(crate) log_file: Option<&'static str>,
}

impl NodePlan {
    pub(crate) fn name(&self) -> String {
        format!("node-{}", self.id)
    }

    /// `host:port`, as other nodes and clients write it.
    fn address(&self, port: u16) -> String {
        match self.host.parse() {
            Ok(ip) => SocketAddr::new(ip, port).to_string(),
            Err(_) => format!("{}:{port}", self.host),
        }
    }

    pub(crate) fn api_address(&self) -> String {
        self.address(self.ports.api)
    }

    pub(crate) fn peer_address(&self) -> String {
        self.address(self.ports.peers)
    }

    pub(crate) fn events_address(&self) -> String {
        self.address(self.ports.events)
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.api_address())
    }

    /// Where the node listens: at its address, or at all of its machine's if a name says
    /// nothing about which.
    fn listen(&self, port: u16) -> SocketAddr {
        let ip = if self.host == "localhost" {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            self.host
                .parse()
                .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
        };
        SocketAddr::new(ip, port)
    }

    /// Whether only its own machine reaches the node.
    pub(crate) fn listens_on_loopback(&self) -> bool {
        self.listen(self.ports.api).ip().is_loopback()
    }

    /// The node's configuration. Everything that it leaves out has its default.
    pub(crate) fn config(&self, admin_token: Digest, founders: &[Self]) -> String {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let mut text = format!(
            "# Node {id} of a cluster made by `aegis init`. Every key is explained in\n\
             # aegis.example.toml; what is not set here has its default.\n\n\
             [node]\nid = {id}\nname = {name}\n\n\
             [cluster]\ngenesis = \"genesis.json\"\nadmin_token_sha256 = \"{admin_token}\"\n",
            id = self.id,
            name = quoted(&self.name()),
        );
        for founder in founders {
            write!(
                text,
                "\n[[cluster.members]]\nid = {}\nname = {}\npeer_address = {}\napi_address = {}\n",
                founder.id,
                quoted(&founder.name()),
                quoted(&founder.peer_address()),
                quoted(&founder.api_address()),
            )
            .expect("writing to a string cannot fail");
            if founder.witness {
                text.push_str("witness = true\n");
            }
        }
        write!(
            text,
            "\n[api]\nlisten = \"{}\"\nevents_listen = \"{}\"\n\n[peers]\nlisten = \"{}\"\n\
             authority = \"ca.pem\"\ncertificate = \"node.pem\"\nkey = \"node-key.pem\"\n\n\
             [storage]\ndir = \"store\"\n",
            self.listen(self.ports.api),
            self.listen(self.ports.events),
            self.listen(self.ports.peers),
        )
        .expect("writing to a string cannot fail");
        if self.seat {
            write!(text, "\n[committee]\nkey = \"{SEAT_KEY}\"\n")
                .expect("writing to a string cannot fail");
        }
        if let Some(file) = self.log_file {
            write!(text, "\n[log]\nfile = \"{file}\"\n").expect("writing to a string cannot fail");
        }
        text
    }
}

/// What a node's configuration says about where nodes are.
#[derive(Debug, Deserialize)]
pub(crate) struct NodeConfig {
    pub(crate) api: ApiPlace,
    pub(crate) peers: PeersPlace,
    cluster: Founders,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ApiPlace {
    pub(crate) listen: SocketAddr,
    pub(crate) events_listen: SocketAddr,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PeersPlace {
    pub(crate) listen: SocketAddr,
}

#[derive(Debug, Deserialize)]
struct Founders {
    #[serde(default)]
    members: Vec<Founder>,
}

#[derive(Debug, Deserialize)]
struct Founder {
    api_address: String,
}

impl NodeConfig {
    /// Reads a file that `aegis init` has made.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path)
            .map_err(Failure::context(format!("cannot read {}", path.display())))?;
        toml::from_str(&text).map_err(Failure::context(path.display()))
    }
}

/// Whether a new node's data folder is made with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreFolder {
    Make,
    /// It is going to be restored from a snapshot.
    LeaveOut,
}

/// A cluster's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterFolder(PathBuf);

impl ClusterFolder {
    /// The folder at `dir`, if there is one.
    pub(crate) fn find(dir: &Path) -> Option<Self> {
        let folder = Self(dir.to_owned());
        folder.genesis().exists().then_some(folder)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.0
    }

    pub(crate) fn genesis(&self) -> PathBuf {
        self.0.join("genesis.json")
    }

    fn authority(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    fn operator(&self) -> PathBuf {
        self.0.join("operator")
    }

    fn authority_key(&self) -> PathBuf {
        self.operator().join("ca-key.pem")
    }

    pub(crate) fn registrar_key(&self) -> PathBuf {
        self.operator().join("registrar.pem")
    }

    pub(crate) fn administrator_key(&self) -> PathBuf {
        self.operator().join("administrator.pem")
    }

    pub(crate) fn admin_token(&self) -> PathBuf {
        self.operator().join("admin.token")
    }

    pub(crate) fn node(&self, id: u64) -> PathBuf {
        self.0.join(format!("node-{id}"))
    }

    pub(crate) fn node_config(&self, id: u64) -> PathBuf {
        self.node(id).join("node.toml")
    }

    /// The ids of the nodes whose folders are here, in order.
    pub(crate) fn node_ids(&self) -> Result<Vec<u64>, Failure> {
        let unreadable =
            |error| Failure::context(format!("cannot list {}", self.0.display()))(error);
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            ids.extend(
                name.to_str()
                    .and_then(|name| name.strip_prefix("node-")?.parse::<u64>().ok()),
            );
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Where the nodes whose folders are here listen, and where they say that the founders do.
    pub(crate) fn api_addresses(&self) -> Result<BTreeSet<String>, Failure> {
        let mut addresses = BTreeSet::new();
        for id in self.node_ids()? {
            let config = NodeConfig::read(&self.node_config(id))?;
            addresses.insert(config.api.listen.to_string());
            let founders = config.cluster.members.into_iter();
            addresses.extend(founders.map(|member| member.api_address));
        }
        Ok(addresses)
    }

    /// Makes the folder of a new cluster. Nothing is overwritten, and what was made before
    /// a failure is taken away again.
    pub(crate) fn create(
        local: &dyn Local,
        dir: &Path,
        name: &str,
        nodes: &[NodePlan],
    ) -> Result<(Self, Digest), Failure> {
        let folder = Self(dir.to_owned());
        let cluster_id = in_new_folder(dir, || {
            let roots = folder.make_roots(local, name, nodes)?;
            for node in nodes {
                roots.make(node, nodes, StoreFolder::Make)?;
            }
            Ok(roots.genesis.cluster_id())
        })?;
        Ok((folder, cluster_id))
    }

    /// Makes the folders of more nodes of the cluster, which the founders' folders know.
    pub(crate) fn add_nodes(
        &self,
        local: &dyn Local,
        nodes: &[NodePlan],
        founders: &[NodePlan],
        store: StoreFolder,
    ) -> Result<Digest, Failure> {
        let roots = self.read_roots(local)?;
        for node in nodes {
            let dir = self.node(node.id);
            if dir.exists() {
                return Err(occupied(&dir));
            }
        }
        for node in nodes {
            roots.make(node, founders, store)?;
        }
        Ok(roots.genesis.cluster_id())
    }

    /// The genesis document that is here.
    pub(crate) fn read_genesis(&self) -> Result<Genesis, Failure> {
        let path = self.genesis();
        Genesis::parse(read_public(&path)?).map_err(Failure::context(path.display()))
    }

    /// Makes what all nodes of a new cluster have in common, and what none is given.
    fn make_roots<'r>(
        &'r self,
        local: &'r dyn Local,
        name: &str,
        nodes: &[NodePlan],
    ) -> Result<Roots<'r>, Failure> {
        secret::create_folder(&self.operator()).map_err(Failure::failed)?;
        let registrar = new_key(&self.registrar_key())?;
        let administrator = new_key(&self.administrator_key())?;
        let token = new_token()?;
        secret::create(&self.admin_token(), &token).map_err(Failure::failed)?;
        let seat_keys = nodes
            .iter()
            .filter(|node| node.seat)
            .map(|node| Ok((node.id, SecretKey::generate().map_err(Failure::failed)?)))
            .collect::<Result<BTreeMap<_, _>, Failure>>()?;
        let seats = seats(nodes, &seat_keys);
        let genesis = genesis(name, &registrar, &administrator, seats)?;
        secret::create_public(&self.genesis(), genesis.bytes()).map_err(Failure::failed)?;
        let authority = local.new_authority(genesis.cluster_id())?;
        let certificate = authority.certificate.as_bytes();
        secret::create_public(&self.authority(), certificate).map_err(Failure::failed)?;
        secret::create(&self.authority_key(), &authority.key).map_err(Failure::failed)?;
        Ok(Roots {
            local,
            folder: self,
            genesis,
            authority,
            admin_token: Digest::of(token.as_bytes()),
            seat_keys,
        })
    }

    fn read_roots<'r>(&'r self, local: &'r dyn Local) -> Result<Roots<'r>, Failure> {
        let authority = self.authority();
        let certificate = String::from_utf8(read_public(&authority)?)
            .map_err(Failure::context(authority.display()))?;
        let token = secret::read(&self.admin_token()).map_err(Failure::failed)?;
        Ok(Roots {
            local,
            folder: self,
            genesis: self.read_genesis()?,
            authority: Credential {
                certificate,
                key: secret::read(&self.authority_key()).map_err(Failure::failed)?,
            },
            admin_token: Digest::of(token.trim().as_bytes()),
            seat_keys: BTreeMap::new(),
        })
    }
}

/// What every node of a cluster is made from.
struct Roots<'r> {
    local: &'r dyn Local,
    folder: &'r ClusterFolder,
    genesis: Genesis,
    authority: Credential,
    admin_token: Digest,
    /// The keys of the seats that a new genesis names, by node. Those of a cluster that is
    /// there already lie with its nodes alone.
    seat_keys: BTreeMap<u64, SecretKey>,
}

impl Roots<'_> {
    fn make(
        &self,
        node: &NodePlan,
        founders: &[NodePlan],
        store: StoreFolder,
    ) -> Result<(), Failure> {
        let dir = self.folder.node(node.id);
        in_new_folder(&dir, || self.fill(&dir, node, founders, store))
    }

    fn fill(
        &self,
        dir: &Path,
        node: &NodePlan,
        founders: &[NodePlan],
        store: StoreFolder,
    ) -> Result<(), Failure> {
        let hosts = std::slice::from_ref(&node.host);
        let credential = self
            .local
            .issue_certificate(&self.authority, node.id, hosts)?;
        let config = node.config(self.admin_token, founders);
        for (name, text) in [
            ("genesis.json", self.genesis.bytes()),
            ("ca.pem", self.authority.certificate.as_bytes()),
            ("node.pem", credential.certificate.as_bytes()),
            ("node.toml", config.as_bytes()),
        ] {
            secret::create_public(&dir.join(name), text).map_err(Failure::failed)?;
        }
        secret::create(&dir.join("node-key.pem"), &credential.key).map_err(Failure::failed)?;
        if let Some(key) = self.seat_keys.get(&node.id) {
            secret::create(&dir.join(SEAT_KEY), &key.to_pem()).map_err(Failure::failed)?;
        }
        match store {
            StoreFolder::Make => {
                let cluster_id = self.genesis.cluster_id();
                self.local
                    .create_store(&dir.join("store"), cluster_id, node.id)
            }
            StoreFolder::LeaveOut => Ok(()),
        }
    }
}

/// Makes something in a folder that is empty or not there, and takes it away again if that
/// fails.
fn in_new_folder<T>(dir: &Path, make: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let was_there = match fs::read_dir(dir).map(Iterator::count) {
        Ok(0) => true,
        Ok(_) => return Err(occupied(dir)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            secret::create_folder(dir).map_err(Failure::failed)?;
            false
        }
        Err(error) => {
            return Err(Failure::context(format!("cannot use {}", dir.display()))(
                error,
            ));
        }
    };
    make().map_err(|failure| match remove(dir, was_there) {
        Ok(()) => failure,
        Err(error) => failure.advise(format_args!(
            "{} is left half made and cannot be removed: {error}",
            dir.display()
        )),
    })
}

/// Removes everything in a folder, and the folder unless it is to stay.
fn remove(dir: &Path, stays: bool) -> io::Result<()> {
    if !stays {
        return fs::remove_dir_all(dir);
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn occupied(dir: &Path) -> Failure {
    Failure::say(
        Exit::Failed,
        format_args!(
            "{} exists already and is not empty; nothing was changed",
            dir.display()
        ),
    )
    .advise("choose another folder, or remove this one if its cluster is not needed any more")
}

fn read_public(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(Failure::context(format!("cannot read {}", path.display())))
}

fn new_key(path: &Path) -> Result<SecretKey, Failure> {
    let key = SecretKey::generate().map_err(Failure::failed)?;
    secret::create(path, &key.to_pem()).map_err(Failure::failed)?;
    Ok(key)
}

fn new_token() -> Result<Zeroizing<String>, Failure> {
    let secret = Zeroizing::new(random()?);
    let digits = Zeroizing::new(hex::encode(secret.as_slice()));
    Ok(Zeroizing::new([TOKEN_PREFIX, digits.as_str()].concat()))
}

fn random() -> Result<[u8; 32], Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(Failure::context("the operating system gave no randomness"))?;
    Ok(bytes)
}

/// The seats that a new genesis names, in the order of the nodes.
fn seats(nodes: &[NodePlan], keys: &BTreeMap<u64, SecretKey>) -> Vec<Seat> {
    let seated = nodes
        .iter()
        .filter_map(|node| Some((node, keys.get(&node.id)?)));
    (0..)
        .zip(seated)
        .map(|(seat, (node, key))| Seat {
            seat,
            name: node.name(),
            public_key: Jwk::from(key.public()),
        })
        .collect()
}

/// A new genesis document.
fn genesis(
    name: &str,
    registrar: &SecretKey,
    administrator: &SecretKey,
    committee: Vec<Seat>,
) -> Result<Genesis, Failure> {
    let document = GenesisDocument {
        version: Genesis::VERSION,
        name: name.to_owned(),
        created_at: format!("{:.0}", jiff::Timestamp::now()),
        nonce: Digest::from_bytes(random()?),
        registrar: Jwk::from(registrar.public()),
        administrators: vec![Jwk::from(administrator.public())],
        policies: initial_policies_digest(),
        committee,
    };
    let mut bytes = serde_json::to_vec_pretty(&document)
        .map_err(Failure::context("cannot write the genesis document"))?;
    bytes.push(b'\n');
    Genesis::parse(bytes).map_err(Failure::failed)
}
