//! What stands for the replicated ledger: closings, and the certificates recorded for
//! them, in one order that every validator's own ledger follows at its own pace.

use std::collections::BTreeMap;

use aegis_crypto::certificate::Certificate;
use aegis_crypto::{Committee, Digest, Hasher, SeatNo};
use aegis_pbft::{Request, Scope, Sequence, Value};

/// One entry of the ledger's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A closing.
    Closed(Sequence),
    /// The first certificate for one.
    Recorded(Sequence, Digest),
}

/// What a validator's private checks say of a closing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opinion {
    /// Nothing speaks against the ledger's outcome.
    #[default]
    Plain,
    /// A ballot was left out: nothing is agreed to that was not prepared before.
    Objected,
    /// So many object that the outcome is contested.
    Contested,
}

/// Why the ledger does not take a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotRecorded {
    /// It does not verify.
    Invalid,
    /// Its statement is about something else: another cluster, incarnation or ordinal.
    Foreign,
}

/// The ledger's whole history.
#[derive(Clone, Debug)]
pub struct History {
    scope: Scope,
    closings: u64,
    entries: Vec<Entry>,
    recorded: BTreeMap<Sequence, Digest>,
    opinions: BTreeMap<(SeatNo, Sequence), Opinion>,
    /// Seats whose ledger says something else about every closing.
    forked: BTreeMap<SeatNo, &'static str>,
}

impl History {
    pub(crate) const fn new(scope: Scope) -> Self {
        Self {
            scope,
            closings: 0,
            entries: Vec::new(),
            recorded: BTreeMap::new(),
            opinions: BTreeMap::new(),
            forked: BTreeMap::new(),
        }
    }

    /// Closes the next proposal.
    pub(crate) fn close(&mut self) -> Sequence {
        self.closings += 1;
        let sequence = Sequence(self.closings);
        self.entries.push(Entry::Closed(sequence));
        sequence
    }

    /// How many closings there are.
    #[must_use]
    pub const fn closings(&self) -> u64 {
        self.closings
    }

    /// The entries in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The value that is certified for a closing.
    #[must_use]
    pub fn recorded(&self, sequence: Sequence) -> Option<Digest> {
        self.recorded.get(&sequence).copied()
    }

    /// How many closings are certified.
    #[must_use]
    pub fn certified(&self) -> usize {
        self.recorded.len()
    }

