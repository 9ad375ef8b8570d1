//! Kafka's numbers: of requests, and of errors.

use walengine_net::client::ClientError;
use walengine_net::message::ErrorCode;

use crate::http::problem::Problem;

/// A kind of request, and the versions of it that are answered: none that has tagged fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api {
    /// Kafka's number of it.
    pub key: i16,
    /// Oldest version.
    pub min: i16,
    /// Newest version.
    pub max: i16,
}

const fn api(key: i16, min: i16, max: i16) -> Api {
    Api { key, min, max }
}

/// Refused always. Readers take the absence of it for a broker of before 2017 and read its old format.
pub const PRODUCE: i16 = 0;
pub const FETCH: i16 = 1;
pub const LIST_OFFSETS: i16 = 2;
pub const METADATA: i16 = 3;
pub const OFFSET_COMMIT: i16 = 8;
pub const OFFSET_FETCH: i16 = 9;
pub const FIND_COORDINATOR: i16 = 10;
pub const JOIN_GROUP: i16 = 11;
pub const HEARTBEAT: i16 = 12;
pub const LEAVE_GROUP: i16 = 13;
pub const SYNC_GROUP: i16 = 14;
pub const API_VERSIONS: i16 = 18;

/// What is answered.
pub const APIS: [Api; 12] = [
    api(PRODUCE, 3, 3),
    api(FETCH, 4, 6),
    api(LIST_OFFSETS, 1, 3),
    api(METADATA, 1, 5),
    api(OFFSET_COMMIT, 2, 4),
    api(OFFSET_FETCH, 1, 3),
    api(FIND_COORDINATOR, 0, 1),
    api(JOIN_GROUP, 0, 3),
    api(HEARTBEAT, 0, 2),
    api(LEAVE_GROUP, 0, 2),
    api(SYNC_GROUP, 0, 2),
    api(API_VERSIONS, 0, 2),
];

pub const NONE: i16 = 0;
pub const OFFSET_OUT_OF_RANGE: i16 = 1;
pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
pub const NOT_LEADER: i16 = 6;
pub const OFFSET_METADATA_TOO_LARGE: i16 = 12;
pub const COORDINATOR_NOT_AVAILABLE: i16 = 15;
pub const ILLEGAL_GENERATION: i16 = 22;
pub const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
pub const INVALID_GROUP_ID: i16 = 24;
pub const UNKNOWN_MEMBER_ID: i16 = 25;
pub const INVALID_SESSION: i16 = 26;
pub const REBALANCE_IN_PROGRESS: i16 = 27;
pub const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
pub const GROUP_AUTHORIZATION_FAILED: i16 = 30;
pub const UNSUPPORTED_VERSION: i16 = 35;
pub const STORAGE_ERROR: i16 = 56;
pub const GROUP_MAX_SIZE_REACHED: i16 = 81;

/// What a read's failure is called. All but a lack of rights is tried again by readers.
pub fn of_client(error: &ClientError) -> i16 {
    match error {
        ClientError::Refused { code: Some(ErrorCode::Forbidden), .. } => TOPIC_AUTHORIZATION_FAILED,
        ClientError::Answer(_) => STORAGE_ERROR,
        _ => NOT_LEADER,
    }
}

/// The same, where no client is had.
pub fn of_problem(problem: &Problem) -> i16 {
    if problem.is_of_rights() { TOPIC_AUTHORIZATION_FAILED } else { NOT_LEADER }
}

/// The same, as answers to a group's members say it: all but a lack of rights passes.
pub fn of_group(code: i16) -> i16 {
    if code == TOPIC_AUTHORIZATION_FAILED {
        GROUP_AUTHORIZATION_FAILED
    } else {
        COORDINATOR_NOT_AVAILABLE
    }
}
