use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use curve25519_dalek::EdwardsPoint;
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::scalar::Scalar;
use ed25519::pkcs8::spki::der::pem::LineEnding;
use ed25519::pkcs8::{EncodePrivateKey as _, KeypairBytes, PublicKeyBytes};
use ed25519_dalek::{SigningKey, Verifier as _};
use proptest::prelude::*;

use super::*;
use crate::digest::Digest;
use crate::json::{JsonError, Limits, from_slice_strict};

/// RFC 8037, appendix A.
const RFC8037_SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const RFC8037_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const RFC8037_KID: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";

/// The seed 00 01 02 .. 1f as openssl writes it.
const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n\
    -----END PRIVATE KEY-----\n";

fn seed() -> [u8; 32] {
    std::array::from_fn(|index| u8::try_from(index).unwrap())
}

fn rfc8037_key() -> SecretKey {
    let seed = URL_SAFE_NO_PAD.decode(RFC8037_SEED).unwrap();
    SecretKey::from_seed(&seed.try_into().unwrap())
}

/// A key of these bytes without any check, as a lenient verifier would hold it.
fn unchecked(point: EdwardsPoint) -> PublicKey {
    PublicKey(VerifyingKey::from(point))
}

fn jwk(json: &str) -> Result<Jwk, JsonError> {
    from_slice_strict(json.as_bytes(), Limits::default())
}

fn jwk_refusal(json: &str) -> String {
    jwk(json).unwrap_err().to_string()
}

/// The bytes of 2^255 - 19 + `excess`, little-endian.
fn field_prime_plus(excess: u8) -> [u8; 32] {
    let mut bytes = [0xFF; 32];
    bytes[0] = 0xED + excess;
    bytes[31] = 0x7F;
    bytes
}

fn signature(r: EdwardsPoint, s: Scalar) -> [u8; SIGNATURE_LEN] {
    let mut bytes = [0; SIGNATURE_LEN];
    bytes[..32].copy_from_slice(r.compress().as_bytes());
    bytes[32..].copy_from_slice(s.as_bytes());
    bytes
}

mod public_key {
    use super::*;

    #[test]
    fn refuses_what_is_no_point() {
        let mut bytes = [0; 32];
        bytes[0] = 2;
        assert_eq!(
            PublicKey::from_bytes(&bytes),
            Err(PublicKeyError::NotOnCurve)
        );
    }

    #[test]
    fn refuses_the_identity() {
        let bytes = EdwardsPoint::default().compress().to_bytes();
        assert_eq!(PublicKey::from_bytes(&bytes), Err(PublicKeyError::Identity));
    }

    #[test]
    fn refuses_every_weak_key() {
        for point in &EIGHT_TORSION[1..] {
            let bytes = point.compress().to_bytes();
            assert_eq!(
                PublicKey::from_bytes(&bytes),
                Err(PublicKeyError::SmallOrder)
            );
        }
    }

    #[test]
    fn refuses_every_other_spelling_of_a_point() {
        let mut not_canonical = 0;
        for excess in 0..19 {
            for sign in [0, 0x80] {
                let mut bytes = field_prime_plus(excess);
                bytes[31] |= sign;
                match PublicKey::from_bytes(&bytes) {
                    Err(PublicKeyError::NotCanonical) => not_canonical += 1,
                    Err(PublicKeyError::NotOnCurve) => {}
                    other => panic!("{bytes:02x?}: {other:?}"),
                }
            }
        }
        // "Taming the many EdDSAs" counts 26 of them with an ordinate beyond the prime...
        assert!(not_canonical >= 20, "{not_canonical}");
        // ... and two whose abscissa is zero with a sign.
        for ordinate in [[1; 1], [0xEC; 1]] {
            let mut bytes = if ordinate == [1] {
                IDENTITY
            } else {
                field_prime_plus(0)
            };
            bytes[0] = ordinate[0];
            bytes[31] |= 0x80;
            assert_eq!(
                PublicKey::from_bytes(&bytes),
                Err(PublicKeyError::NotCanonical)
            );
        }
    }

