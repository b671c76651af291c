//! What other nodes may say to this validator.

use std::sync::Arc;

use aegis_peers::{FrameStream, Peer};
use futures::{StreamExt, stream};

use crate::inbox::Inbox;
use crate::observer::{Dropped, Observer};

/// Takes a node's messages as they come. The stream that it returns answers nothing, and ends
/// with theirs.
pub(crate) fn receive(
    from: Peer,
    input: FrameStream,
    inbox: Arc<Inbox>,
    observer: Arc<dyn Observer>,
) -> FrameStream {
    let taking = stream::unfold(
        (input, inbox, observer),
        move |(mut input, inbox, observer)| async move {
            while let Some(message) = input.next().await {
                match message {
                    Ok(message) => {
                        if !inbox.push(from.node_id, message) {
                            observer.dropped(Dropped::Flood, 1);
                        }
                    }
                    Err(error) => {
                        tracing::debug!(node = from.node_id.get(), %error, "a validator's stream broke");
                        break;
                    }
                }
            }
            None
        },
    );
    taking.boxed()
}
