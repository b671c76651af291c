//! Peers with good certificates and bad manners.

use std::time::Duration;

use aegis_peers::{
    Direction, FailureKind, LinkError, PeerError, Peers, RefusalCode, StreamError, WIRE_VERSION,
};
use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use rustls::version::TLS13;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::raw::{
    Proof, RawClient, RawConnection, RawServer, answer, client_config, collect, greeted, hello,
    secure,
};
use crate::support::*;

/// Waits until the other side closes.
async fn closes(mut socket: impl AsyncReadExt + Unpin) {
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(LONG, socket.read_to_end(&mut rest)).await;
    // In good order or not.
    assert!(closed.is_ok());
}

async fn still_serves(cluster: &Cluster, server: &Running) {
    let peers = cluster.peers_to(2, server);
    peers.call(node(1), ECHO, "x".into(), LONG).await.unwrap();
}

#[tokio::test]
async fn another_version_is_told_ours() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let ours = WIRE_VERSION.to_string();

    let client = RawClient::connect(server.address, Proof::issued(&cluster.ca, 2)).await;
    let answer = client.post("/hello", hello(2, identity(2))).await.unwrap();
    assert_eq!(answer.status, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(answer.refusal(), "version");
    assert_eq!(answer.headers["aegis-version"], ours);

    let client = greeted(server.address, &cluster.ca, 2).await;
    let answer = client.post("/echo", vec![0, 5]).await.unwrap();
    assert_eq!(answer.refusal(), "version");
    assert_eq!(answer.headers["aegis-version"], ours);

    let request = Request::post("https://raw/echo-each").body(()).unwrap();
    let (response, mut sender) = client.open(request).await.unwrap();
    sender.send_data(vec![3].into(), false).unwrap();
    let answer = collect(response.await.unwrap()).await.unwrap();
    assert_eq!(answer.refusal(), "version");
    assert!(server.counts.saw(Direction::Inbound, FailureKind::Version));
}

#[tokio::test]
async fn requests_that_break_the_rules_are_refused_one_by_one() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let client = greeted(server.address, &cluster.ca, 2).await;

    let answer = client.post("/echo", vec![]).await.unwrap();
    assert_eq!(answer.refusal(), "malformed");
    let large = vec![1; ECHO.request_bytes_max() + 2];
    let answer = client.post("/echo", large).await.unwrap();
    assert_eq!(answer.refusal(), "too-large");
    let answer = client.post("/", vec![1]).await.unwrap();
    assert_eq!(answer.refusal(), "unknown-method");

    let send = async |request: Request<()>| {
        let (response, mut sender) = client.open(request).await.unwrap();
        sender.send_data(vec![1].into(), true).unwrap();
        collect(response.await.unwrap()).await.unwrap()
    };
    let unsized_ = Request::post("https://raw/echo").body(()).unwrap();
    assert_eq!(send(unsized_).await.refusal(), "malformed");
    let put = Request::put("https://raw/echo")
        .header("content-length", 1)
        .body(())
        .unwrap();
    assert_eq!(send(put).await.refusal(), "malformed");

    // A body that is shorter or longer than announced.
    for body in [vec![1; 5], vec![1; 20]] {
        let request = Request::post("https://raw/echo").header("content-length", 10);
        let (response, mut sender) = client.open(request.body(()).unwrap()).await.unwrap();
        sender.send_data(body.into(), true).unwrap();
        let error = async { collect(response.await?).await }.await.unwrap_err();
        assert!(error.is_reset() && error.is_remote(), "{error}");
    }

    // A short greeting ends a connection, these did not.
    let answer = client.post("/echo", vec![1, 9]).await.unwrap();
    assert_eq!(answer.body, [1, 9]);
    let rude = RawClient::connect(server.address, Proof::issued(&cluster.ca, 2)).await;
    let answer = rude.post("/hello", vec![1, 2, 3]).await.unwrap();
    assert_eq!(answer.refusal(), "malformed");
}

