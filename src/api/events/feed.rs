//! Pages of rendered events, shared by subscribers.
//!
//! Subscribers that keep up all want the same few events at the same time, so the newest
//! are rendered once and kept. Whoever resumes further back reads the tables alone.

use std::collections::VecDeque;
use std::sync::Arc;

use aegis_ledger::query::{self, Events};
use aegis_ledger::{Archive, ArchiveError, EventPosition};
use tokio::sync::{Mutex, watch};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::render::render;
use crate::edge::Edge;
use crate::governance::Consistency;
use crate::problem::Problem;
use crate::server::call::off_thread;

/// Events of one page.
const PAGE_EVENTS: usize = 256;
/// Rendered events that are kept.
const KEPT_EVENTS_MAX: usize = 4_096;
/// Bytes of rendered events that are kept.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// An event as it is sent.
#[derive(Clone)]
pub(super) struct Rendered {
    pub(super) position: EventPosition,
    pub(super) text: Utf8Bytes,
}

/// Events from a number on.
pub(super) enum Page {
    /// These, and none yet if it is empty.
    Events(Vec<Rendered>),
    /// They are no longer kept; this is the oldest that is.
    Gone(EventPosition),
}

/// The newest events, rendered.
#[derive(Default)]
struct Recent {
    /// The number of the first.
    first: u64,
    events: VecDeque<Rendered>,
    bytes: usize,
}

impl Recent {
    /// The number after the last.
    fn end(&self) -> u64 {
        self.first + u64::try_from(self.events.len()).unwrap_or(u64::MAX)
    }

    fn page(&self, from: u64) -> Vec<Rendered> {
        let skipped = usize::try_from(from - self.first).unwrap_or(usize::MAX);
        let page = self.events.iter().skip(skipped).take(PAGE_EVENTS);
        page.cloned().collect()
    }

    /// Begins anew at a number, after which nobody has asked for what is kept.
    fn restart(&mut self, first: u64) {
        *self = Self {
            first,
            ..Self::default()
        };
    }

    fn extend(&mut self, events: &[Rendered]) {
        for event in events {
            self.bytes += event.text.len();
            self.events.push_back(event.clone());
        }
        while self.events.len() > KEPT_EVENTS_MAX || self.bytes > KEPT_BYTES_MAX {
            let Some(gone) = self.events.pop_front() else {
                return;
            };
            self.first += 1;
            self.bytes -= gone.text.len();
        }
    }
}

/// The events of a node.
pub(super) struct Feed {
    edge: Arc<Edge>,
    /// Held while the next page is read, so that one subscriber reads it for all.
    recent: Mutex<Recent>,
}

impl Feed {
    pub(super) fn new(edge: Arc<Edge>) -> Self {
        Self {
            edge,
            recent: Mutex::default(),
        }
    }

    pub(super) const fn edge(&self) -> &Arc<Edge> {
        &self.edge
    }

    /// How many events there are, as it grows.
    pub(super) fn numbers(&self) -> watch::Receiver<u64> {
        self.edge.governance.event_numbers()
    }

    /// The events from a number on: as many as a page takes, or as there are.
    pub(super) async fn page(&self, from: u64) -> Result<Page, Problem> {
        let mut recent = self.recent.lock().await;
        if from < recent.first {
            drop(recent);
            return self.read(from).await;
        }
        if from < recent.end() {
            return Ok(Page::Events(recent.page(from)));
        }
        if from > recent.end() {
            recent.restart(from);
        }
        let page = self.read(from).await?;
        if let Page::Events(events) = &page {
            recent.extend(events);
        }
        Ok(page)
    }

    async fn read(&self, from: u64) -> Result<Page, Problem> {
        let view = self.edge.governance.view(Consistency::Stale).await?;
        off_thread(&self.edge, view, move |archive| read(archive, from)).await
    }
}

fn read(archive: &dyn Archive, from: u64) -> Result<Page, ArchiveError> {
    let events = match query::events(archive, from, PAGE_EVENTS)? {
        Events::Gone { oldest } => return Ok(Page::Gone(oldest)),
        Events::Page { events, .. } => events,
    };
    let rendered = events.iter().map(|event| {
        Ok(Rendered {
            position: event.position,
            text: render(archive, event)?.into(),
        })
    });
    Ok(Page::Events(rendered.collect::<Result<_, ArchiveError>>()?))
}

#[cfg(test)]
mod tests {
    use aegis_ledger::LogIndex;

    use super::*;

    fn events(numbers: std::ops::Range<u32>, len: usize) -> Vec<Rendered> {
        numbers
            .map(|ordinal| Rendered {
                position: EventPosition {
                    index: LogIndex(1),
                    ordinal,
                },
                text: "x".repeat(len).into(),
            })
            .collect()
    }

    fn ordinals(page: &[Rendered]) -> Vec<u32> {
        page.iter().map(|event| event.position.ordinal).collect()
    }

    #[test]
    fn pages_are_found_by_number() {
        let mut recent = Recent::default();
        recent.restart(10);
        recent.extend(&events(10..20, 1));
        assert_eq!(recent.end(), 20);
        assert_eq!(ordinals(&recent.page(17)), [17, 18, 19]);
        assert!(recent.page(20).is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_and_bytes() {
        let mut recent = Recent::default();
        recent.extend(&events(0..5_000, 1));
        assert_eq!(
            (recent.events.len(), recent.end()),
            (KEPT_EVENTS_MAX, 5_000)
        );
        assert_eq!(ordinals(&recent.page(4_999)), [4_999]);
        recent.extend(&events(5_000..5_100, 100_000));
        assert!(recent.bytes <= KEPT_BYTES_MAX, "{}", recent.bytes);
        assert_eq!(ordinals(&recent.page(5_099)), [5_099]);
    }
}
