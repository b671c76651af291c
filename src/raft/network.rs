//! The sending side of the protocol: openraft's network over [`Peers`].
//!
//! Replication is one long stream per follower, pipelined: requests go out as the log grows
//! and flow control allows, answers come back in the same order. Heartbeats and reads'
//! confirmations are single calls on the same connection's other streams, so that a large
//! append never delays them. Snapshots use a connection of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aegis_peers::{FrameStream, PeerError, Peers};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use openraft::RaftNetworkFactory;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use tokio::time::timeout;

use crate::clock_check::ClockOffsets;
use crate::members::Node;
use crate::snapshot::{self, SnapshotData, Snapshots};
use crate::types::{RawId, Types, Vote, node_id};
use crate::wire::{
    self, APPEND, AppendAnswer, AppendResult, PRE_VOTE, REPLICATE, TRANSFER, TransferAnswer, VOTE,
};

type RpcError = RPCError<Types>;
type Answers<'s> = BoxStream<'s, Result<StreamAppendResult<Types>, RpcError>>;

/// Makes the clients of this node's peers.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) peers: Peers,
    pub(crate) snapshots: Snapshots,
    pub(crate) offsets: Arc<ClockOffsets>,
    pub(crate) replication_timeout: Duration,
}

impl Network {
    fn client(&self, target: RawId, node: &Node, sends: Sends) -> Client {
        match node.peer_addr.parse() {
            Ok(address) => self.peers.set_address(node_id(target), address),
            // Nobody can be called at it: every request will fail with `UnknownPeer`.
            Err(error) => tracing::error!(node = target, %error, "a member has no usable address"),
        }
        Client {
            network: self.clone(),
            target,
            sends,
        }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: RawId, node: &Node) -> Client {
        self.client(target, node, Sends::Entries)
    }

    async fn new_heartbeat_client(&mut self, target: RawId, node: &Node) -> Client {
        self.client(target, node, Sends::Heartbeats)
    }

    async fn new_snapshot_client(&mut self, target: RawId, node: &Node) -> Client {
        self.client(target, node, Sends::Entries)
    }
}

/// What a client's appends are.
#[derive(Clone, Copy)]
enum Sends {
    /// Entries, as a stream.
    Entries,
    /// One empty append at a time.
    Heartbeats,
}

/// A client of one peer.
pub(crate) struct Client {
    network: Network,
    target: RawId,
    sends: Sends,
}

impl Client {
    async fn call(
        &self,
        method: aegis_peers::Method,
        body: Bytes,
        within: Duration,
    ) -> Result<Bytes, RpcError> {
        let answer = self
            .network
            .peers
            .call(node_id(self.target), method, body, within)
            .await;
        answer.map_err(|error| rpc_error(&error))
    }

    /// Sends each append as a call of its own.
    fn call_each<'s, S>(&'s mut self, input: S, within: Duration) -> Answers<'s>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        let client = &*self;
        input
            .then(move |request| async move {
                let answer = client
                    .call(APPEND, wire::append_to_wire(&request), within)
                    .await?;
                client.network.read_append_answer(client.target, &answer)
            })
            .boxed()
    }

    /// Opens a stream for the appends.
    async fn stream_all<'s, S>(
        &'s mut self,
        input: S,
        within: Duration,
    ) -> Result<Answers<'s>, RpcError>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        let frames = with_late_commits(input).map(move |request| {
            counter.fetch_add(1, Ordering::Relaxed);
            wire::append_to_wire(&request)
        });
        let opened = self
            .network
            .peers
            .stream(node_id(self.target), REPLICATE, frames, within)
            .await;
        let answers = opened.map_err(|error| rpc_error(&error))?;
        let session = Session {
            client: self,
            answers,
            sent,
            answered: 0,
        };
        let next = |session: Option<Session<'s>>| async move {
            let mut session = session?;
            let answer = session.next().await?;
            // After an error, or an append that was not taken, there is nothing to go on with.
            let goes_on = matches!(answer, Ok(Ok(_)));
            Some((answer, goes_on.then_some(session)))
        };
        Ok(stream::unfold(Some(session), next).boxed())
    }
}

/// How long a follower may go without hearing that the log it has is committed.
const COMMIT_DELAY: Duration = Duration::from_millis(2);

/// Leaves out an append that only tells of a commit if another follows soon, which tells the
/// same: a lone client's writes then cost one message to each follower and not two. openraft
/// matches answers to appends by log position, so the one that is left out needs none.
fn with_late_commits<S>(input: S) -> impl Stream<Item = AppendEntriesRequest<Types>> + Send
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
{
    stream::unfold(input.fuse(), |mut input| async move {
        let mut request = input.next().await?;
        while request.entries.is_empty()
            && let Ok(Some(next)) = timeout(COMMIT_DELAY, input.next()).await
        {
            request = next;
        }
        Some((request, input))
    })
}

/// One stream of appends, on the side of the leader.
struct Session<'s> {
    client: &'s Client,
    answers: FrameStream,
    sent: Arc<AtomicU64>,
    answered: u64,
}