#[tokio::test]
async fn header_fields_are_bounded() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let client = greeted(server.address, &cluster.ca, 2).await;
    let request = Request::post("https://raw/echo")
        .header("content-length", 1)
        .header("x-padding", "x".repeat(32 << 10))
        .body(())
        .unwrap();
    let outcome = async {
        let (response, mut sender) = client.open(request).await?;
        sender.send_data(vec![1].into(), true)?;
        collect(response.await?).await
    };
    // HTTP/2 answers 431 by itself or breaks off.
    match outcome.await {
        Ok(answer) => assert_eq!(answer.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        Err(error) => assert!(error.is_remote() || error.is_io(), "{error}"),
    }
    still_serves(&cluster, &server).await;
}

#[tokio::test]
async fn garbage_closes_the_connection_and_no_more() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let garbage: Vec<u8> = (0..4096_u32)
        .map(|i| 255 - (i * 31 % 251).to_be_bytes()[3])
        .collect();

    // Instead of TLS.
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(&garbage).await.unwrap();
    closes(socket).await;

    // Instead of the preface of HTTP/2, and after it.
    for preface in [&b""[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let config = client_config(Some(Proof::issued(&cluster.ca, 2)), &[&TLS13]);
        let mut socket = secure(server.address, config).await.unwrap();
        socket.write_all(preface).await.unwrap();
        socket.write_all(&garbage).await.unwrap();
        closes(socket).await;
    }
    still_serves(&cluster, &server).await;
}

#[tokio::test]
async fn garbage_on_a_stream_ends_that_stream() {
    let cluster = Cluster::new([1, 2]);
    let server = cluster.serve(1).await;
    let client = greeted(server.address, &cluster.ca, 2).await;
    let converse = async |bytes: &[u8]| {
        let request = Request::post("https://raw/echo-each").body(()).unwrap();
        let (response, mut sender) = client.open(request).await.unwrap();
        sender
            .send_data(Bytes::copy_from_slice(bytes), true)
            .unwrap();
        let mut body = response.await.unwrap().into_body();
        while let Some(chunk) = body.data().await {
            let bytes = chunk.unwrap().len();
            body.flow_control().release_capacity(bytes).unwrap();
        }
        let trailers = body.trailers().await.unwrap().unwrap_or_default();
        trailers
            .get("aegis-refusal")
            .map(|code| code.to_str().unwrap().to_owned())
    };
    assert_eq!(converse(&[1]).await, None);
    assert_eq!(converse(&[1, 0, 0, 0, 1, 7]).await, None);
    // A length beyond the bound, a message cut off, a length cut off.
    let too_large = [1, 0xff, 0xff, 0xff, 0xff, 7, 7];
    assert_eq!(converse(&too_large).await.unwrap(), "too-large");
    assert_eq!(converse(&[1, 0, 0, 0, 5, 7]).await.unwrap(), "malformed");
    assert_eq!(converse(&[1, 0, 0]).await.unwrap(), "malformed");
    assert_eq!(converse(&[1, 0, 0, 0, 1, 7]).await, None);
}

#[tokio::test]
async fn a_slow_handshake_is_cut_off() {
    let mut cluster = Cluster::new([1, 2]);
    cluster.limits.handshake_timeout = Duration::from_millis(300);
    cluster.limits.handshakes_max = 1;
    let server = cluster.serve(1).await;

    // No TLS; no HTTP/2; no greeting.
    let silent = TcpStream::connect(server.address).await.unwrap();
    closes(silent).await;
    let config = || client_config(Some(Proof::issued(&cluster.ca, 2)), &[&TLS13]);
    closes(secure(server.address, config()).await.unwrap()).await;
    let rude = RawClient::connect(server.address, Proof::issued(&cluster.ca, 2)).await;
    let ended = tokio::time::timeout(LONG, rude.connection).await;
    assert!(ended.is_ok());
    assert!(
        server
            .counts
            .saw(Direction::Inbound, FailureKind::Handshake)
    );

    // One who dawdles delays the others, who wait in the kernel, only until he is cut off.
    let _dawdler = TcpStream::connect(server.address).await.unwrap();
    until_ok(|| async {
        let peers = cluster.peers_to(2, &server);
        peers.call(node(1), ECHO, "x".into(), LONG).await
    })
    .await;
}

