//! Peers that do as they please: TLS and HTTP/2 without the rules of the transport.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use aegis_peers::ca::Ca;
use aegis_peers::{Identity, WIRE_VERSION};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response, StatusCode};
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::support::{CLUSTER, identity, node};

/// A certificate and its key.
pub struct Proof {
    pub certificate: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
}

impl Proof {
    pub fn of_pem(certificate: &str, key: &str) -> Self {
        Self {
            certificate: CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap(),
            key: PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        }
    }

    /// What `ca` gives to node `number`.
    pub fn issued(ca: &Ca, number: u64) -> Self {
        let issued = ca.issue(node(number), &[]).unwrap();
        Self::of_pem(&issued.certificate_pem, &issued.key_pem)
    }

    /// A certificate that `ca` would not issue but whose signature is good: that of node
    /// `number`, changed by `change`.
    pub fn forged(ca: &Ca, number: u64, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let authority_key = KeyPair::from_pem(&ca.key_pem()).unwrap();
        let issuer = Issuer::from_ca_cert_pem(ca.certificate_pem(), authority_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri(&format!("aegis://{CLUSTER}/node/{number}"))];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        Self {
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }
}

pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A client that believes every server.
pub fn client_config(
    proof: Option<Proof>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous));
    let mut config = match proof {
        Some(Proof { certificate, key }) => builder
            .with_client_auth_cert(vec![certificate], key)
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Connects with TLS.
pub async fn secure(
    address: SocketAddr,
    config: ClientConfig,
) -> io::Result<client::TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config))
        .connect(ServerName::IpAddress(address.ip().into()), socket)
        .await
}

/// A client of HTTP/2 whose connection is driven in the background.
pub struct RawClient {
    requests: SendRequest<Bytes>,
    pub connection: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn refusal(&self) -> &str {
        self.headers["aegis-refusal"].to_str().unwrap()
    }
}

impl RawClient {
    /// Connects as the node that `proof` proves.
    pub async fn connect(address: SocketAddr, proof: Proof) -> Self {
        let config = client_config(Some(proof), &[&rustls::version::TLS13]);
        Self::over(secure(address, config).await.unwrap())
            .await
            .unwrap()
    }

    pub async fn over(socket: client::TlsStream<TcpStream>) -> Result<Self, h2::Error> {
        let (requests, connection) = h2::client::handshake(socket).await?;
        Ok(Self {
            requests,
            connection: tokio::spawn(connection),
        })
    }

    /// Sends the head of a request.
    pub async fn open(
        &self,
        request: Request<()>,
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.requests
            .clone()
            .ready()
            .await?
            .send_request(request, false)
    }

    /// Sends a request with a body and its length.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Result<Answer, h2::Error> {
        let body = body.into();
        let request = Request::post(format!("https://raw{path}"))
            .header("content-length", body.len())
            .body(())
            .unwrap();
        let (response, mut sender) = self.open(request).await?;
        sender.send_data(body, true)?;
        collect(response.await?).await
    }

    /// Greets as `identity`.
    pub async fn greet(&self, identity: Identity) -> Result<Answer, h2::Error> {
        self.post("/hello", hello(WIRE_VERSION, identity)).await
    }
}

/// Reads an answer whole.
pub async fn collect(response: Response<RecvStream>) -> Result<Answer, h2::Error> {
    let (head, mut receiver) = response.into_parts();
    let mut body = Vec::new();
    while let Some(chunk) = receiver.data().await {
        body.extend_from_slice(&chunk?);
    }
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}

/// The bytes of a greeting.
pub fn hello(version: u8, identity: Identity) -> Vec<u8> {
    let mut bytes = vec![version];
    bytes.extend(identity.incarnation.0.to_be_bytes());
    bytes.extend(identity.store_id.0);
    bytes
}

/// A greeted client in the name of node `number`.
pub async fn greeted(address: SocketAddr, ca: &Ca, number: u64) -> RawClient {
    let client = RawClient::connect(address, Proof::issued(ca, number)).await;
    let answer = client.greet(identity(number)).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    client
}

/// A server that believes every client.
pub struct RawServer {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl RawServer {
    pub async fn bind(proof: Proof) -> Self {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![proof.certificate], proof.key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub async fn accept_tls(&self) -> io::Result<server::TlsStream<TcpStream>> {
        let (socket, _) = self.listener.accept().await?;
        self.acceptor.accept(socket).await
    }

    /// Accepts a connection and answers its greeting with `body`. Connections that clients give
    /// up are passed over.
    pub async fn accept_greeting(&self, body: &[u8]) -> RawConnection {
        loop {
            let socket = self.accept_tls().await.unwrap();
            let Ok(mut connection) = h2::server::handshake(socket).await else {
                continue;
            };
            if let Some(Ok((request, respond))) = connection.accept().await {
                assert_eq!(request.uri().path(), "/hello");
                answer(respond, body);
                return connection;
            }
        }
    }
}

pub type RawConnection = h2::server::Connection<server::TlsStream<TcpStream>, Bytes>;

/// Answers with a body and its length.
pub fn answer(mut respond: h2::server::SendResponse<Bytes>, body: &[u8]) {
    let response = Response::builder()
        .header("content-length", body.len())
        .body(())
        .unwrap();
    let mut sender = respond.send_response(response, false).unwrap();
    sender
        .send_data(Bytes::copy_from_slice(body), true)
        .unwrap();
}
