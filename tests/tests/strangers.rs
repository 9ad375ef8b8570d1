//! Does anybody get into a node's port for peers without the certificate of that node, and can one who has it do what
//! no honest member does? Speaks TLS and the peers' protocol itself. `net/tests/tls.rs` has more of bad certificates.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use walengine_net::message::{ServerStatus, ServerStatusReply};
use walengine_net::model::{ClusterId, PartitionId};
use walengine_net::tls::{Expected, Secured, Tls, server_name};
use walengine_replication::peer::{Hello, HelloReply, Message, PeerErrorCode, Refusal, frame};
use walengine_tests::credentials::Credentials;
use walengine_tests::server::text;
use walengine_tests::trio::{Ledger, Trio, verify, wait_for};
use walengine_tests::wire::Wire;

use crate::hostile::peer_frame;
use crate::liar::lies;

/// Long, so that a busy machine ends no leadership.
const ELECTION_MILLIS: &str = "6000";
const PATIENCE: Duration = Duration::from_mins(1);

/// What a node answers to frames over TLS; nothing if it ends the connection first.
fn answers(address: SocketAddr, credentials: &Path, messages: &[Message]) -> Vec<Message> {
    let config = Tls::open(credentials).unwrap().current().dial(Expected::ANYBODY);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut secured = Secured::client(config, server_name(PartitionId(0))).unwrap();
    let bytes: Vec<u8> = messages.iter().flat_map(peer_frame).collect();
    let (mut received, mut answers) = (Vec::new(), Vec::new());
    let mut ask = || {
        secured.handshake(&mut stream)?;
        let mut sent = 0;
        while sent < bytes.len() {
            sent += secured.write(&mut stream, &bytes[sent..])?;
        }
        secured.flush(&mut stream)?;
        while answers.len() < messages.len() {
            let found = frame::peek(&received).unwrap();
            if let Some((answer, bytes)) = found.map(|one| (one.open(), one.frame_bytes())) {
                answers.push(answer.unwrap());
                received.drain(..bytes);
                continue;
            }
            let mut piece = [0; 4096];
            match secured.read(&mut stream, &mut piece)? {
                0 => break,
                read => received.extend_from_slice(&piece[..read]),
            }
        }
        std::io::Result::Ok(())
    };
    if let Err(error) = ask() {
        let waited = [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind());
        assert!(!waited, "neither an answer nor an end: {error}");
    }
    answers
}

/// The numbers of a node's status.
fn numbers(trio: &Trio, node: usize) -> BTreeMap<String, u64> {
    let credentials = trio.credentials.as_ref().unwrap();
    let mut wire = Wire::secured(trio.clients[node], 0, &credentials.open("admin-ops")).unwrap();
    let reply = wire.call(&ServerStatus::default()).unwrap();
    let rows = reply.open::<ServerStatusReply<'_>>().numbers.iter();
    rows.map(|row| (row.name.to_string(), row.value.to_native())).collect()
}

fn away(trio: &Trio, node: usize, reason: &str) -> u64 {
    let name = format!("peer_connections_turned_away_{reason}_since_start");
    numbers(trio, node).get(&name).copied().unwrap_or(0)
}

#[test]
fn nobody_is_a_peer_but_who_has_its_certificate_and_that_one_is_not_believed_either() {
    let mut trio = Trio::form_secured("strangers", &[("--election-millis", ELECTION_MILLIS)]);
    let credentials = trio.credentials.clone().unwrap();
    let mut ledger = Ledger::of(&trio);
    ledger.write(10);
    let leader = trio.leader();
    let (liar, target) = ((leader + 1) % 3, (leader + 2) % 3);
    let id = |node: usize| node as u64 + 1;
    let before = trio.view(leader).unwrap();
    let cluster = ClusterId(before.cluster);
    let hello = |node| Hello { cluster, node, partition: PartitionId(0), partitions: 1 };
    let address = trio.peers[target];
    let of = |who: &str| credentials.of(who);

    // Who has no certificate of a node.
    let foreign = Credentials::make(&trio.dir.path().join("foreign")).of("node-2");
    let both = [&foreign, &of("ca")].map(|dir| fs::read_to_string(dir.join("ca.pem")).unwrap());
    fs::write(foreign.join("ca.pem"), both.concat()).unwrap(); // so that it believes the node
    let stolen = trio.dir.path().join("stolen");
    credentials.steal("client-reports", &stolen);
    for (who, reason) in [
        (of("client-payments"), "wrong_role"),
        (of("admin-ops"), "wrong_role"),
        (foreign, "foreign"),
    ] {
        let counted = away(&trio, target, reason);
        let began = Instant::now();
        let said = answers(address, &who, &[Message::Hello(hello(id(liar)))]);
        assert!(said.is_empty(), "{}: {said:?}", who.display());
        println!("{} was refused after {:?}", who.display(), began.elapsed());
        wait_for(reason, || away(&trio, target, reason) == counted + 1, || trio.logs());
    }
    credentials.cert("revoke certs/client-reports");
    let revoked = || {
        let said = answers(address, &stolen, &[Message::Hello(hello(id(liar)))]);
        assert!(said.is_empty(), "{said:?}");
        away(&trio, target, "revoked") > 0
    };
    wait_for("revoked", revoked, || trio.logs());
    // None at all, in the peers' protocol and in none.
    for bytes in [peer_frame(&Message::Hello(hello(id(liar)))), vec![7; 64]] {
        let counted = away(&trio, target, "tls_failed");
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said); // a reset is an end, too
        assert!(frame::peek(&said).map_or(true, |found| found.is_none()), "{said:?}");
        wait_for("plain", || away(&trio, target, "tls_failed") == counted + 1, || trio.logs());
    }
    // One node as another.
    let own = of(&format!("node-{}", id(liar)));
    match &answers(address, &own, &[Message::Hello(hello(id(leader)))])[..] {
        [Message::HelloReply(HelloReply::Refused(Refusal::OtherIdentity))] => {}
        other => panic!("it was answered with {other:?}"),
    }
    assert_eq!(away(&trio, target, "wrong_node"), 1);

    // A member, in its own name.
    let refused = "peer_requests_refused_of_shard_since_start";
    let counted = numbers(&trio, target)[refused];
    let mut dishonest = 0;
    for (what, message, is_lie) in lies(before.term, id(liar), id(target), id(leader)) {
        match &answers(address, &own, &[Message::Hello(hello(id(liar))), message])[..] {
            [Message::HelloReply(HelloReply::Accepted { .. }), Message::Error(error)] if is_lie => {
                assert_eq!(error.code, PeerErrorCode::Dishonest, "{what}: {error:?}");
                dishonest += 1;
            }
            [_, Message::VoteReply(answer)] if !is_lie => {
                assert!(!answer.vote_granted, "{what}: {answer:?}");
            }
            other => panic!("{what} was answered with {other:?}"),
        }
    }
    assert_eq!(numbers(&trio, target)[refused], counted + dishonest);
    assert!(trio.log(target).contains("is not believed"), "{}", trio.log(target));
    ledger.write(10);
    let now = trio.view(trio.leader()).unwrap();
    assert_eq!((now.leader, now.term), (before.leader, before.term), "{}", trio.logs());
    for node in 0..3 {
        trio.stop(node);
        let verified = verify(&trio.data(node));
        assert!(verified.status.success(), "{}", text(&verified));
        trio.spawn(node, false);
        trio.wait_until_serving();
    }
    ledger.write(10);
}
