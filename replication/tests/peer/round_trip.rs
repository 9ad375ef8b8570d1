//! Is every message the same after encoding and decoding?

use walengine_replication::peer::limits::REPLY_BIT;
use walengine_replication::peer::{Kind, Message, frame};

use crate::random::{Random, largest};
use crate::support::{encoded, head_of, same};

fn assert_comes_back(message: &Message) {
    let head = head_of(message);
    let bytes = encoded(head, message);
    let frame = frame::peek(&bytes).unwrap().unwrap();
    assert_eq!((frame.kind, frame.head), (message.kind(), head));
    assert_eq!(frame.frame_bytes(), bytes.len());
    assert_eq!(frame::peek_bytes(&bytes), Ok(Some(bytes.len())));
    let back = frame.open().unwrap();
    assert!(same(&back, message), "{back:?}\n{message:?}");
}

#[test]
fn every_message_comes_back_as_it_was() {
    let mut random = Random::new();
    for _ in 0..300 {
        for &kind in Kind::ALL {
            let message = random.message(kind);
            assert_eq!(message.kind(), kind);
            assert_comes_back(&message);
        }
    }
}

#[test]
fn the_largest_messages_come_back_as_they_were() {
    largest().iter().for_each(assert_comes_back);
}

#[test]
fn frames_stand_behind_each_other() {
    let mut random = Random::new();
    let messages: Vec<_> = Kind::ALL.iter().map(|&kind| random.message(kind)).collect();
    let mut bytes = Vec::new();
    for message in &messages {
        frame::encode(&mut bytes, head_of(message), message).unwrap();
    }
    let mut rest = &bytes[..];
    for message in &messages {
        let frame = frame::peek(rest).unwrap().unwrap();
        assert!(same(&frame.open().unwrap(), message));
        rest = &rest[frame.frame_bytes()..];
    }
    assert!(rest.is_empty());
}

#[test]
fn a_hello_fits_what_a_stranger_may_send() {
    let mut random = Random::new();
    for kind in [Kind::Hello, Kind::HelloReply] {
        let message = random.message(kind);
        let bytes = encoded(head_of(&message), &message);
        assert_eq!(frame::peek_hello(&bytes).unwrap().unwrap().kind, kind);
    }
}

#[test]
fn an_answer_has_the_number_of_its_request_plus_128() {
    for &kind in Kind::ALL {
        assert_eq!(Kind::from_number(kind.number()), Some(kind));
    }
    let reply = |request: Kind| {
        let is_reply = request.number() & REPLY_BIT != 0;
        if is_reply { None } else { Kind::from_number(request.number() | REPLY_BIT) }
    };
    let answers = [
        (Kind::Hello, Some(Kind::HelloReply)),
        (Kind::Append, Some(Kind::AppendReply)),
        (Kind::Vote, Some(Kind::VoteReply)),
        (Kind::PreVote, Some(Kind::PreVoteReply)),
        (Kind::TransferLeader, Some(Kind::TransferLeaderReply)),
        (Kind::LogRead, Some(Kind::LogPage)),
        (Kind::About, Some(Kind::AboutReply)),
        (Kind::Carry, Some(Kind::CarryReply)),
        (Kind::Error, None),
    ];
    for (request, answer) in answers {
        assert_eq!(reply(request), answer);
    }
}
