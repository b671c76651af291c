//! Who gets through the TLS handshake, on either side.

use aegis_peers::ca::Ca;
use aegis_peers::{
    ClusterId, Credentials, CredentialsError, Direction, Endpoint, EndpointError, FailureKind,
    IdentityError, LinkError, PeerError,
};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::version::{TLS12, TLS13};
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::raw::{Proof, RawClient, RawServer, client_config, secure, uri};
use crate::support::*;

/// Whether a client with this configuration gets as far as an answer to its greeting.
async fn gets_in(server: &Running, config: rustls::ClientConfig) -> bool {
    let Ok(socket) = secure(server.address, config).await else {
        return false;
    };
    let Ok(client) = RawClient::over(socket).await else {
        return false;
    };
    client.greet(identity(2)).await.is_ok()
}

/// The server lives and serves whom it should.
async fn still_serves(cluster: &Cluster, server: &Running) {
    let peers = cluster.peers_to(2, server);
    peers.call(node(1), ECHO, "x".into(), LONG).await.unwrap();
}

#[tokio::test]
async fn a_good_certificate_gets_in() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    for proof in [
        Proof::issued(&cluster.ca, 2),
        Proof::forged(&cluster.ca, 2, |_| {}),
    ] {
        assert!(gets_in(&server, client_config(Some(proof), &[&TLS13])).await);
    }
}

#[tokio::test]
async fn bad_certificates_do_not_get_in() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let ca = &cluster.ca;
    let now = OffsetDateTime::now_utc();
    let hour = Duration::hours(1);
    let other_cluster = ClusterId([2; 32]);
    let named = |uris: &[String]| {
        let names = uris.iter().map(|text| uri(text)).collect();
        Proof::forged(ca, 2, |params| params.subject_alt_names = names)
    };
    let bad = [
        (
            "a stranger's authority",
            Proof::issued(&Ca::generate(CLUSTER).unwrap(), 2),
            FailureKind::Handshake,
        ),
        (
            "expired",
            Proof::forged(ca, 2, |params| params.not_after = now - hour),
            FailureKind::Handshake,
        ),
        (
            "not yet valid",
            Proof::forged(ca, 2, |params| params.not_before = now + hour),
            FailureKind::Handshake,
        ),
        (
            "not for clients",
            Proof::forged(ca, 2, |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
            FailureKind::Handshake,
        ),
        (
            "of another cluster",
            named(&[format!("aegis://{other_cluster}/node/2")]),
            FailureKind::Identity,
        ),
        (
            "the name of an authority",
            named(&[format!("aegis://{CLUSTER}")]),
            FailureKind::Identity,
        ),
        ("nameless", named(&[]), FailureKind::Identity),
        (
            "of two names",
            named(&[
                format!("aegis://{CLUSTER}/node/2"),
                format!("aegis://{CLUSTER}/node/3"),
            ]),
            FailureKind::Identity,
        ),
        (
            "of another scheme",
            named(&[format!("spiffe://{CLUSTER}/node/2")]),
            FailureKind::Identity,
        ),
    ];
    for (what, proof, kind) in bad {
        server.counts.failures.lock().unwrap().clear();
        let config = client_config(Some(proof), &[&TLS13]);
        assert!(!gets_in(&server, config).await, "{what}");
        until(async || server.counts.saw(Direction::Inbound, kind).then_some(())).await;
    }
    assert_eq!(server.counts.connected(), 0);
    still_serves(&cluster, &server).await;
}

#[tokio::test]
async fn the_authority_itself_is_no_peer() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let proof = Proof::of_pem(cluster.ca.certificate_pem(), &cluster.ca.key_pem());
    assert!(!gets_in(&server, client_config(Some(proof), &[&TLS13])).await);
}

#[tokio::test]
async fn nobody_gets_in_without_a_certificate() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    assert!(!gets_in(&server, client_config(None, &[&TLS13])).await);
    still_serves(&cluster, &server).await;
}

#[tokio::test]
async fn tls_1_2_is_not_spoken() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let proof = Some(Proof::issued(&cluster.ca, 2));
    let refused = secure(server.address, client_config(proof, &[&TLS12])).await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");
    still_serves(&cluster, &server).await;
}

#[tokio::test]
async fn http_2_must_be_agreed_on() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    for protocols in [vec![], vec![b"http/1.1".to_vec()]] {
        let mut config = client_config(Some(Proof::issued(&cluster.ca, 2)), &[&TLS13]);
        config.alpn_protocols = protocols;
        assert!(!gets_in(&server, config).await);
    }
    still_serves(&cluster, &server).await;
}

#[tokio::test]
async fn plain_text_is_not_spoken() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    for text in [
        "GET / HTTP/1.1\r\nhost: node-1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // An alert and the end, or a reset.
        let end = tokio::time::timeout(LONG, socket.read_to_end(&mut answer)).await;
        assert!(end.unwrap().is_err() || answer.len() < 16);
    }
    still_serves(&cluster, &server).await;
}