#[tokio::test]
async fn a_slow_body_is_cut_off() {
    let mut cluster = Cluster::new([1, 2]);
    cluster.limits.body_timeout = Duration::from_millis(100);
    let server = cluster.serve(1).await;
    let client = greeted(server.address, &cluster.ca, 2).await;
    for (path, length) in [("/echo", Some(10)), ("/echo-each", None)] {
        let mut request = Request::post(format!("https://raw{path}"));
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let (response, _sender) = client.open(request.body(()).unwrap()).await.unwrap();
        let answer = collect(response.await.unwrap()).await.unwrap();
        assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT);
        assert_eq!(answer.refusal(), "too-slow");
    }
}

#[tokio::test]
async fn a_caller_that_stops_reading_costs_little_and_is_dropped() {
    use std::sync::atomic::Ordering::SeqCst;

    let mut cluster = Cluster::new([1, 2]);
    cluster.limits.keep_alive_interval = Duration::from_millis(200);
    cluster.limits.keep_alive_timeout = Duration::from_millis(300);
    let server = cluster.serve(1).await;
    // A window so wide that flow control does not hold the server up.
    let config = client_config(Some(Proof::issued(&cluster.ca, 2)), &[&TLS13]);
    let socket = secure(server.address, config).await.unwrap();
    let (requests, mut connection) = h2::client::Builder::new()
        .initial_window_size(1 << 30)
        .initial_connection_window_size(1 << 30)
        .handshake::<_, Bytes>(socket)
        .await
        .unwrap();
    let greet_and_open = async {
        let mut requests = requests.ready().await.unwrap();
        let hello = Bytes::from(hello(WIRE_VERSION, identity(2)));
        let request = Request::post("https://raw/hello").header("content-length", hello.len());
        let (response, mut sender) = requests
            .send_request(request.body(()).unwrap(), false)
            .unwrap();
        sender.send_data(hello, true).unwrap();
        assert_eq!(response.await.unwrap().status(), StatusCode::OK);
        let request = Request::post("https://raw/flood").body(()).unwrap();
        let (response, mut sender) = requests.send_request(request, false).unwrap();
        sender.send_data(vec![1].into(), false).unwrap();
        (requests, response.await.unwrap(), sender)
    };
    let _held = tokio::select! {
        held = greet_and_open => held,
        ended = &mut connection => panic!("{ended:?}"),
    };
    // From here on nobody drives the connection: its socket is open and stands still.
    until(async || {
        let gone = server.counts.disconnected.load(SeqCst) == 1;
        gone.then_some(())
    })
    .await;
    assert!(server.counts.saw(Direction::Inbound, FailureKind::Silent));
    // What the sockets took, and a few buffers.
    let sent = server.counts.sent_bytes.load(SeqCst);
    assert!(sent < 32 << 20, "{sent} bytes");
    drop(connection);
}

/// A pool of node 2 and the connection that it made to a raw node 1, on the control lane or the
/// bulk lane, whichever came first.
async fn dialled_by_pool(cluster: &Cluster) -> (Peers, RawServer, Vec<RawConnection>) {
    let server = RawServer::bind(Proof::issued(&cluster.ca, 1)).await;
    let peers = cluster.peers(2);
    peers.set_address(node(1), server.address().into());
    let hello = hello(WIRE_VERSION, identity(1));
    let mut connections = Vec::new();
    for _ in 0..2 {
        connections.push(server.accept_greeting(&hello).await);
    }
    (peers, server, connections)
}

