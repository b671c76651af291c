//! Recounts: equal to the ledger whatever happened, and a lie about any part is named.

use aegis_crypto::{Digest, PublicKey};
use aegis_ledger::*;

use crate::history::*;
use crate::world::*;

/// What a recount starts from.
#[derive(Clone)]
struct Parts {
    terms: RecountTerms,
    electors: Vec<(AgentId, Ppb)>,
    ballots: Vec<(String, PublicKey)>,
}

impl Parts {
    fn of(world: &World, no: ProposalNo) -> Option<Self> {
        let record = world.view(no).record;
        let terms = RecountTerms {
            cluster: world.genesis.cluster_id(),
            proposal: no,
            proposal_digest: record.digest,
            round: record.round,
            frozen: record.frozen?,
        };
        let electorate = query::electorate(&world.tables, no).unwrap().unwrap();
        let ballots = query::ballots(&world.tables, no, None, 1_000).unwrap();
        let ballots = ballots.items.into_iter().map(|(_, ballot)| {
            let checked = CheckedBallot::parse(&ballot.jws).unwrap();
            let key = query::agent_key(&world.tables, &checked.voter, &checked.kid);
            (ballot.jws, key.unwrap().unwrap())
        });
        Some(Self {
            terms,
            electors: electorate
                .electors
                .into_iter()
                .map(|elector| (elector.id, elector.power))
                .collect(),
            ballots: ballots.collect(),
        })
    }

    fn recount(self) -> Result<Recounted, RecountError> {
        let mut recount = Recount::new(self.terms, self.electors)?;
        for (jws, key) in &self.ballots {
            recount.add(jws, key)?;
        }
        Ok(recount.finish())
    }
}

#[test]
fn recounts_agree_with_the_ledger() {
    check(
        || (seats(), acts(1..80)),
        |(seats, acts)| {
            let world = play(seats, &acts).world;
            let proposals =
                query::proposals(&world.tables, &Default::default(), None, 100).unwrap();
            for view in proposals.items {
                let no = view.record.no;
                let Some(parts) = Parts::of(&world, no) else {
                    proptest::prop_assert!(
                        query::recount(&world.tables, &world.genesis, no)
                            .unwrap()
                            .is_none()
                    );
                    continue;
                };
                let recounted = parts.recount().unwrap();
                proptest::prop_assert_eq!(recounted.tally, view.tally);
                let stored = query::recount(&world.tables, &world.genesis, no).unwrap();
                proptest::prop_assert_eq!(stored.unwrap(), Ok(recounted.clone()));
                let Some(closed) = view.record.closed else {
                    continue;
                };
                if let Some(statement) = world.statement(closed.ordinal.0) {
                    proptest::prop_assert_eq!(recounted.check(&statement), Ok(()));
                }
            }
            Ok(())
        },
    );
}

/// Four voters, one of whom had another key before, and a fifth who does not vote.
fn world() -> (World, ProposalNo) {
    let mut world = World::with_committee(4).and_agents(5);
    let no = world.propose();
    world.cast(1, no, Choice::For).unwrap();
    let registration = Registration {
        key: secret(101).public().into(),
        ..world.plain(1)
    };
    let claims = world.claims(&registration);
    let sign = |n| {
        let statement =
            aegis_crypto::jws::sign(aegis_crypto::Typ::REGISTRATION, &secret(n), &claims);
        Some(statement.unwrap())
    };
    let replace = Command::ReplaceKey {
        agent: id(1),
        key: registration.key,
        attestation: sign(REGISTRAR),
        proof: sign(101),
    };
    world.admin(replace).unwrap();
    for (voter, choice) in [
        (2, Choice::For),
        (3, Choice::Against),
        (4, Choice::Abstain),
        (5, Choice::For),
    ] {
        world.cast(voter, no, choice).unwrap();
    }
    assert_eq!(world.status(no), Status::Approved);
    (world, no)
}

#[test]
fn a_ballot_signed_with_a_key_of_then_is_recounted_with_it() {
    let (world, no) = world();
    let old = query::retired_key(&world.tables, &secret(1).public().kid()).unwrap();
    let old = old.unwrap();
    assert_eq!((old.agent, old.key), (id(1), secret(1).public().into()));
    assert!(old.attestation.is_some() && old.proof.is_some());
    let parts = Parts::of(&world, no).unwrap();
    assert_eq!(parts.ballots[0].1, secret(1).public());
    let recounted = parts.recount().unwrap();
    assert_eq!(recounted.outstanding, Outstanding::default());
    assert_eq!(recounted.check(&world.statement(1).unwrap()), Ok(()));
}

