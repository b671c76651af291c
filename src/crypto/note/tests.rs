use proptest::prelude::*;

use super::*;
use crate::SecretKey;

/// The example in the documentation of Go's `golang.org/x/mod/sumdb/note`.
const GO_TEXT: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n";
const GO_LINE: &str = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1\
    FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
const GO_OTHER_LINE: &str = "\u{2014} EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp\
    +vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";
/// Names, ids and keys, the latter preceded by their type, of the example.
const GO_KEY: (&str, &str, &str) = (
    "PeterNeumann",
    "c74f20a3",
    "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
);
const GO_OTHER_KEY: (&str, &str, &str) = (
    "EnochRoot",
    "af0cfe78",
    "ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop",
);
/// The example's private key, preceded by its type.
const GO_SECRET: &str = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";

/// The example of <https://c2sp.org/tlog-checkpoint>, whose key it does not tell.
const SOFA: &str = "example.com/behind-the-sofa\n20852163\n\
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
    \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zh\
    cyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";

/// A checkpoint of ours with signatures by the keys whose seeds are all 0 and all 1, made
/// with Python's `cryptography`.
const PYTHON: &str = "\
aegis/164cf1ca8391532e4f239c556c0c19589ae8877cb25ecfaf0b310c6c3713ba1f
3
rra8/idLcKFPsGel5VeCZNsPqbUa9eC6FZFY8yngbnc=
epoch 0

\u{2014} aegis/164cf1ca8391532e4f239c556c0c19589ae8877cb25ecfaf0b310c6c3713ba1f/seat-0 \
    1L4sLkDkQiqDjnEBO3Mk+H2Jlfwi/s1BjEMGkpGf1pav8K2Z02YvA1p9cqqJGnB4sdSJ5888VpMy8dFoiP02KWLANA8=
\u{2014} aegis/164cf1ca8391532e4f239c556c0c19589ae8877cb25ecfaf0b310c6c3713ba1f/seat-1 \
    fayWN+h4sjtzLBMNiUQ+89+ENXQT14cs4qMPhGtbbA9mU2sJoe0uSmIPLruECn7IGUz0ToCIH6ffjizSgOkVy+N0rQg=
";

const ORIGIN: &str = "aegis/164cf1ca8391532e4f239c556c0c19589ae8877cb25ecfaf0b310c6c3713ba1f";

fn secret(seat: u8) -> SecretKey {
    SecretKey::from_seed(&[seat; 32])
}

fn note_key(seat: u8) -> NoteKey {
    NoteKey::new(format!("{ORIGIN}/seat-{seat}"), secret(seat).public()).unwrap()
}

fn body() -> CheckpointBody {
    let root = "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77";
    let extensions = vec!["epoch 0".to_owned()];
    CheckpointBody::new(ORIGIN.to_owned(), 3, root.parse().unwrap(), extensions).unwrap()
}

fn line(seat: u8) -> SignatureLine {
    note_key(seat).line(&secret(seat).sign(&signed_text(&body())))
}

fn go_key((name, id, key): (&str, &str, &str)) -> NoteKey {
    let bytes = STANDARD.decode(key).unwrap();
    let key = PublicKey::from_bytes(bytes[1..].try_into().unwrap()).unwrap();
    let key = NoteKey::new(name.to_owned(), key).unwrap();
    assert_eq!(key.id().to_string(), id);
    key
}

fn go_note() -> Note {
    Note::parse(format!("{GO_TEXT}\n{GO_LINE}{GO_OTHER_LINE}").as_bytes()).unwrap()
}

fn names(signers: BTreeSet<&NoteKey>) -> Vec<&str> {
    signers.into_iter().map(NoteKey::name).collect()
}

#[test]
fn the_example_of_go_verifies() {
    let note = go_note();
    assert_eq!(note.text(), GO_TEXT);
    assert_eq!(note.signatures()[1].name(), "EnochRoot");
    let keys = [go_key(GO_KEY), go_key(GO_OTHER_KEY)];
    assert_eq!(note.signatures()[1].key_id(), keys[1].id());
    assert_eq!(
        names(note.verify(&keys).unwrap()),
        ["EnochRoot", "PeterNeumann"]
    );
    assert_eq!(names(note.verify(&keys[..1]).unwrap()), ["PeterNeumann"]);
}

#[test]
fn the_example_of_go_is_signed_again_to_the_same_bytes() {
    let seed = STANDARD.decode(GO_SECRET).unwrap();
    let secret = SecretKey::from_seed(seed[1..].try_into().unwrap());
    let key = go_key(GO_KEY);
    assert_eq!(&secret.public(), key.public_key());
    let line = key.line(&secret.sign(GO_TEXT.as_bytes()));
    let note = Note::new(GO_TEXT.to_owned(), vec![line]).unwrap();
    assert_eq!(note.to_text(), format!("{GO_TEXT}\n{GO_LINE}"));
}