    #[test]
    fn refuses_mixed_order() {
        for torsion in &EIGHT_TORSION[1..] {
            let bytes = (ED25519_BASEPOINT_POINT + torsion).compress().to_bytes();
            assert_eq!(
                PublicKey::from_bytes(&bytes),
                Err(PublicKeyError::MixedOrder)
            );
        }
    }

    #[test]
    fn is_ordered_by_its_bytes() {
        let mut keys: Vec<PublicKey> = (0..20)
            .map(|byte| SecretKey::from_seed(&[byte; 32]).public())
            .collect();
        keys.sort();
        assert!(keys.is_sorted_by_key(PublicKey::to_bytes));
    }

    #[test]
    fn binary_form_is_checked_again() {
        let key = SecretKey::from_seed(&seed()).public();
        let bytes = postcard::to_stdvec(&key).unwrap();
        assert_eq!(bytes, key.to_bytes());
        assert_eq!(postcard::from_bytes::<PublicKey>(&bytes).unwrap(), key);
        assert!(postcard::from_bytes::<PublicKey>(&IDENTITY).is_err());
    }
}

mod signatures {
    use super::*;

    /// A = R = identity and S = 0: the verification equation reads 0 = 0 - k * 0 for
    /// every message.
    #[test]
    fn the_identity_forgery_fails() {
        let identity = EdwardsPoint::default();
        let forged = signature(identity, Scalar::ZERO);
        let key = unchecked(identity);
        for message in [b"yes".as_slice(), b"no"] {
            let lenient = key.0.verify(message, &Signature::from_bytes(&forged));
            assert!(
                lenient.is_ok(),
                "the forgery does not even fool a lenient verifier"
            );
            assert_eq!(key.verify(message, &forged), Err(BadSignature));
        }
        assert_eq!(
            PublicKey::from_bytes(&IDENTITY),
            Err(PublicKeyError::Identity)
        );
    }

    /// Under a key of order n, one message in n is signed by R = identity and S = 0.
    #[test]
    fn forgeries_under_weak_keys_fail() {
        let forged = signature(EdwardsPoint::default(), Scalar::ZERO);
        for torsion in EIGHT_TORSION {
            let key = unchecked(torsion);
            let message = (0_u32..1_000)
                .map(u32::to_be_bytes)
                .find(|message| {
                    key.0
                        .verify(message, &Signature::from_bytes(&forged))
                        .is_ok()
                })
                .expect("one message in eight is signed");
            assert_eq!(key.verify(&message, &forged), Err(BadSignature));
        }
    }

    /// The holder of a good key can still sign with R of small order: S = k * a. Lenient
    /// verifiers accept it, and libraries that batch may not.
    #[test]
    fn a_nonce_of_small_order_fails() {
        let secret = SecretKey::from_seed(&seed());
        let key = secret.public();
        let r = EdwardsPoint::default();
        let message = b"message";
        let forged = signature(
            r,
            challenge(&r, &key, message) * SigningKey::from_bytes(&seed()).to_scalar(),
        );
        assert!(
            key.0
                .verify(message, &Signature::from_bytes(&forged))
                .is_ok()
        );
        assert_eq!(key.verify(message, &forged), Err(BadSignature));
    }

