//! A network that fails on demand, between a node's server and its service.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, ready};

use aegis_peers::{FrameStream, Lane, Method, Peer, Refusal, Service};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

/// What is wrong with the network of a cluster.
#[derive(Default)]
pub struct Faults {
    /// Directions in which nothing arrives.
    cuts: Mutex<BTreeSet<(u64, u64)>>,
    /// Of a million messages, how many are lost.
    loss_ppm: AtomicU32,
    /// The state of the generator of losses, so that a run can be repeated.
    random: AtomicU64,
    /// Bytes of calls that came in on the connections for what is large.
    bulk_bytes: AtomicU64,
}

impl Faults {
    /// Cuts a node off from all others, in both directions.
    pub fn isolate(&self, node: u64, others: impl IntoIterator<Item = u64>) {
        let mut cuts = self.cuts.lock().unwrap();
        for other in others.into_iter().filter(|other| *other != node) {
            cuts.extend([(node, other), (other, node)]);
        }
    }

    /// Cuts two nodes off from each other.
    pub fn cut(&self, one: u64, other: u64) {
        self.cuts
            .lock()
            .unwrap()
            .extend([(one, other), (other, one)]);
    }

    /// Bytes of snapshots that were received so far.
    pub fn bulk_bytes(&self) -> u64 {
        self.bulk_bytes.load(Ordering::Relaxed)
    }

    /// Lets everything through again.
    pub fn heal(&self) {
        self.cuts.lock().unwrap().clear();
        self.loss_ppm.store(0, Ordering::Relaxed);
    }

    /// Loses messages at random.
    pub fn lose(&self, ppm: u32) {
        self.loss_ppm.store(ppm, Ordering::Relaxed);
    }

    /// Whether a message from `from` to `to` is lost.
    fn loses(&self, from: u64, to: u64) -> bool {
        if self.cuts.lock().unwrap().contains(&(from, to)) {
            return true;
        }
        let loss_ppm = u64::from(self.loss_ppm.load(Ordering::Relaxed));
        loss_ppm > 0 && self.next_random() % 1_000_000 < loss_ppm
    }

    /// SplitMix64.
    fn next_random(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self
            .random
            .fetch_add(STEP, Ordering::Relaxed)
            .wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A node's service behind that network. A lost message leaves its sender without an answer,
/// whether it was lost on the way there or back.
pub struct Faulty {
    pub node: u64,
    pub faults: Arc<Faults>,
    pub service: Arc<dyn Service>,
}

impl Service for Faulty {
    fn call(
        &self,
        from: Peer,
        method: Method,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        let (node, faults, peer) = (self.node, Arc::clone(&self.faults), from.node_id.get());
        if faults.loses(peer, node) {
            return std::future::pending().boxed();
        }
        if method.lane() == Lane::Bulk {
            faults
                .bulk_bytes
                .fetch_add(body.len() as u64, Ordering::Relaxed);
        }
        let answer = self.service.call(from, method, body);
        async move {
            let answer = answer.await;
            if faults.loses(node, peer) {
                std::future::pending::<()>().await;
            }
            answer
        }
        .boxed()
    }

    fn stream(
        &self,
        from: Peer,
        method: Method,
        input: FrameStream,
    ) -> BoxFuture<'static, Result<FrameStream, Refusal>> {
        let (node, peer) = (self.node, from.node_id.get());
        let input = fall_silent(input, Arc::clone(&self.faults), (peer, node));
        let output = self.service.stream(from, method, input);
        let faults = Arc::clone(&self.faults);
        async move { Ok(fall_silent(output.await?, faults, (node, peer))) }.boxed()
    }
}

/// A stream whose messages come in order or not at all: after a lost one nothing follows but
/// the end, when its other side gives it up.
fn fall_silent(
    mut stream: FrameStream,
    faults: Arc<Faults>,
    (from, to): (u64, u64),
) -> FrameStream {
    let mut is_lost = false;
    futures::stream::poll_fn(move |cx| {
        loop {
            let next = ready!(stream.poll_next_unpin(cx));
            if !matches!(next, Some(Ok(_))) {
                return Poll::Ready(next);
            }
            is_lost |= faults.loses(from, to);
            if !is_lost {
                return Poll::Ready(next);
            }
        }
    })
    .boxed()
}