#[test]
fn the_example_of_a_checkpoint_is_read() {
    let note = Note::parse(SOFA.as_bytes()).unwrap();
    assert_eq!(note.to_text(), SOFA);
    let body = CheckpointBody::parse(note.text()).unwrap();
    assert_eq!(body.origin(), "example.com/behind-the-sofa");
    assert_eq!(body.size(), 20_852_163);
    let root = "0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62";
    assert_eq!(body.root().to_string(), root);
    assert!(body.extensions().is_empty());
    assert_eq!(body.to_text(), note.text());
}

#[test]
fn a_checkpoint_of_ours_has_golden_bytes() {
    let text = String::from_utf8(signed_text(&body())).unwrap();
    assert_eq!(text, body().to_text());
    let note = Note::new(text, vec![line(0), line(1)]).unwrap();
    assert_eq!(note.to_text(), PYTHON);
    let parsed = Note::parse(PYTHON.as_bytes()).unwrap();
    assert_eq!(parsed, note);
    assert_eq!(CheckpointBody::parse(parsed.text()), Ok(body()));
    assert_eq!(parsed.verify(&[note_key(0), note_key(1)]).unwrap().len(), 2);
}

#[test]
fn strangers_are_ignored_and_a_known_key_never_lies() {
    let text = body().to_text();
    let note = |lines: Vec<SignatureLine>| Note::new(text.clone(), lines).unwrap();
    let bad = secret(1).sign(b"something else");
    let stray = note(vec![line(0), note_key(1).line(&bad)]);
    assert_eq!(stray.verify(&[note_key(0)]).unwrap().len(), 1);
    let bad_signature = Err(VerifyNoteError::BadSignature {
        name: note_key(1).name().to_owned(),
        id: note_key(1).id(),
    });
    assert_eq!(stray.verify(&[note_key(0), note_key(1)]), bad_signature);
    assert_eq!(stray.verify(&[note_key(1), note_key(0)]), bad_signature);
    assert_eq!(
        stray.verify(&[note_key(2)]),
        Err(VerifyNoteError::NoKnownKey {
            signatures: 2,
            keys: 1
        })
    );
    assert!(stray.verify(&[]).is_err());

    // Beside a good signature by the same key, too.
    let both = note(vec![line(1), note_key(1).line(&bad)]);
    assert_eq!(both.verify(&[note_key(1)]), bad_signature);
    let twice = note(vec![line(1), line(1)]);
    assert_eq!(
        twice.verify(&[note_key(1), note_key(1)]).unwrap(),
        BTreeSet::from([&note_key(1)])
    );

    // A known key's signature of another kind's length.
    let mut short = line(1);
    short.signature.pop();
    assert_eq!(
        note(vec![line(0), short]).verify(&[note_key(0), note_key(1)]),
        bad_signature
    );
}

/// Only name and id together name a key.
#[test]
fn half_a_match_is_a_stranger() {
    let text = body().to_text();
    let (mut renamed, mut renumbered) = (line(0), line(0));
    renamed.name.push('x');
    renumbered.key_id.0[3] ^= 1;
    let note = Note::new(text, vec![renamed, renumbered, line(1)]).unwrap();
    let keys = [note_key(0), note_key(1)];
    assert_eq!(note.verify(&keys).unwrap(), BTreeSet::from([&keys[1]]));
}

#[test]
fn a_name_stays_within_its_line() {
    assert_eq!(
        NoteKey::new(String::new(), secret(0).public()),
        Err(NameError::Empty)
    );
    let names = [
        "a b",
        "a+b",
        "a\nb",
        "a\u{a0}b",
        "a\u{2003}",
        "\u{85}",
        "a\0",
        "\u{1b}",
    ];
    for name in names {
        assert_eq!(
            NoteKey::new(name.to_owned(), secret(0).public()),
            Err(NameError::Character {
                found: name.to_owned()
            })
        );
    }
    assert!(NoteKey::new("é/\u{1f600}".to_owned(), secret(0).public()).is_ok());
}