    /// Whatever R is, from the right one to one of small order and to bytes that are no
    /// point, the library's strict verification says the same.
    #[test]
    fn verdicts_are_those_of_strict_verification() {
        let signer = SigningKey::from_bytes(&seed()).to_scalar();
        let key = SecretKey::from_seed(&seed()).public();
        let nonce = Scalar::from(7_u64);
        let message = b"message";
        let mut held = 0;
        for torsion in EIGHT_TORSION {
            for nonce in [nonce, Scalar::ZERO] {
                let r = ED25519_BASEPOINT_POINT * nonce + torsion;
                let made = signature(r, nonce + challenge(&r, &key, message) * signer);
                for flipped in (0..SIGNATURE_LEN * 8).map(Some).chain([None]) {
                    let mut tried = made;
                    if let Some(bit) = flipped {
                        tried[bit / 8] ^= 1 << (bit % 8);
                    }
                    let strict = key.0.verify_strict(message, &Signature::from_bytes(&tried));
                    assert_eq!(key.verify(message, &tried).is_ok(), strict.is_ok());
                    held += usize::from(strict.is_ok());
                }
            }
        }
        assert_eq!(held, 1, "only the honest signature holds");
    }

    /// Even strict verification judges a mixed-order key by chance: of signatures made
    /// alike, those hold whose challenge the torsion divides. This is why such a key is
    /// no [`PublicKey`].
    #[test]
    fn mixed_order_keys_make_verdicts_a_matter_of_luck() {
        let secret = SigningKey::from_bytes(&seed()).to_scalar();
        let mixed = unchecked(ED25519_BASEPOINT_POINT * secret + EIGHT_TORSION[1]);
        let nonce = Scalar::from(7_u64);
        let r = ED25519_BASEPOINT_POINT * nonce;
        let held = (0_u32..200)
            .map(u32::to_be_bytes)
            .filter(|message| {
                let s = nonce + challenge(&r, &mixed, message) * secret;
                mixed.verify(message, &signature(r, s)).is_ok()
            })
            .count();
        assert!(0 < held && held < 200, "{held} of 200");
        assert_eq!(
            PublicKey::from_bytes(&mixed.to_bytes()),
            Err(PublicKeyError::MixedOrder)
        );
    }

