//! The client against nodes that are a few lines each.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::*;
use crate::context::block_on;
use crate::failure::{Exit, Failure};

/// A node that gives these answers, one a request, and keeps what it was asked.
struct Node {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Node {
    fn answering(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answers, log): (Vec<String>, _) = (
            answers.iter().map(|&answer| answer.to_owned()).collect(),
            Arc::clone(&asked),
        );
        std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                serve(stream, &answer, &log);
            }
        });
        Self { endpoint, asked }
    }

    /// An endpoint at which nobody listens.
    fn down() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Reads a request, answers, and closes.
fn serve(mut stream: TcpStream, answer: &str, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() <= 2 {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let request = format!("{head}\n{}", String::from_utf8(body).unwrap());
    log.lock().unwrap().push(request);
    stream.write_all(answer.as_bytes()).unwrap();
}

fn reply(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

fn client(endpoints: &[&str], patience: Duration) -> Client {
    let endpoints: Vec<String> = endpoints
        .iter()
        .map(|&endpoint| endpoint.to_owned())
        .collect();
    let token = Zeroizing::new("s3cret\n".to_owned());
    // The process may have one already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    Client::new(&endpoints, Some(&token), patience).unwrap()
}

fn ask<T>(work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    let mut result = None;
    block_on(async {
        result = Some(work.await);
        Ok(())
    })
    .unwrap();
    result.unwrap()
}

const LONG: Duration = Duration::from_secs(20);
const BUSY: &str =
    r#"{"status": 503, "code": "no_leader", "title": "No leader", "detail": "send it again"}"#;

#[test]
fn the_next_node_is_asked_when_one_is_down_and_then_remembered() {
    let (down, node) = (
        Node::down(),
        Node::answering(&[&reply("200 OK", "", "1"), &reply("200 OK", "", "2")]),
    );
    let client = client(&[&down, &node.endpoint], LONG);
    for expected in [1, 2] {
        let answer = ask(client.get("/x?y=1")).unwrap();
        assert_eq!(answer.endpoint, node.endpoint);
        assert_eq!(answer.read::<u32>().unwrap(), expected);
    }
    let asked = node.asked();
    assert!(
        asked[0].starts_with("GET /api/v1/consensus/x?y=1 HTTP/1.1\r\n"),
        "{asked:?}"
    );
    assert!(
        asked[0].contains("authorization: Bearer s3cret\r\n"),
        "{asked:?}"
    );
    assert_eq!(client.rotation().next().unwrap().text, node.endpoint);
}

#[test]
fn no_node_at_all_names_them_all() {
    let (one, two) = (Node::down(), Node::down());
    let error = ask(client(&[&one, &two], LONG).get("/x")).unwrap_err();
    let failure = Failure::from(error);
    assert_eq!(failure.exit(), Exit::Unreachable);
    let text = failure.to_string();
    assert!(
        text.contains(&one) && text.contains(&two) && text.contains("refused"),
        "{text}"
    );
}

#[test]
fn a_node_that_asks_for_time_gets_it() {
    let busy = reply("503 Service Unavailable", "retry-after: 0\r\n", BUSY);
    let node = Node::answering(&[&busy, &busy, &reply("201 Created", "", "{}")]);
    ask(client(&[&node.endpoint], LONG).post("/x", &json!({}))).unwrap();
    assert_eq!(node.asked().len(), 3);
}

#[test]
fn patience_ends() {
    let busy = reply("503 Service Unavailable", "retry-after: 9\r\n", BUSY);
    let node = Node::answering(&[&busy]);
    let error = ask(client(&[&node.endpoint], Duration::from_secs(5)).get("/x")).unwrap_err();
    let failure = Failure::from(error);
    assert_eq!(failure.exit(), Exit::Unreachable);
    assert!(
        failure.to_string().contains("send it again [no_leader]"),
        "{failure}"
    );
}

#[test]
fn what_may_have_been_done_is_not_done_twice() {
    let (silent, other) = (Node::answering(&[""]), Node::answering(&[]));
    let client = client(&[&silent.endpoint, &other.endpoint], LONG);
    let error = ask(client.post("/x", &json!({}))).unwrap_err();
    assert!(matches!(error, ClientError::Unknown { .. }), "{error}");
    assert_eq!(Failure::from(error).exit(), Exit::Failed);

    let unknown = reply("504 Gateway Timeout", "", r#"{"code": "change_timed_out"}"#);
    let node = Node::answering(&[&unknown]);
    let error = ask(self::client(&[&node.endpoint], LONG).post("/x", &json!({}))).unwrap_err();
    assert!(matches!(error, ClientError::Refused(_)), "{error}");
}

#[test]
fn what_is_its_own_name_is_repeated_under_it() {
    let unknown = reply("504 Gateway Timeout", "", r#"{"code": "outcome_unknown"}"#);
    let silent = Node::answering(&[""]);
    let node = Node::answering(&[&unknown, &reply("201 Created", "", "{}")]);
    let client = client(&[&silent.endpoint, &node.endpoint], LONG);
    ask(client
        .only(&node.endpoint, LONG)
        .unwrap()
        .post_once("/agents", &json!({"a": 1})))
    .unwrap();
    let asked = node.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0], asked[1]);
    assert!(
        asked[0].contains("idempotency-key: ") && asked[0].ends_with(r#"{"a":1}"#),
        "{asked:?}"
    );

    let (silent, node) = (
        Node::answering(&[""]),
        Node::answering(&[&reply("200 OK", "", "{}")]),
    );
    let client = self::client(&[&silent.endpoint, &node.endpoint], LONG);
    ask(client.post_same("/votes", &json!({}))).unwrap();
    assert_eq!((silent.asked().len(), node.asked().len()), (1, 1));
}

#[test]
fn a_refusal_is_told_in_the_nodes_words() {
    for (status, body, exit, words) in [
        (
            "404 Not Found",
            r#"{"code": "unknown_proposal", "detail": "there is no prop_9"}"#,
            Exit::NotFound,
            "there is no prop_9 [unknown_proposal]",
        ),
        (
            "409 Conflict",
            r#"{"code": "already_voted", "title": "Already voted", "detail": ""}"#,
            Exit::Failed,
            "Already voted [already_voted]",
        ),
        (
            "401 Unauthorized",
            r#"{"code": "unauthenticated", "detail": "no token"}"#,
            Exit::Failed,
            "no token [unauthenticated]\ngive a token with --token-file or AEGIS_TOKEN_FILE",
        ),
        (
            "502 Bad Gateway",
            "<html>",
            Exit::Failed,
            "Bad Gateway [502]",
        ),
        (
            "307 Temporary Redirect",
            "",
            Exit::Failed,
            "Temporary Redirect [307]",
        ),
    ] {
        let node = Node::answering(&[&reply(status, "location: http://elsewhere/\r\n", body)]);
        let failure = Failure::from(ask(client(&[&node.endpoint], LONG).get("/x")).unwrap_err());
        assert_eq!(
            (failure.exit(), failure.to_string().as_str()),
            (exit, words)
        );
    }
}

#[test]
fn an_answer_of_another_form_is_no_answer() {
    let node = Node::answering(&[&reply("200 OK", "", "[]")]);
    let answer = ask(client(&[&node.endpoint], LONG).get("/x")).unwrap();
    let error = answer.read::<u32>().unwrap_err();
    assert!(error.to_string().starts_with(&node.endpoint), "{error}");
}

#[test]
fn a_stream_that_breaks_off_is_noticed() {
    let whole = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\nabcd";
    let broken = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 9\r\n\r\nabcd";
    let node = Node::answering(&[whole, broken]);
    let client = client(&[&node.endpoint], LONG);
    let read = || async {
        let mut stream = client.stream("/x").await?;
        let (mut text, len) = (Vec::new(), stream.len());
        while let Some(piece) = stream.next().await? {
            text.extend_from_slice(&piece);
        }
        Ok((text, len))
    };
    assert_eq!(ask(read()).unwrap(), (b"abcd".to_vec(), Some(4)));
    let error = ask(read()).unwrap_err();
    assert!(error.to_string().contains("it broke off"), "{error}");
}

#[test]
fn endpoints_are_checked_before_they_are_used() {
    assert_eq!(Endpoint::parse("http://a:1/").unwrap().text, "http://a:1");
    for text in [
        "a:1",
        "ftp://a",
        "http://a/b",
        "http://a?b",
        "http://u:p@a",
        "",
        "http://",
    ] {
        let error = Endpoint::parse(text).unwrap_err();
        assert_eq!(Failure::from(error).exit(), Exit::Usage, "{text}");
    }
}

#[test]
fn segments_are_encoded() {
    assert_eq!(segment("agent-1.a:b_c~"), "agent-1.a:b_c~");
    assert_eq!(segment("a/b?c é"), "a%2Fb%3Fc%20%C3%A9");
}