#[test]
fn a_notes_text_ends_before_its_last_empty_line() {
    for text in [
        "\n",
        "a\n",
        "a\n\n",
        "a\n\nb\n",
        "\n\n\n",
        "a\n\n\u{2014} b c\n",
    ] {
        let note = Note::new(text.to_owned(), vec![line(0)]).unwrap();
        assert_eq!(Note::parse(note.to_text().as_bytes()), Ok(note));
    }
    let note = |text: &str| Note::new(text.to_owned(), vec![line(0)]).unwrap_err();
    assert_eq!(note(""), NoteError::TextEnd);
    assert_eq!(note("a"), NoteError::TextEnd);
    assert_eq!(note("a\r\n"), NoteError::Control { offset: 1 });
}

#[test]
fn hostile_notes_are_refused() {
    let refused = |note: &str| Note::parse(note.as_bytes()).unwrap_err();
    let signed = |lines: &str| refused(&format!("text\n\n{lines}"));
    let in_line = |source| NoteError::Line { number: 1, source };
    assert_eq!(refused(""), NoteError::Form);
    assert_eq!(refused("text\n"), NoteError::Form);
    assert_eq!(refused(&format!("text\n{GO_LINE}")), NoteError::Form);
    assert_eq!(refused(&format!("\n{GO_LINE}")), NoteError::Form);
    assert_eq!(signed(""), NoteError::Form);
    assert_eq!(signed(GO_LINE.trim_end()), NoteError::Form);
    assert_eq!(signed("\n"), NoteError::Form);
    assert_eq!(signed("x\n"), in_line(LineError::Form));
    for form in ["- a AAAAAAA=\n", "\u{2014}  AAAAAAA=\n", "\u{2014} a\n"] {
        let error = signed(form);
        assert!(matches!(error, NoteError::Line { number: 1, .. }), "{form}");
    }
    assert_eq!(
        signed("\u{2014} a+b AAAAAAA=\n"),
        in_line(LineError::Name(NameError::Character {
            found: "a+b".to_owned()
        }))
    );
    // Not padded, trailing bits, another alphabet, a second space, trailing space.
    for encoded in ["AAAAAAA", "AAAAAAB=", "____AAA=", " AAAAAAA=", "AAAAAAA= "] {
        let error = signed(&format!("\u{2014} a {encoded}\n"));
        assert_eq!(error, in_line(LineError::Base64), "{encoded}");
    }
    for (encoded, found) in [("", 0), ("AAAAAA==", 4)] {
        assert_eq!(
            signed(&format!("\u{2014} a {encoded}\n")),
            in_line(LineError::TooShort { found })
        );
    }
    let second = format!("{GO_LINE}\u{2014} a\n");
    assert!(matches!(signed(&second), NoteError::Line { number: 2, .. }));
    assert_eq!(
        refused(&SOFA.replace('\n', "\r\n")),
        NoteError::Control { offset: 27 }
    );
    assert_eq!(
        Note::parse(b"a\xff\n\n"),
        Err(NoteError::NotUtf8 { offset: 1 })
    );
}

#[test]
fn a_note_is_bounded() {
    let lines = |count| format!("text\n\n{}", GO_LINE.repeat(count));
    assert!(Note::parse(lines(SIGNATURES_MAX).as_bytes()).is_ok());
    let found = SIGNATURES_MAX + 1;
    assert_eq!(
        Note::parse(lines(found).as_bytes()),
        Err(NoteError::Signatures { found })
    );
    let new = |count: usize| Note::new("text\n".to_owned(), vec![line(0); count]);
    assert!(new(SIGNATURES_MAX).is_ok());
    assert_eq!(new(found), Err(NoteError::Signatures { found }));
    assert_eq!(new(0), Err(NoteError::Signatures { found: 0 }));
    let found = NOTE_BYTES_MAX + 1;
    let long = vec![b'x'; found];
    assert_eq!(Note::parse(&long), Err(NoteError::TooLong { found }));
    let text = format!("{}\n", "x".repeat(NOTE_BYTES_MAX));
    let refusal = Note::new(text, vec![line(0)]);
    assert!(matches!(refusal, Err(NoteError::TooLong { .. })));
    // The largest signatures that a verifier must accept: 16 of 5 kB.
    let large = SignatureLine {
        signature: vec![1; 5_000],
        ..line(0)
    };
    let note = Note::new("text\n".to_owned(), vec![large; 16]).unwrap();
    assert_eq!(Note::parse(note.to_text().as_bytes()), Ok(note));
}