    fn statement(&self, sequence: Sequence, outcome: &str, evidence: Option<Digest>) -> String {
        let Scope {
            cluster,
            incarnation,
            ..
        } = self.scope;
        let evidence = evidence
            .map(|digest| format!(r#""evidence":"{digest}","#))
            .unwrap_or_default();
        format!(
            r#"{{"cluster":"{cluster}",{evidence}"incarnation":"{incarnation}","ordinal":"{sequence}","outcome":"{outcome}"}}"#
        )
    }

    /// A value with another outcome than the ledger's.
    #[must_use]
    pub fn value(&self, sequence: Sequence, outcome: &str) -> Value {
        Value::new(&self.statement(sequence, outcome, None), b"").expect("it is short")
    }

    /// What the ledger says of a closing.
    #[must_use]
    pub fn plain(&self, sequence: Sequence) -> Value {
        self.value(sequence, "approved")
    }

    /// What is agreed on where f + 1 object, with their objections attached.
    #[must_use]
    pub fn contested(&self, sequence: Sequence) -> Value {
        let attachment = format!("objections to {sequence}");
        let evidence = Some(Digest::of(&attachment));
        let statement = self.statement(sequence, "contested", evidence);
        Value::new(&statement, attachment.as_bytes()).expect("it is short")
    }

    /// What a seat privately makes of a closing.
    #[must_use]
    pub fn opinion(&self, seat: SeatNo, sequence: Sequence) -> Opinion {
        self.opinions
            .get(&(seat, sequence))
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn set_opinion(&mut self, seat: SeatNo, sequence: Sequence, opinion: Opinion) {
        self.opinions.insert((seat, sequence), opinion);
    }

    /// Lets a seat's ledger say something else about every closing.
    pub fn fork(&mut self, seat: SeatNo, outcome: &'static str) {
        self.forked.insert(seat, outcome);
    }

    /// What a seat's own ledger says.
    #[must_use]
    pub fn told(&self, seat: SeatNo, sequence: Sequence) -> Value {
        match (self.forked.get(&seat), self.opinion(seat, sequence)) {
            (Some(outcome), _) => self.value(sequence, outcome),
            (None, Opinion::Contested) => self.contested(sequence),
            (None, Opinion::Plain | Opinion::Objected) => self.plain(sequence),
        }
    }

    /// What a seat's shell tells its validator about a closing.
    #[must_use]
    pub fn request(&self, seat: SeatNo, sequence: Sequence) -> Request {
        let (tree_size, tree_root) = Self::tree(sequence);
        Request {
            sequence,
            value: self.told(seat, sequence),
            tree_size,
            tree_root,
            objected: self.opinion(seat, sequence) == Opinion::Objected,
        }
    }

    /// The transparency log as it stood at a closing.
    #[must_use]
    pub fn tree(sequence: Sequence) -> (u64, Digest) {
        let root = Hasher::tagged("aegis/sim/tree/1").u64(sequence.0).finish();
        (sequence.0 * 3, root)
    }

    /// Whether a seat's shell lets it agree to a proposal that its ledger does not say.
    #[must_use]
    pub fn acceptable(
        &self,
        seat: SeatNo,
        sequence: Sequence,
        value: &Value,
        locked: bool,
    ) -> bool {
        if sequence.0 > self.closings || self.forked.contains_key(&seat) {
            return false;
        }
        if *value == self.contested(sequence) {
            return true;
        }
        let private = self.opinion(seat, sequence) == Opinion::Plain;
        *value == self.plain(sequence) && (locked || private)
    }

    /// Records a certificate if it is the first for its closing; true if it was.
    ///
    /// # Errors
    /// One that does not verify or is about something else.
    pub(crate) fn record(
        &mut self,
        envelope: &[u8],
        committee: &Committee,
    ) -> Result<Option<Sequence>, NotRecorded> {
        let certificate = Certificate::parse(envelope)
            .and_then(|unverified| unverified.verify(committee))
            .map_err(|_| NotRecorded::Invalid)?;
        let sequence = Sequence(certificate.sequence());
        if !self.is_about(sequence, certificate.statement()) {
            return Err(NotRecorded::Foreign);
        }
        if self.recorded.contains_key(&sequence) {
            return Ok(None);
        }
        let digest = Digest::of(certificate.statement());
        self.recorded.insert(sequence, digest);
        self.entries.push(Entry::Recorded(sequence, digest));
        Ok(Some(sequence))
    }

    /// Whether a statement is about this closing of this cluster and incarnation.
    fn is_about(&self, sequence: Sequence, statement: &str) -> bool {
        let Scope {
            cluster,
            incarnation,
            ..
        } = self.scope;
        let known = (1..=self.closings).contains(&sequence.0);
        let says =
            |member: &str, value: String| statement.contains(&format!(r#""{member}":"{value}""#));
        known
            && says("cluster", cluster.to_string())
            && says("incarnation", incarnation.to_string())
            && says("ordinal", sequence.to_string())
    }

    /// The chain of certified values up to a sequence number, computed apart from the
    /// validators; none while one of them is missing.
    #[must_use]
    pub fn chain(&self, upto: Sequence) -> Option<Digest> {
        (1..=upto.0).try_fold(Digest::ZERO, |chain, number| {
            let digest = self.recorded(Sequence(number))?;
            let link = Hasher::tagged("aegis/pbft/chain/1")
                .digest(&self.scope.cluster)
                .u64(self.scope.incarnation)
                .u64(self.scope.epoch)
                .digest(&chain)
                .u64(number)
                .digest(&digest);
            Some(link.finish())
        })
    }
}