/// Serves `connections`, answering each request with what `respond` does.
fn serve_with(
    connections: Vec<RawConnection>,
    respond: impl Fn(h2::server::SendResponse<Bytes>) + Clone + Send + 'static,
) {
    for mut connection in connections {
        let respond = respond.clone();
        tokio::spawn(async move {
            while let Some(Ok((_, response))) = connection.accept().await {
                respond(response);
            }
        });
    }
}

#[tokio::test]
async fn a_server_that_stops_reading_is_dropped() {
    let mut cluster = Cluster::new([1, 2]);
    cluster.limits.keep_alive_interval = Duration::from_millis(200);
    cluster.limits.keep_alive_timeout = Duration::from_millis(300);
    cluster.limits.backoff.base = Duration::from_secs(3600);
    cluster.limits.backoff.cap = Duration::from_secs(3600);
    let (peers, _server, mut connections) = dialled_by_pool(&cluster).await;
    // The answers to the greetings must get out before the connections stand still.
    let connected = until(async || {
        let status = peers.status(node(1))?;
        (status.control.connected && status.bulk.connected).then_some(())
    });
    let driven = join_all(connections.iter_mut().map(RawConnection::accept));
    tokio::select! {
        () = connected => {}
        _ = driven => panic!("the pool closed a connection"),
    }
    let body = Bytes::from(vec![0; 8 << 20]);
    let error = peers.call(node(1), ECHO_LARGE, body, LONG).await;
    let error = error.unwrap_err();
    assert!(
        matches!(
            error,
            PeerError::Broken { .. } | PeerError::Unreachable { .. }
        ),
        "{error:?}"
    );
    until(async || {
        let status = peers.status(node(1))?.bulk;
        let error = status.last_error?;
        (!status.connected && matches!(*error, LinkError::Silent { .. })).then_some(())
    })
    .await;
}

#[tokio::test]
async fn answers_that_break_the_rules_are_errors_of_their_kind() {
    type Check = fn(PeerError);
    let cluster = Cluster::new([1, 2]);
    let cases: [(&[u8], Check); 3] = [
        // Of another version, and after the request was carried out.
        (&[9, 1], |error| {
            assert!(matches!(error, PeerError::Broken { .. }), "{error:?}");
            assert!(!error.is_without_effect());
        }),
        // Without even a version.
        (&[], |error| {
            assert!(matches!(error, PeerError::Broken { .. }), "{error:?}");
        }),
        // Too large.
        (&[1; 102], |error| {
            assert!(
                matches!(
                    error,
                    PeerError::TooLarge {
                        bytes: 101,
                        bytes_max: 100,
                        ..
                    }
                ),
                "{error:?}"
            );
            assert!(!error.is_without_effect());
        }),
    ];
    for (body, check) in cases {
        let (peers, _server, connections) = dialled_by_pool(&cluster).await;
        serve_with(connections, move |respond| answer(respond, body));
        check(
            peers
                .call(node(1), WHO, Bytes::new(), LONG)
                .await
                .unwrap_err(),
        );
    }
}

