//! A node's seat: its parts put together, started and stopped.

use std::io;
use std::sync::Arc;
use std::thread;

use aegis_crypto::SecretKey;
use aegis_ledger::{Genesis, Verified};
use aegis_pbft::Settings;
use aegis_peers::{Causes, FrameStream, Peer, Peers};
use aegis_storage::{CommitteeReadError, Store};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::disk::SafetyDisk;
use crate::inbox::Inbox;
use crate::observer::Observer;
use crate::outbox::Outbox;
use crate::record::Recorder;
use crate::service;
use crate::standing::SeatStanding;
use crate::validator::{Surroundings, Thread, ValidatorError};

/// What a seat is made of.
pub struct Parts {
    /// The cluster's genesis.
    pub genesis: Arc<Genesis>,
    /// The seat's key.
    pub key: SecretKey,
    /// Times.
    pub settings: Settings,
    /// The node's disk.
    pub store: Store,
    /// The other nodes.
    pub peers: Peers,
    /// Signatures that this node has verified already.
    pub memory: Arc<dyn Verified>,
    /// The way into the ledger.
    pub recorder: Arc<dyn Recorder>,
    /// Who measures it.
    pub observer: Arc<dyn Observer>,
}

/// Why a seat cannot be taken.
#[derive(Debug, Error)]
pub enum StartError {
    /// The operating system gives no thread.
    #[error("cannot start the validator's thread")]
    Thread(#[source] io::Error),
}

/// A node's seat in the committee, taken.
pub struct CommitteeSeat {
    inbox: Arc<Inbox>,
    observer: Arc<dyn Observer>,
    standing: watch::Receiver<Option<SeatStanding>>,
    ended: oneshot::Receiver<Result<(), ValidatorError>>,
    disk: SafetyDisk,
}

/// What the rest of the node does with a seat.
#[derive(Clone)]
pub struct Door {
    inbox: Arc<Inbox>,
    observer: Arc<dyn Observer>,
    standing: watch::Receiver<Option<SeatStanding>>,
    disk: SafetyDisk,
}

impl CommitteeSeat {
    /// Takes the seat: starts the validator's thread. Messages go out on the runtime that this
    /// is called in.
    ///
    /// # Errors
    /// No thread can be had.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn take(parts: Parts, inbox: Arc<Inbox>) -> Result<Self, StartError> {
        let runtime = Handle::current();
        let (published, standing) = watch::channel(None);
        let (end, ended) = oneshot::channel();
        let disk = SafetyDisk(parts.store.clone());
        let observer = Arc::clone(&parts.observer);
        let thread = Thread::new(Surroundings {
            genesis: parts.genesis,
            key: parts.key,
            settings: parts.settings,
            store: parts.store,
            memory: parts.memory,
            recorder: parts.recorder,
            observer: parts.observer,
            inbox: Arc::clone(&inbox),
            outbox: Outbox::new(parts.peers, runtime.clone()),
            runtime,
            published,
        });
        thread::Builder::new()
            .name("validator".to_owned())
            .spawn(move || {
                // Nobody waits any more if the node is gone.
                let _ = end.send(thread.run());
            })
            .map_err(StartError::Thread)?;
        Ok(Self {
            inbox,
            observer,
            standing,
            ended,
            disk,
        })
    }

    /// What the rest of the node needs of it.
    #[must_use]
    pub fn door(&self) -> Door {
        Door {
            inbox: Arc::clone(&self.inbox),
            observer: Arc::clone(&self.observer),
            standing: self.standing.clone(),
            disk: self.disk.clone(),
        }
    }

    /// Completes when the validator has ended, and says why if it failed.
    pub async fn ended(&mut self) -> Option<String> {
        match (&mut self.ended).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Causes(&error).to_string()),
            Err(_) => Some("the validator's thread panicked".to_owned()),
        }
    }

    /// Ends the validator between two rounds of its thread.
    pub async fn stop(mut self) -> Option<String> {
        self.inbox.stop();
        self.ended().await
    }
}

impl Door {
    /// Takes a node's messages as they come.
    #[must_use]
    pub fn receive(&self, from: Peer, input: FrameStream) -> FrameStream {
        service::receive(
            from,
            input,
            Arc::clone(&self.inbox),
            Arc::clone(&self.observer),
        )
    }

    /// Where the validator stands; none where its key has no seat in the epoch.
    #[must_use]
    pub fn standing(&self) -> Option<SeatStanding> {
        self.standing.borrow().clone()
    }

    /// The evidence that this node has kept, each piece encoded.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn evidence(&self) -> Result<Vec<Vec<u8>>, CommitteeReadError> {
        self.disk.evidence()
    }
}
