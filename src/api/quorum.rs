//! What a change of membership does to the quorum.

use crate::governance::{Member, MemberRole, MemberState, NodeId};

/// A change of the set of voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoterChange {
    /// A learner becomes a voter.
    Promote(NodeId),
    /// A node leaves.
    Remove(NodeId),
}

/// What the cluster could bear after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuorumOutlook {
    /// The voters are the same as before, or one of them may fail.
    Safe,
    /// The next failure of a voter stops the cluster.
    Risky(Quorum),
    /// Too few voters would answer: the change could not even be committed.
    Lost(Quorum),
}

/// The figures of a set of voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// Voters.
    pub voters: usize,
    /// Voters that answer.
    pub answering: usize,
    /// Voters that must answer.
    pub needed: usize,
}

/// Judges a change by the members as the leader sees them. A member counts as answering
/// unless it is known to be silent.
#[must_use]
pub fn outlook(members: &[Member], change: VoterChange) -> QuorumOutlook {
    let voted = |member: &Member| member.role == MemberRole::Voter;
    let votes = |member: &Member| match change {
        VoterChange::Promote(node) => voted(member) || member.id == node,
        VoterChange::Remove(node) => voted(member) && member.id != node,
    };
    if members.iter().all(|member| voted(member) == votes(member)) {
        return QuorumOutlook::Safe;
    }
    let voters = members.iter().filter(|member| votes(member));
    let quorum = {
        let (voters, answering) = voters.fold((0_usize, 0_usize), |(voters, answering), member| {
            let answers = member.state != MemberState::Silent;
            (voters + 1, answering + usize::from(answers))
        });
        Quorum {
            voters,
            answering,
            needed: voters / 2 + 1,
        }
    };
    if quorum.answering < quorum.needed {
        QuorumOutlook::Lost(quorum)
    } else if quorum.answering == quorum.needed {
        QuorumOutlook::Risky(quorum)
    } else {
        QuorumOutlook::Safe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(states: &[(MemberRole, MemberState)]) -> Vec<Member> {
        (1..)
            .zip(states)
            .map(|(id, (role, state))| Member {
                id: NodeId(id),
                name: format!("n{id}"),
                role: *role,
                peer_address: String::new(),
                api_address: String::new(),
                state: *state,
                lag: None,
                silent_for: None,
            })
            .collect()
    }

    /// `L` leads, `F` follows, `S` is a silent voter, `?` an unknown one; `l` is a learner
    /// and `s` a silent one.
    fn cluster(text: &str) -> Vec<Member> {
        let states: Vec<_> = text
            .chars()
            .map(|letter| match letter {
                'L' => (MemberRole::Voter, MemberState::Leading),
                'F' => (MemberRole::Voter, MemberState::Following),
                'S' => (MemberRole::Voter, MemberState::Silent),
                '?' => (MemberRole::Voter, MemberState::Unknown),
                'l' => (MemberRole::Learner, MemberState::Following),
                _ => (MemberRole::Learner, MemberState::Silent),
            })
            .collect();
        members(&states)
    }

    fn name(outlook: QuorumOutlook) -> &'static str {
        match outlook {
            QuorumOutlook::Safe => "safe",
            QuorumOutlook::Risky(_) => "risky",
            QuorumOutlook::Lost(_) => "lost",
        }
    }

    #[test]
    fn a_step_is_judged_by_what_it_leaves() {
        let promote = |id| VoterChange::Promote(NodeId(id));
        let remove = |id| VoterChange::Remove(NodeId(id));
        for (before, change, expected) in [
            ("LFFl", promote(4), "safe"),
            ("LFFl", remove(4), "safe"),
            ("LFF", remove(3), "risky"),
            ("LFFF", remove(4), "safe"),
            ("LFS", remove(3), "risky"),
            ("LFS", remove(2), "lost"),
            ("LFSl", promote(4), "risky"),
            ("LFSs", promote(4), "lost"),
            ("Ll", promote(2), "risky"),
            ("LF", remove(2), "risky"),
            ("LFFFF", remove(5), "safe"),
            ("LFFSS", remove(5), "risky"),
            ("LFFSS", remove(2), "lost"),
            ("???", remove(3), "risky"),
            ("LFF", promote(2), "safe"),
            ("LFF", remove(9), "safe"),
        ] {
            let found = outlook(&cluster(before), change);
            assert_eq!(name(found), expected, "{before} {change:?}: {found:?}");
        }
    }

    #[test]
    fn the_last_voter_leaves_nothing() {
        let found = outlook(&cluster("L"), VoterChange::Remove(NodeId(1)));
        assert_eq!(
            found,
            QuorumOutlook::Lost(Quorum {
                voters: 0,
                answering: 0,
                needed: 1
            })
        );
    }
}