#[tokio::test]
async fn a_server_of_another_version_is_told_apart() {
    let cluster = Cluster::new([1, 2]);
    // It says so when it is called.
    let (peers, _server, connections) = dialled_by_pool(&cluster).await;
    serve_with(connections, |mut respond| {
        let response = Response::builder()
            .status(StatusCode::NOT_ACCEPTABLE)
            .header("aegis-refusal", "version")
            .header("aegis-version", "7")
            .body(())
            .unwrap();
        respond.send_response(response, true).unwrap();
    });
    let expect = |error: PeerError| {
        assert!(
            matches!(
                error,
                PeerError::Version {
                    ours: 1,
                    theirs: 7,
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(error.is_without_effect());
    };
    expect(
        peers
            .call(node(1), ECHO, "x".into(), LONG)
            .await
            .unwrap_err(),
    );
    let input = stream::pending();
    expect(
        peers
            .stream(node(1), ECHO_EACH, input, LONG)
            .await
            .err()
            .unwrap(),
    );

    // It greets so.
    let server = RawServer::bind(Proof::issued(&cluster.ca, 1)).await;
    let peers = cluster.peers(2);
    peers.set_address(node(1), server.address().into());
    tokio::spawn(async move {
        loop {
            let mut connection = server.accept_greeting(&hello(7, identity(1))).await;
            tokio::spawn(async move { while connection.accept().await.is_some() {} });
        }
    });
    expect(
        peers
            .call(node(1), ECHO, "x".into(), LONG)
            .await
            .unwrap_err(),
    );
}

#[tokio::test]
async fn an_answer_without_our_fields_is_a_refusal_of_unknown_effect() {
    let cluster = Cluster::new([1, 2]);
    let (peers, _server, connections) = dialled_by_pool(&cluster).await;
    serve_with(connections, |mut respond| {
        let response = Response::builder().status(502).body(()).unwrap();
        respond.send_response(response, true).unwrap();
    });
    let error = peers.call(node(1), ECHO, "x".into(), LONG).await;
    let error = error.unwrap_err();
    assert!(matches!(
        &error,
        PeerError::Refused { source, .. } if source.code() == RefusalCode::Unknown
    ));
    assert!(!error.is_without_effect());
}

#[tokio::test]
async fn what_the_server_says_it_has_not_looked_at_had_no_effect() {
    let cluster = Cluster::new([1, 2]);
    let reset = async |reason| {
        let (peers, _server, connections) = dialled_by_pool(&cluster).await;
        serve_with(connections, move |mut respond| respond.send_reset(reason));
        let error = peers.call(node(1), ECHO, "x".into(), LONG).await;
        error.unwrap_err()
    };
    let error = reset(h2::Reason::REFUSED_STREAM).await;
    assert!(matches!(error, PeerError::Unreachable { .. }), "{error:?}");
    assert!(error.is_without_effect());
    // Any other reset leaves it open.
    let error = reset(h2::Reason::INTERNAL_ERROR).await;
    assert!(matches!(error, PeerError::Broken { .. }), "{error:?}");
    assert!(!error.is_without_effect());

    // A connection that goes away names the last request that it has looked at.
    let (peers, _server, connections) = dialled_by_pool(&cluster).await;
    let calling = tokio::spawn(async move { peers.call(node(1), ECHO, "x".into(), LONG).await });
    for mut connection in connections {
        connection.abrupt_shutdown(h2::Reason::NO_ERROR);
        tokio::spawn(async move { while connection.accept().await.is_some() {} });
    }
    let error = calling.await.unwrap().unwrap_err();
    assert!(matches!(error, PeerError::Unreachable { .. }), "{error:?}");
    assert!(error.is_without_effect());
}

#[tokio::test]
async fn garbage_from_a_server_ends_the_stream() {
    type Check = fn(&StreamError) -> bool;
    let cluster = Cluster::new([1, 2]);
    let cases: [(&[u8], Check); 3] = [
        (&[1, 0, 0, 0, 200], |e| {
            matches!(e, StreamError::TooLarge { bytes: 200, .. })
        }),
        (&[1, 0, 0, 0, 20, 7], |e| {
            matches!(e, StreamError::Truncated { received: 5 })
        }),
        (&[1, 0], |e| {
            matches!(e, StreamError::Truncated { received: 1 })
        }),
    ];
    for (body, expected) in cases {
        let (peers, _server, connections) = dialled_by_pool(&cluster).await;
        serve_with(connections, move |respond| answer(respond, body));
        let input = stream::pending();
        let mut answers = peers.stream(node(1), THREE, input, LONG).await.unwrap();
        let error = answers.next().await.unwrap().unwrap_err();
        assert!(expected(&error), "{error:?}");
        assert!(answers.next().await.is_none());
    }
}
