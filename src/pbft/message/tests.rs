use aegis_crypto::certificate::Certificate;
use proptest::prelude::*;

use super::*;
use crate::testing::{Seat, committee, head, prepared, scope, stable, value};

/// One message of each kind, all of the same seats and values.
fn samples() -> Vec<Message> {
    let (committee, approved) = (committee(4), value(5, "approved"));
    let stable = stable(&committee, Seat::signing, head(4, "tree"));
    let proof = prepared(&committee, Seat::signing, 0, 5, &approved);
    let changes = vec![
        Seat::signing(0).view_change(1, Some(stable.clone()), vec![]),
        Seat::signing(1).view_change(1, None, vec![proof]),
        Seat::signing(3).view_change(1, None, vec![]),
    ];
    let committed = (0..3)
        .map(|seat| {
            let commit = Seat::signing(seat).commit(0, 5, &approved);
            (SeatNo(seat), commit.signature.0)
        })
        .collect();
    let statement = approved.statement().to_owned();
    let certificate = Certificate::assemble(&committee, 0, 5, statement, committed).unwrap();
    vec![
        Message::PrePrepare(Seat::signing(0).pre_prepare(0, 5, &approved)),
        Message::Prepare(Seat::signing(2).prepare(0, 5, approved.digest())),
        Message::Commit(Seat::signing(2).commit(0, 5, &approved)),
        Message::Checkpoint(Seat::signing(2).checkpoint(head(4, "tree"))),
        Message::ViewChange(changes[1].clone()),
        Message::NewView(Seat::signing(1).begin(1, changes)),
        Message::Certificate(certificate.to_envelope(&committee).into_bytes()),
        Message::Stable(stable),
    ]
}

fn frame(message: Message) -> Frame {
    let scope = scope();
    Frame { scope, message }
}

fn pinned(bytes: &[u8]) -> (usize, String) {
    let digest = Digest::of(bytes).to_string();
    (bytes.len(), digest.chars().take(16).collect())
}

#[test]
fn the_encodings_are_pinned() {
    let encoded: Vec<_> = samples()
        .into_iter()
        .map(|message| (message.kind(), pinned(&frame(message).encode())))
        .collect();
    let pins = [
        ("pre_prepare", 237, "e2bb4ea21b7436ff"),
        ("prepare", 136, "25c11f927014e500"),
        ("commit", 238, "9f5a890188b60fda"),
        ("checkpoint", 168, "fa3bab6fd2015420"),
        ("view_change", 439, "f4f5767263080443"),
        ("new_view", 1111, "bd5211e529a89416"),
        ("certificate", 825, "5fb28c78dd73791b"),
        ("stable", 301, "d5245d3fe623bf04"),
    ];
    assert_eq!(
        encoded,
        pins.map(|(kind, len, hash)| (kind, (len, hash.to_owned())))
    );
}

/// What each kind of signature covers, as text where it is text.
#[test]
fn the_signed_bytes_are_pinned() {
    let (scope, approved) = (scope(), value(5, "approved"));
    let (view, sequence) = (View(1), Sequence(5));
    let name = approved.digest();
    assert_eq!(
        String::from_utf8(scope.commit(view, sequence, approved.statement())).unwrap(),
        concat!(
            "DSSEv1 38 application/vnd.aegis.decision.v1+json 183 ",
            r#"{"epoch":"0","sequence":"5","statement":{"#,
            r#""cluster":"484551ba038426dd9ff2d2f0c83cb3c3845eddf793dc937421255cd6873a67b8","#,
            r#""incarnation":"3","ordinal":"5","outcome":"approved"},"view":"1"}"#
        )
    );
    assert_eq!(
        scope.note(&head(4, "tree")).to_text(),
        "aegis/484551ba038426dd9ff2d2f0c83cb3c3845eddf793dc937421255cd6873a67b8\n\
         10\n\
         3Jxe24stR55pe0sLirh08ysyUThZjOnnt1nrgpIRBiI=\n\
         incarnation 3\n\
         epoch 0\n\
         ordinal 4\n\
         chain 9414886b1ebf025db067a4cbd13a0903fbd9733a5372bba1b58bd72c1699b798\n"
    );
    for (bytes, start) in [
        (
            scope.pre_prepare(view, sequence, &name),
            "DSSEv1 36 application/vnd.aegis.pre-prepare.v1 32 ",
        ),
        (
            scope.prepare(view, sequence, &name),
            "DSSEv1 32 application/vnd.aegis.prepare.v1 32 ",
        ),
        (
            Scope::view_change(&name),
            "DSSEv1 36 application/vnd.aegis.view-change.v1 32 ",
        ),
        (
            Scope::new_view(&name),
            "DSSEv1 33 application/vnd.aegis.new-view.v1 32 ",
        ),
    ] {
        let text = bytes.escape_ascii();
        assert!(bytes.starts_with(start.as_bytes()), "{text}");
        assert_eq!(bytes.len(), start.len() + 32, "{text}");
    }
    let changes = [Seat::signing(2).view_change(1, None, vec![])];
    let proposals = [(sequence, name)];
    let pins = [
        scope.pre_prepare(view, sequence, &name),
        scope.prepare(view, sequence, &name),
        Scope::view_change(&scope.view_change_digest(view, None, &[])),
        Scope::new_view(&scope.new_view_digest(view, &changes, proposals.into_iter())),
        scope
            .link(&Digest::of("chain"), sequence, &name)
            .as_bytes()
            .to_vec(),
    ]
    .map(|bytes| pinned(&bytes).1);
    assert_eq!(
        pins,
        [
            "757c87ca08ff0368",
            "36de1205312320ce",
            "6659027e5cbab9fd",
            "7ef300c6579f793a",
            "3492572022d70e76",
        ]
    );
}