#[tokio::test]
async fn the_node_behind_an_address_must_be_the_one_dialled() {
    let cluster = Cluster::new([1, 2, 3]);
    let third = cluster.serve(3).await;
    let peers = cluster.peers(2);
    peers.set_address(node(1), third.address.into());
    let error = peers.call(node(1), ECHO, "x".into(), LONG).await;
    let error = error.unwrap_err();
    let PeerError::WrongIdentity { source, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(
        *source,
        IdentityError::OtherNode {
            dialled: node(1),
            found: node(3),
        }
    );
    assert!(error.is_without_effect());
    assert_eq!(third.counts.connected(), 0);
    let status = peers.status(node(1)).unwrap().control;
    assert!(!status.connected);
    assert!(matches!(
        *status.last_error.unwrap(),
        LinkError::Identity { .. }
    ));
}

#[tokio::test]
async fn a_server_must_be_of_the_cluster() {
    let cluster = Cluster::new([1, 2]);
    let stranger = Proof::issued(&Ca::generate(CLUSTER).unwrap(), 1);
    let other = format!("aegis://{}/node/1", ClusterId([2; 32]));
    let other = Proof::forged(&cluster.ca, 1, |params| {
        params.subject_alt_names = vec![uri(&other)];
    });
    let expired = Proof::forged(&cluster.ca, 1, |params| {
        params.not_after = OffsetDateTime::now_utc() - Duration::hours(1);
    });
    for (proof, identity) in [(stranger, false), (other, true), (expired, false)] {
        let server = RawServer::bind(proof).await;
        let peers = cluster.peers(2);
        peers.set_address(node(1), server.address().into());
        let serving = tokio::spawn(async move {
            loop {
                let _refused = server.accept_tls().await;
            }
        });
        let error = peers.call(node(1), ECHO, "x".into(), LONG).await;
        let error = error.unwrap_err();
        assert!(error.is_without_effect());
        assert_eq!(
            matches!(error, PeerError::WrongIdentity { .. }),
            identity,
            "{error:?}"
        );
        assert!(matches!(
            &*peers.status(node(1)).unwrap().control.last_error.unwrap(),
            LinkError::Identity { .. } | LinkError::Tls { .. }
        ));
        serving.abort();
    }
}

#[test]
fn credentials_must_fit_together() {
    let (ca, other) = (
        Ca::generate(CLUSTER).unwrap(),
        Ca::generate(CLUSTER).unwrap(),
    );
    let (first, second) = (
        ca.issue(node(1), &[]).unwrap(),
        ca.issue(node(2), &[]).unwrap(),
    );
    let ca_pem = ca.certificate_pem();
    let load = |ca: &str, certificate: &str, key: &str| {
        Credentials::from_pem(ca, certificate, key).map(|_| ())
    };
    load(ca_pem, &first.certificate_pem, &first.key_pem).unwrap();

    let (certificate, key) = (&first.certificate_pem, &first.key_pem);
    assert!(matches!(
        load(other.certificate_pem(), certificate, key),
        Err(CredentialsError::Mismatch(_))
    ));
    assert!(matches!(
        load(ca_pem, certificate, &second.key_pem),
        Err(CredentialsError::Mismatch(_))
    ));
    assert!(matches!(
        load(certificate, certificate, key),
        Err(CredentialsError::NotAnAuthority)
    ));
    assert!(matches!(
        load(ca_pem, ca_pem, &ca.key_pem()),
        Err(CredentialsError::NotANode)
    ));
    assert!(matches!(
        load(ca_pem, "", key),
        Err(CredentialsError::CertificatePem { whose: "node", .. })
    ));
    assert!(matches!(
        load(ca_pem, certificate, "-"),
        Err(CredentialsError::KeyPem { .. })
    ));
    let elsewhere = Ca::generate(ClusterId([2; 32])).unwrap();
    assert!(matches!(
        load(elsewhere.certificate_pem(), certificate, key),
        Err(CredentialsError::OtherCluster { .. })
    ));
}

#[test]
fn expired_credentials_say_so() {
    let ca = Ca::generate(CLUSTER).unwrap();
    let past = OffsetDateTime::now_utc() - Duration::hours(1);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority_key = rcgen::KeyPair::from_pem(&ca.key_pem()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(ca.certificate_pem(), authority_key).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![uri(&format!("aegis://{CLUSTER}/node/1"))];
    params.not_after = past;
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    let error = Credentials::from_pem(ca.certificate_pem(), &certificate, &key.serialize_pem());
    assert!(matches!(
        error.unwrap_err(),
        CredentialsError::NotValidNow { whose: "node", .. }
    ));
}

#[test]
fn an_endpoint_claims_what_its_certificate_proves() {
    let cluster = Cluster::new([]);
    let claimed = identity(2);
    let endpoint = Endpoint::new(claimed, cluster.credentials(1), cluster.members.clone());
    assert!(matches!(
        endpoint.err(),
        Some(EndpointError::OtherIdentity { .. })
    ));
}