fn fault(error: RecountError) -> (u64, BallotFault) {
    match error {
        RecountError::Ballot { number, fault } => (number, *fault),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tampered_ballot_is_found_and_named() {
    let (mut world, no) = world();
    let parts = Parts::of(&world, no).unwrap();
    let with = |alter: &dyn Fn(&mut Parts)| {
        let mut parts = parts.clone();
        alter(&mut parts);
        fault(parts.recount().unwrap_err())
    };
    for n in 0..parts.ballots.len() {
        let (number, found) = with(&|p| p.ballots[n].0 = forge(&p.ballots[n].0));
        assert_eq!(number, n as u64 + 1);
        assert!(matches!(found, BallotFault::Signature(_)), "{found:?}");
    }
    // Under the key of another voter, or of nobody.
    let (number, found) = with(&|p| p.ballots[1].1 = secret(3).public());
    assert!(matches!((number, found), (2, BallotFault::Signature(_))));
    let (number, found) = with(&|p| p.ballots[2].0.clear());
    assert!(matches!((number, found), (3, BallotFault::Form(_))));
    let again = parts.ballots[0].clone();
    let (number, found) = with(&|p| p.ballots.push(again.clone()));
    let voter = id(1);
    assert_eq!((number, found), (6, BallotFault::SecondBallot { voter }));

    let key = secret(2).public();
    let resigned = |alter: &dyn Fn(&mut aegis_crypto::claims::VoteClaims)| {
        let mut claims = world.vote(2, no, Choice::For);
        alter(&mut claims);
        let jws = world.sign(2, &claims).jws;
        with(&|p| p.ballots[1] = (jws.clone(), key))
    };
    for (field, alter) in [
        (
            "aud",
            (|c| c.aud = Digest::ZERO) as fn(&mut aegis_crypto::claims::VoteClaims),
        ),
        ("proposal", |c| c.proposal = "prop_2".into()),
        ("digest", |c| c.digest = Digest::ZERO),
        ("round", |c| c.round = 2),
    ] {
        let (number, found) = resigned(&alter);
        let BallotFault::Mismatch { field: named, .. } = found else {
            panic!("{found:?}")
        };
        assert_eq!((number, named), (2, field));
    }
    let (_, found) = resigned(&|c| c.sub = "a9".into());
    assert_eq!(
        found,
        BallotFault::NotAnElector {
            voter: "a9".parse().unwrap()
        }
    );
    let (_, found) = resigned(&|c| c.iat += 10_000_000);
    assert!(matches!(found, BallotFault::TooLate { .. }), "{found:?}");

    // The table holds a ballot that nobody signed.
    let vote = VoteId {
        proposal: no,
        number: 4,
    };
    let mut ballot = query::ballot(&world.tables, vote).unwrap().unwrap();
    ballot.jws = forge(&ballot.jws);
    world.tables.write(vec![ballot.put(key::vote(vote))]);
    let stored = query::recount(&world.tables, &world.genesis, no).unwrap();
    assert_eq!(fault(stored.unwrap().unwrap_err()).0, 4);
}

#[test]
fn tampered_terms_are_found_and_named() {
    let (world, no) = world();
    let parts = Parts::of(&world, no).unwrap();
    type Alter = fn(&mut Parts);
    let cases: [(&str, Alter); 10] = [
        ("tally_version", |p| p.terms.frozen.tally_version += 1),
        ("electorate_size", |p| p.terms.frozen.electorate_size += 1),
        ("electorate_size", |p| {
            p.electors.pop();
        }),
        ("power_total", |p| p.terms.frozen.power_total += 1),
        ("power_total", |p| p.electors[0].1 = Ppb(7)),
        ("electorate_root", |p| {
            p.electors[0].0 = "a0".parse().unwrap()
        }),
        ("quorum_required", |p| p.terms.frozen.quorum_required = 1),
        ("voting_digest", |p| p.terms.proposal_digest = Digest::ZERO),
        ("voting_digest", |p| {
            p.terms.frozen.method = Method::Unanimous
        }),
        ("voting_digest", |p| p.terms.frozen.deadline.0 += 1),
    ];
    for (term, alter) in cases {
        let mut altered = parts.clone();
        alter(&mut altered);
        match altered.recount() {
            Err(RecountError::Terms { field, .. }) => assert_eq!(field, term),
            other => panic!("{term}: {other:?}"),
        }
    }
    let mut swapped = parts.clone();
    swapped.electors.swap(0, 1);
    let mut twice = parts;
    twice.electors[1] = twice.electors[0].clone();
    for parts in [swapped, twice] {
        assert!(matches!(parts.recount(), Err(RecountError::Order { .. })));
    }
}

#[test]
fn a_tampered_statement_is_found_and_named() {
    let (world, no) = world();
    let good = world.statement(1).unwrap();
    let recounted = Parts::of(&world, no).unwrap().recount().unwrap();
    type Alter = fn(&mut Statement);
    let cases: [(&str, Alter); 12] = [
        ("cluster", |s| s.cluster = Digest::ZERO),
        ("proposal", |s| s.proposal.0 += 1),
        ("proposal_digest", |s| s.proposal_digest = Digest::ZERO),
        ("round", |s| s.round += 1),
        ("voting.digest", |s| s.voting = None),
        ("voting.electorate_root", |s| {
            s.voting.as_mut().unwrap().electorate_root = Digest::ZERO;
        }),
        ("voting.electorate_size", |s| {
            s.voting.as_mut().unwrap().electorate_size += 1;
        }),
        ("ballots_count", |s| s.ballots_count -= 1),
        ("ballots_root", |s| s.ballots_root = Digest::ZERO),
        ("result", |s| s.result = Digest::ZERO),
        ("outcome", |s| s.outcome = Outcome::Rejected),
        ("final_after", |s| s.final_after.0 += 1),
    ];
    for (member, alter) in cases {
        let mut statement = good.clone();
        alter(&mut statement);
        match recounted.check(&statement) {
            Err(RecountError::Statement { field, .. }) => assert_eq!(field, member),
            other => panic!("{member}: {other:?}"),
        }
    }
    // A ballot left out, or two in another order, give other roots.
    for alter in [
        (|p| {
            p.ballots.remove(2);
        }) as fn(&mut Parts),
        |p| p.ballots.swap(0, 1),
    ] {
        let mut parts = Parts::of(&world, no).unwrap();
        alter(&mut parts);
        let error = parts.recount().unwrap().check(&good).unwrap_err();
        let RecountError::Statement { field, .. } = error else {
            panic!("{error:?}")
        };
        assert!(field.starts_with("ballots_"), "{field}");
    }
}