/// No two kinds sign the same bytes, though all are about one place and one value.
#[test]
fn no_signature_of_one_kind_passes_for_another() {
    let (scope, value) = (scope(), value(5, "approved"));
    let (view, sequence, name) = (View(1), Sequence(5), value.digest());
    let mut all = vec![
        scope.pre_prepare(view, sequence, &name),
        scope.prepare(view, sequence, &name),
        scope.commit(view, sequence, value.statement()),
        scope.note(&head(5, "tree")).to_text().into_bytes(),
        Scope::view_change(&name),
        Scope::new_view(&name),
    ];
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[test]
fn what_is_encoded_is_decoded() {
    for message in samples() {
        let frame = frame(message);
        assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }
}

#[test]
fn trailing_bytes_other_versions_and_too_many_bytes_are_refused() {
    let mut bytes = frame(samples().remove(1)).encode();
    bytes.push(0);
    let refusal = Frame::decode(&bytes).unwrap_err().to_string();
    assert!(refusal.ends_with("1 bytes too many"), "{refusal}");
    bytes.pop();
    bytes[0] = 1;
    assert!(matches!(
        Frame::decode(&bytes),
        Err(DecodeError::Format { .. })
    ));
    let found = MESSAGE_BYTES_MAX + 1;
    assert_eq!(
        Frame::decode(&vec![0; found]),
        Err(DecodeError::Long { found })
    );
}

/// A length that is only claimed is no reason to reserve room: each of these claims
/// 2^60 elements and ends there. An attempt to allocate them would abort the test.
#[test]
fn a_claimed_length_allocates_nothing() {
    let scope = postcard::to_allocvec(&scope()).unwrap();
    let huge: &[u8] = &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
    let none: &[u8] = &[0];
    let head = postcard::to_allocvec(&head(4, "tree")).unwrap();
    for message in [
        [&[0, 1, 5], huge].concat(),            // a proposal's statement
        [&[0, 1, 5], none, huge].concat(),      // its attachment
        [&[1, 1, 5], huge].concat(),            // a digest
        [&[4, 1], none, huge].concat(),         // a view change's proofs
        [&[5, 1], huge].concat(),               // a new view's view changes
        [&[5, 1], none, huge].concat(),         // its proposals
        [&[6], huge].concat(),                  // a certificate's envelope
        [&[7], head.as_slice(), huge].concat(), // a stable checkpoint's signatures
    ] {
        let bytes = [none, &scope, &message].concat();
        assert!(Frame::decode(&bytes).is_err(), "{}", bytes.escape_ascii());
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Frame::decode(&bytes);
        // And behind a valid version and scope, where there is more to read.
        let scope = postcard::to_allocvec(&scope()).unwrap();
        let _ = Frame::decode(&[&[0], scope.as_slice(), &bytes].concat());
    }

    #[test]
    fn altered_messages_never_panic(
        which in 0..8_usize,
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        thread_local! {
            static SAMPLES: Vec<Vec<u8>> =
                samples().into_iter().map(|message| frame(message).encode()).collect();
        }
        let mut bytes = SAMPLES.with(|samples| samples[which].clone());
        for (place, byte) in places {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let _ = Frame::decode(&bytes);
        let cut = cut.index(bytes.len());
        let _ = Frame::decode(&bytes[..cut]);
    }
}