    /// S and S + L satisfy the same equation; only the reduced one may count, or a third
    /// party could respell a signature.
    #[test]
    fn an_unreduced_scalar_fails() {
        const ORDER: [u8; 32] = [
            0xED, 0xD3, 0xF5, 0x5C, 0x1A, 0x63, 0x12, 0x58, 0xD6, 0x9C, 0xF7, 0xA2, 0xDE, 0xF9,
            0xDE, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let secret = SecretKey::from_seed(&seed());
        let mut respelled = secret.sign(b"message");
        assert_eq!(secret.public().verify(b"message", &respelled), Ok(()));
        let mut carry = 0;
        for (byte, order) in respelled[32..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        let scalar = <[u8; 32]>::try_from(&respelled[32..]).unwrap();
        assert!(bool::from(Scalar::from_canonical_bytes(scalar).is_none()));
        assert_eq!(
            Scalar::from_bytes_mod_order(scalar).as_bytes(),
            &secret.sign(b"message")[32..]
        );
        assert_eq!(
            secret.public().verify(b"message", &respelled),
            Err(BadSignature)
        );
    }

    /// RFC 8032, section 7.1, tests 1 to 3.
    #[test]
    fn rfc8032_vectors() {
        let vectors = [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bac\
                 c61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                "72",
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e\
                 458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                "af82",
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290\
                 ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ];
        for (seed, public, message, expected) in vectors {
            let bytes = |text| hex::decode(text).unwrap();
            let secret = SecretKey::from_seed(&bytes(seed).try_into().unwrap());
            assert_eq!(secret.public().to_bytes(), *bytes(public));
            let signature = secret.sign(&bytes(message));
            assert_eq!(hex::encode(signature), expected);
            assert_eq!(secret.public().verify(&bytes(message), &signature), Ok(()));
        }
    }

    fn challenge(r: &EdwardsPoint, key: &PublicKey, message: &[u8]) -> Scalar {
        use sha2::Digest as _;
        let hash = sha2::Sha512::new()
            .chain_update(r.compress().as_bytes())
            .chain_update(key.to_bytes())
            .chain_update(message)
            .finalize();
        Scalar::from_bytes_mod_order_wide(&hash.into())
    }

    proptest! {
        #[test]
        fn hold_for_their_message_and_key_alone(
            seed: [u8; 32], other: [u8; 32], message: Vec<u8>, flip in 0_usize..512
        ) {
            let secret = SecretKey::from_seed(&seed);
            let mut signature = secret.sign(&message);
            prop_assert_eq!(secret.public().verify(&message, &signature), Ok(()));
            let longer = [message.as_slice(), b"."].concat();
            prop_assert_eq!(secret.public().verify(&longer, &signature), Err(BadSignature));
            prop_assume!(seed != other);
            let other = SecretKey::from_seed(&other).public();
            prop_assert_eq!(other.verify(&message, &signature), Err(BadSignature));
            signature[flip / 8] ^= 1 << (flip % 8);
            prop_assert_eq!(secret.public().verify(&message, &signature), Err(BadSignature));
        }

        #[test]
        fn every_secret_has_an_admissible_public_key(seed: [u8; 32]) {
            let public = SecretKey::from_seed(&seed).public();
            prop_assert_eq!(PublicKey::from_bytes(&public.to_bytes()), Ok(public));
        }

        #[test]
        fn random_bytes_never_panic(key: [u8; 32], message: Vec<u8>, mut signature: Vec<u8>) {
            signature.resize(SIGNATURE_LEN, 0);
            if let Ok(key) = PublicKey::from_bytes(&key) {
                let verdict = key.verify(&message, &signature.try_into().unwrap());
                prop_assert_eq!(verdict, Err(BadSignature));
            }
        }
    }
}

mod json_web_key {
    use super::*;

    fn with(member: &str) -> String {
        format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{RFC8037_X}"{member}}}"#)
    }

    #[test]
    fn rfc8037_public_key_and_thumbprint() {
        let public = rfc8037_key().public();
        assert_eq!(public.kid().as_str(), RFC8037_KID);
        assert_eq!(jwk(&with("")), Ok(Jwk::from(public)));
        assert_eq!(
            serde_json::to_string(&Jwk::from(public)).unwrap(),
            format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{RFC8037_X}"}}"#)
        );
        assert_eq!(
            *rfc8037_key().to_jwk_json(),
            format!(r#"{{"crv":"Ed25519","d":"{RFC8037_SEED}","kty":"OKP","x":"{RFC8037_X}"}}"#)
        );
    }

    #[test]
    fn members_that_agree_are_taken() {
        for member in [
            r#","alg":"EdDSA""#,
            r#","alg":"Ed25519""#,
            r#","use":"sig""#,
            &format!(r#","kid":"{RFC8037_KID}""#),
        ] {
            assert_eq!(jwk(&with(member)), Ok(Jwk::from(rfc8037_key().public())));
        }
    }

    #[test]
    fn a_private_key_is_refused_loudly_and_not_repeated() {
        for d in [
            format!("\"{RFC8037_SEED}\""),
            "1".to_owned(),
            "{}".to_owned(),
        ] {
            let refusal = jwk_refusal(&with(&format!(r#","d":{d}"#)));
            assert!(refusal.contains("must never be sent"), "{refusal}");
            assert!(!refusal.contains(RFC8037_SEED), "{refusal}");
        }
    }

    #[test]
    fn members_that_disagree_are_refused() {
        let refused = |json: String, expected: JwkError| {
            let refusal = jwk_refusal(&json);
            assert!(refusal.contains(&expected.to_string()), "{refusal}");
        };
        let found = |text: &str| text.to_owned();
        refused(
            with("").replace("OKP", "EC"),
            JwkError::KeyType { found: found("EC") },
        );
        refused(
            with("").replace("Ed25519", "Ed448"),
            JwkError::Curve {
                found: found("Ed448"),
            },
        );
        refused(
            with(r#","alg":"ES256""#),
            JwkError::Algorithm {
                found: found("ES256"),
            },
        );
        refused(
            with(r#","use":"enc""#),
            JwkError::Use {
                found: found("enc"),
            },
        );
        refused(
            with(r#","kid":"alice""#),
            JwkError::KeyId {
                found: found("alice"),
                expected: rfc8037_key().public().kid(),
            },
        );
    }

    #[test]
    fn a_bad_coordinate_is_refused() {
        let x = |x: &str| jwk_refusal(&with("").replace(RFC8037_X, x));
        assert!(x(&RFC8037_X[1..]).contains("42 characters"));
        assert!(x(&format!("{RFC8037_X}=")).contains("44 characters"));
        assert!(x(&RFC8037_X.replace('_', "/")).contains("not base64url"));
        // The last character's two lowest bits are beyond the 32 bytes.
        assert!(x(&RFC8037_X.replace("URo", "URp")).contains("not base64url"));
        let identity = URL_SAFE_NO_PAD.encode(IDENTITY);
        assert!(x(&identity).contains("identity point"));
    }

    #[test]
    fn form_is_refused_as_everywhere() {
        let array = format!(r#"["OKP","Ed25519","{RFC8037_X}"]"#);
        assert!(jwk_refusal(&array).contains("expected an object, found an array"));
        assert!(
            jwk_refusal(&with(r#","ext":true"#))
                .contains("(/ext): unknown field; the known ones are `kty`")
        );
        assert!(
            jwk_refusal(&with(r#","kid":null"#))
                .contains("(/kid): expected a string, found `null`")
        );
        assert!(jwk_refusal(&with(r#","kty":"OKP""#)).contains("occurs twice"));
        assert!(jwk_refusal(r#"{"kty":"OKP","crv":"Ed25519"}"#).contains("missing field `x`"));
    }

    #[test]
    fn kid_has_one_spelling() {
        let kid = rfc8037_key().public().kid();
        assert_eq!(RFC8037_KID.parse(), Ok(kid));
        assert_eq!(
            serde_json::to_string(&kid).unwrap(),
            format!("\"{RFC8037_KID}\"")
        );
        let json = format!("\"{RFC8037_KID}\"");
        assert_eq!(serde_json::from_str::<Kid>(&json).unwrap(), kid);
        let binary = postcard::to_stdvec(&kid).unwrap();
        assert_eq!(postcard::from_bytes::<Kid>(&binary).unwrap(), kid);
        for text in [
            "",
            "alice",
            &RFC8037_KID[1..],
            &RFC8037_KID.replace('_', "/"),
            &RFC8037_KID.replace("S4k", "S4l"),
            &format!("{RFC8037_KID}="),
        ] {
            assert_eq!(text.parse::<Kid>(), Err(ParseKidError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(seed: [u8; 32]) {
            let jwk = Jwk::from(SecretKey::from_seed(&seed).public());
            let json = serde_json::to_vec(&jwk).unwrap();
            prop_assert_eq!(from_slice_strict(&json, Limits::default()), Ok(jwk));
            let binary = postcard::to_stdvec(&jwk).unwrap();
            prop_assert_eq!(postcard::from_bytes(&binary), Ok(jwk));
            let kid = jwk.public_key().kid();
            prop_assert_eq!(kid.as_str().parse(), Ok(kid));
            let thumbprint = Digest::of(&json);
            prop_assert_eq!(URL_SAFE_NO_PAD.encode(thumbprint), kid.as_str());
        }

        #[test]
        fn random_members_never_panic(x in ".{0,60}", member in "[a-z]{1,3}", value in ".{0,9}") {
            let document = serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": x, member: value});
            // Whatever is accepted is what is written.
            if let Ok(jwk) = jwk(&document.to_string()) {
                prop_assert_eq!(URL_SAFE_NO_PAD.encode(jwk.public_key().to_bytes()), x);
            }
        }
    }
}

mod private_files {
    use super::*;

    #[test]
    fn pem_is_what_openssl_writes() {
        let secret = SecretKey::from_seed(&seed());
        assert_eq!(*secret.to_pem(), PEM);
        assert_eq!(SecretKey::from_pem(PEM).unwrap().public(), secret.public());
        let carriage_returns = PEM.replace('\n', "\r\n");
        assert_eq!(
            SecretKey::from_pem(&carriage_returns).unwrap().public(),
            secret.public()
        );
    }

    #[test]
    fn version_2_must_name_its_own_public_key() {
        let pem = |public| {
            KeypairBytes {
                secret_key: seed(),
                public_key: Some(public),
            }
            .to_pkcs8_pem(LineEnding::LF)
            .unwrap()
        };
        let own = SecretKey::from_seed(&seed()).public();
        let right = pem(PublicKeyBytes(own.to_bytes()));
        assert_eq!(SecretKey::from_pem(&right).unwrap().public(), own);
        let wrong = pem(PublicKeyBytes(rfc8037_key().public().to_bytes()));
        assert_eq!(
            SecretKey::from_pem(&wrong).err(),
            Some(PemError::PublicKey {
                expected: own.kid()
            })
        );
    }

    #[test]
    fn other_files_are_refused() {
        let x25519 = PEM.replace("K2Vw", "K2Vu");
        let public = PEM.replace("PRIVATE", "PUBLIC");
        let encrypted = PEM.replace("PRIVATE", "ENCRYPTED PRIVATE");
        let cut = PEM.replace("HR4f", "");
        for text in ["", "MC4C", &x25519, &public, &encrypted, &cut] {
            let refusal = SecretKey::from_pem(text).err();
            assert!(
                matches!(refusal, Some(PemError::Format(_))),
                "{text}: {refusal:?}"
            );
        }
    }

    #[test]
    fn generated_keys_differ() {
        let [one, two] = [(); 2].map(|()| SecretKey::generate().unwrap());
        assert_ne!(one.public(), two.public());
        assert_eq!(
            one.public(),
            SecretKey::from_pem(&one.to_pem()).unwrap().public()
        );
    }

    #[test]
    fn debug_shows_only_the_name() {
        let secret = SecretKey::from_seed(&seed());
        assert_eq!(
            format!("{secret:?}"),
            format!("SecretKey({})", secret.public().kid())
        );
    }

    /// Runs openssl with `input`, or gives `None` where it is not installed.
    fn openssl(arguments: &[&str], input: &str) -> Option<Vec<u8>> {
        let mut child = Command::new("openssl")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        child.stdin.take()?.write_all(input.as_bytes()).ok()?;
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "openssl {arguments:?}");
        Some(output.stdout)
    }

    /// The pinned file above holds everywhere; where openssl is installed, it is asked.
    #[test]
    fn openssl_agrees() {
        let Some(generated) = openssl(&["genpkey", "-algorithm", "ed25519"], "") else {
            return;
        };
        let generated = String::from_utf8(generated).unwrap();
        let secret = SecretKey::from_pem(&generated).unwrap();
        assert_eq!(*secret.to_pem(), generated);
        let public = openssl(&["pkey", "-pubout", "-outform", "DER"], &secret.to_pem()).unwrap();
        assert!(public.ends_with(&secret.public().to_bytes()));

        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name).to_str().unwrap().to_owned();
        let (key, message) = (path("key.pem"), path("message"));
        std::fs::write(&key, &*secret.to_pem()).unwrap();
        std::fs::write(&message, "header.payload").unwrap();
        let arguments = [
            "pkeyutl", "-sign", "-rawin", "-inkey", &key, "-in", &message,
        ];
        let signature = openssl(&arguments, "").unwrap();
        assert_eq!(signature, secret.sign(b"header.payload"));
    }
}