#[test]
fn a_checkpoint_has_one_spelling() {
    const ROOT: &str = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
    let parse = |text: &str| CheckpointBody::parse(text);
    for (text, found) in [("", 0), ("\n", 1), ("a\n1\n", 2), ("a\n1\nb", 0)] {
        assert_eq!(parse(text), Err(CheckpointError::Lines { found }), "{text}");
    }
    assert_eq!(
        parse(&format!("a\n1\n{ROOT}")),
        Err(CheckpointError::Lines { found: 0 })
    );
    for size in [
        "",
        "01",
        "+1",
        "-1",
        " 1",
        "1 ",
        "0x1",
        "18446744073709551616",
    ] {
        let found = size.to_owned();
        assert_eq!(
            parse(&format!("a\n{size}\n{ROOT}\n")),
            Err(CheckpointError::Size { found })
        );
    }
    for root in [
        "",
        &ROOT[..43],
        &ROOT.replace("2I=", "2J="),
        &ROOT.replace('/', "_"),
        &ROOT[4..],
        &format!("AAAA{ROOT}"),
        &format!("{ROOT} "),
    ] {
        let found = root.to_owned();
        assert_eq!(
            parse(&format!("a\n1\n{root}\n")),
            Err(CheckpointError::Root { found })
        );
    }
    for origin in ["", "a\r", "\t"] {
        let found = origin.to_owned();
        assert_eq!(
            parse(&format!("{origin}\n1\n{ROOT}\n")),
            Err(CheckpointError::Origin { found })
        );
    }
    for extension in ["", "a\r"] {
        let found = extension.to_owned();
        assert_eq!(
            parse(&format!("a\n1\n{ROOT}\nx\n{extension}\n")),
            Err(CheckpointError::Extension { found })
        );
    }
    let new = |origin: &str, extension: &str| {
        CheckpointBody::new(
            origin.to_owned(),
            0,
            Digest::ZERO,
            vec![extension.to_owned()],
        )
    };
    assert!(new("a b+c", "d e").is_ok());
    assert!(new("a\nb", "x").is_err() && new("a", "x\ny").is_err());
    let found = CHECKPOINT_BYTES_MAX + 50;
    assert_eq!(
        new("a", &"x".repeat(CHECKPOINT_BYTES_MAX)),
        Err(CheckpointError::TooLong { found })
    );
    assert!(matches!(
        parse(&"x".repeat(CHECKPOINT_BYTES_MAX + 1)),
        Err(CheckpointError::TooLong { .. })
    ));
}

#[test]
fn every_changed_bit_of_a_signed_checkpoint_loses_a_signature() {
    let keys = [note_key(0), note_key(1)];
    for offset in 0..PYTHON.len() {
        for bit in 0..8 {
            let mut bytes = PYTHON.as_bytes().to_vec();
            bytes[offset] ^= 1 << bit;
            let signers = Note::parse(&bytes).map(|note| note.verify(&keys).map(|set| set.len()));
            // A change of a name or an id makes that signer a stranger.
            assert!(
                !matches!(signers, Ok(Ok(2..))),
                "bit {bit} of byte {offset}"
            );
        }
    }
}

proptest! {
    #[test]
    fn parsers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Note::parse(&bytes);
        let _ = CheckpointBody::parse(&String::from_utf8_lossy(&bytes));
    }

    /// What is read is written to the same bytes.
    #[test]
    fn notes_have_one_spelling(note in "[a\n]{0,6}\n\n(\u{2014} [ab+] [A-C]{5,8}=?\n){1,3}") {
        if let Ok(parsed) = Note::parse(note.as_bytes()) {
            prop_assert_eq!(parsed.to_text(), note);
        }
    }

    #[test]
    fn notes_round_trip(
        text in "([ -~é]{0,9}\n){1,4}",
        lines in prop::collection::vec(("[!-*,-~é]{1,9}", any::<[u8; 4]>(),
            prop::collection::vec(any::<u8>(), 1..80)), 1..5)
    ) {
        let lines = lines.into_iter().map(|(name, key_id, signature)| {
            SignatureLine { name, key_id: KeyId(key_id), signature }
        });
        let note = Note::new(text, lines.collect()).unwrap();
        prop_assert_eq!(Note::parse(note.to_text().as_bytes()), Ok(note));
    }

    #[test]
    fn checkpoints_round_trip(
        origin in "[ -~é]{1,20}", size in any::<u64>(), root in any::<[u8; 32]>(),
        extensions in prop::collection::vec("[ -~é]{1,20}", 0..4)
    ) {
        let root = Digest::from_bytes(root);
        let body = CheckpointBody::new(origin, size, root, extensions).unwrap();
        prop_assert_eq!(CheckpointBody::parse(&body.to_text()), Ok(body));
    }

    #[test]
    fn checkpoints_have_one_spelling(text in "[a\n]{0,3}\n[0+1]{1,3}\n[AB]{41,43}={0,2}\n[ \na]{0,3}") {
        if let Ok(parsed) = CheckpointBody::parse(&text) {
            prop_assert_eq!(parsed.to_text(), text);
        }
    }
}