impl Session<'_> {
    /// The next answer; an error when an append stays without one for too long. A stream that
    /// has nothing to send may be silent forever.
    async fn next(&mut self) -> Option<Result<StreamAppendResult<Types>, RpcError>> {
        loop {
            let awaited = self.sent.load(Ordering::Relaxed) > self.answered;
            match timeout(self.client.network.replication_timeout, self.answers.next()).await {
                Ok(None) => return None,
                Ok(Some(Ok(answer))) => {
                    self.answered += 1;
                    return Some(
                        self.client
                            .network
                            .read_append_answer(self.client.target, &answer),
                    );
                }
                Ok(Some(Err(error))) => return Some(Err(network_error(&error))),
                Err(_) if awaited => {
                    let silence = Silence {
                        node: self.client.target,
                        after: self.client.network.replication_timeout,
                    };
                    return Some(Err(network_error(&silence)));
                }
                Err(_) => {}
            }
        }
    }
}

impl Network {
    fn read_append_answer(
        &self,
        from: RawId,
        answer: &[u8],
    ) -> Result<StreamAppendResult<Types>, RpcError> {
        let AppendAnswer::V1 { result, clock_ms } =
            wire::decode(answer).map_err(|error| unreachable(&error))?;
        self.offsets.heard(from, clock_ms);
        match result {
            AppendResult::Matches(matching) => Ok(Ok(matching.map(Into::into))),
            AppendResult::Conflicts(at) => Ok(Err(StreamAppendError::Conflict(at.into()))),
            AppendResult::Outvoted(vote) => Ok(Err(StreamAppendError::HigherVote(vote.into()))),
            AppendResult::Ahead { stamp_ms } => Err(unreachable(&Ahead {
                node: from,
                stamp_ms,
                clock_ms,
            })),
        }
    }
}

impl NetBackoff<Types> for Client {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl NetStreamAppend<Types> for Client {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<Answers<'s>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        match self.sends {
            Sends::Heartbeats => {
                Box::pin(async move { Ok(self.call_each(input, option.hard_ttl())) })
            }
            Sends::Entries => {
                let within = self.network.replication_timeout;
                Box::pin(self.stream_all(input, within))
            }
        }
    }
}

impl NetVote<Types> for Client {
    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        self.ask_for_vote(VOTE, &request, option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        self.ask_for_vote(PRE_VOTE, &request, option.hard_ttl())
            .await
    }
}

impl Client {
    async fn ask_for_vote(
        &self,
        method: aegis_peers::Method,
        request: &VoteRequest<Types>,
        within: Duration,
    ) -> Result<VoteResponse<Types>, RpcError> {
        let body = wire::encode(&wire::VoteRequest::V1 {
            vote: request.vote.into(),
            last: request.last_log_id.map(Into::into),
            transfer: request.leadership_transfer,
        });
        let answer = self.call(method, body, within).await?;
        let wire::VoteAnswer::V1 {
            vote,
            granted,
            last,
        } = wire::decode(&answer).map_err(|error| unreachable(&error))?;
        Ok(VoteResponse::new(
            Vote::from(vote),
            last.map(Into::into),
            granted,
        ))
    }
}

impl NetTransferLeader<Types> for Client {
    /// Tells the peer who shall lead. The leader has stopped taking proposals by now and
    /// there is no way back, so a message that is certainly lost is sent again.
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RpcError> {
        let body = wire::encode(&wire::Transfer::V1 {
            leader: (*request.from_leader()).into(),
            to: *request.to_node_id(),
            last: request.last_log_id().map(|last| (*last).into()),
        });
        let mut answer = self.call(TRANSFER, body.clone(), option.hard_ttl()).await;
        for _ in 1..TRANSFER_ATTEMPTS {
            if answer.is_ok() {
                break;
            }
            answer = self.call(TRANSFER, body.clone(), option.hard_ttl()).await;
        }
        let TransferAnswer::V1(result) =
            wire::decode(&answer?).map_err(|error| unreachable(&error))?;
        Ok(match result {
            wire::TransferResult::Accepted => Ok(()),
            wire::TransferResult::Outvoted { actual } => Err(TransferLeaderError::VoteChanged {
                expected: *request.from_leader(),
                actual: actual.into(),
            }),
            wire::TransferResult::Behind { actual } => Err(TransferLeaderError::LogNotFlushed {
                expected: request.last_log_id().copied(),
                actual: actual.map(Into::into),
            }),
        })
    }
}

/// How often the wish to transfer leadership is sent before it is given up.
const TRANSFER_ATTEMPTS: usize = 3;

impl NetSnapshot<Types> for Client {
    type SnapshotData = SnapshotData;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<Types, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let sending = snapshot::send(
            &self.network.snapshots,
            &self.network.peers,
            node_id(self.target),
            vote,
            snapshot,
            option.hard_ttl(),
        );
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = sending => sent,
        }
    }
}

/// An error of the transport as openraft understands it: whether to try again at once, or
/// after a pause.
pub(crate) fn rpc_error(error: &PeerError) -> RpcError {
    match error {
        PeerError::TimedOut { .. } | PeerError::Broken { .. } => network_error(error),
        _ => unreachable(error),
    }
}

fn network_error<E: std::error::Error + 'static>(error: &E) -> RpcError {
    NetworkError::new(error).into()
}

fn unreachable<E: std::error::Error + 'static>(error: &E) -> RpcError {
    Unreachable::new(error).into()
}

/// A follower left appends unanswered.
#[derive(Debug, thiserror::Error)]
#[error("node {node} has answered no append for {after:?}")]
struct Silence {
    node: RawId,
    after: Duration,
}

/// A follower refused an append because of its stamps.
#[derive(Debug, thiserror::Error)]
#[error("node {node} refuses the stamp {stamp_ms} at its time {clock_ms}")]
struct Ahead {
    node: RawId,
    stamp_ms: u64,
    clock_ms: u64,
}
