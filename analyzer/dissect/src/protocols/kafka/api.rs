//! The APIs of Kafka 4 (clients/src/main/resources/common/message/*.json): their names, the versions known and from which on
//! messages are flexible, and of some the fields that lead to what a row needs.

use super::fields::{self, Field};
use super::walk::Walk;

/// An API.
#[derive(Debug)]
pub struct Api {
    /// Its number.
    pub key: i16,
    /// Name as Kafka's `ApiKeys` has it.
    pub name: &'static str,
    /// Latest version known.
    pub latest: i16,
    /// First version with tagged fields and compact lengths (KIP-482).
    flexible: i16,
    /// Fields of a request, none where nothing is read.
    request: &'static [Field],
    /// Fields of a response.
    response: &'static [Field],
}

/// No version is flexible.
const NEVER: i16 = i16::MAX;
/// Its number.
pub const PRODUCE: i16 = 0;
/// Its number.
pub const CONTROLLED_SHUTDOWN: i16 = 7;
/// Its number.
pub const SASL_HANDSHAKE: i16 = 17;
/// Its number.
pub const METADATA: i16 = 3;
/// Its number.
pub const API_VERSIONS: i16 = 18;

const fn api(key: i16, name: &'static str, latest: i16, flexible: i16) -> Api {
    Api { key, name, latest, flexible, request: &[], response: &[] }
}

const fn read(api: Api, request: &'static [Field], response: &'static [Field]) -> Api {
    Api { request, response, ..api }
}

/// By their numbers.
static APIS: &[Api] = &[
    read(api(0, "PRODUCE", 13, 9), fields::PRODUCE, fields::PRODUCED),
    read(api(1, "FETCH", 18, 12), fields::FETCH, fields::FETCHED),
    read(api(2, "LIST_OFFSETS", 11, 6), fields::LIST_OFFSETS, fields::LISTED_OFFSETS),
    read(api(3, "METADATA", 13, 9), fields::METADATA, fields::METADATA_TOLD),
    api(4, "LEADER_AND_ISR", 7, 4),
    api(5, "STOP_REPLICA", 4, 2),
    api(6, "UPDATE_METADATA", 8, 6),
    api(7, "CONTROLLED_SHUTDOWN", 3, 3),
    read(api(8, "OFFSET_COMMIT", 10, 8), fields::OFFSET_COMMIT, fields::OFFSET_COMMITTED),
    read(api(9, "OFFSET_FETCH", 10, 6), fields::OFFSET_FETCH, fields::OFFSET_FETCHED),
    read(api(10, "FIND_COORDINATOR", 6, 3), fields::FIND_COORDINATOR, fields::FOUND_COORDINATOR),
    read(api(11, "JOIN_GROUP", 9, 6), fields::OF_GROUP, fields::JOINED_GROUP),
    read(api(12, "HEARTBEAT", 4, 4), fields::OF_GROUP, fields::ERROR_SINCE_1),
    read(api(13, "LEAVE_GROUP", 5, 4), fields::OF_GROUP, fields::LEFT_GROUP),
    read(api(14, "SYNC_GROUP", 5, 4), fields::OF_GROUP, fields::ERROR_SINCE_1),
    api(15, "DESCRIBE_GROUPS", 6, 5),
    api(16, "LIST_GROUPS", 5, 3),
    read(api(17, "SASL_HANDSHAKE", 1, NEVER), &[], fields::ERROR_FIRST),
    read(api(18, "API_VERSIONS", 4, 3), &[], fields::API_VERSIONS_TOLD),
    read(api(19, "CREATE_TOPICS", 7, 5), fields::CREATE_TOPICS, fields::CREATED_TOPICS),
    read(api(20, "DELETE_TOPICS", 6, 4), fields::DELETE_TOPICS, fields::DELETED_TOPICS),
    api(21, "DELETE_RECORDS", 2, 2),
    read(api(22, "INIT_PRODUCER_ID", 6, 2), &[], fields::ERROR_SINCE_0),
    api(23, "OFFSET_FOR_LEADER_EPOCH", 4, 4),
    read(api(24, "ADD_PARTITIONS_TO_TXN", 5, 3), fields::ADD_PARTITIONS, fields::ADDED_PARTITIONS),
    read(api(25, "ADD_OFFSETS_TO_TXN", 4, 3), fields::ADD_OFFSETS, fields::ERROR_SINCE_0),
    read(api(26, "END_TXN", 5, 3), &[], fields::ERROR_SINCE_0),
    api(27, "WRITE_TXN_MARKERS", 2, 1),
    read(api(28, "TXN_OFFSET_COMMIT", 5, 3), fields::TXN_OFFSET_COMMIT, fields::TXN_OFFSET_COMMITTED),
    api(29, "DESCRIBE_ACLS", 3, 2),
    api(30, "CREATE_ACLS", 3, 2),
    api(31, "DELETE_ACLS", 3, 2),
    api(32, "DESCRIBE_CONFIGS", 4, 4),
    api(33, "ALTER_CONFIGS", 2, 2),
    api(34, "ALTER_REPLICA_LOG_DIRS", 2, 2),
    api(35, "DESCRIBE_LOG_DIRS", 5, 2),
    read(api(36, "SASL_AUTHENTICATE", 2, 2), &[], fields::ERROR_FIRST),
    api(37, "CREATE_PARTITIONS", 3, 2),
    api(38, "CREATE_DELEGATION_TOKEN", 3, 2),
    api(39, "RENEW_DELEGATION_TOKEN", 2, 2),
    api(40, "EXPIRE_DELEGATION_TOKEN", 2, 2),
    api(41, "DESCRIBE_DELEGATION_TOKEN", 3, 2),
    api(42, "DELETE_GROUPS", 2, 2),
    api(43, "ELECT_LEADERS", 2, 2),
    api(44, "INCREMENTAL_ALTER_CONFIGS", 1, 1),
    api(45, "ALTER_PARTITION_REASSIGNMENTS", 1, 0),
    api(46, "LIST_PARTITION_REASSIGNMENTS", 0, 0),
    api(47, "OFFSET_DELETE", 0, NEVER),
    api(48, "DESCRIBE_CLIENT_QUOTAS", 1, 1),
    api(49, "ALTER_CLIENT_QUOTAS", 1, 1),
    api(50, "DESCRIBE_USER_SCRAM_CREDENTIALS", 0, 0),
    api(51, "ALTER_USER_SCRAM_CREDENTIALS", 0, 0),
    api(52, "VOTE", 2, 0),
    api(53, "BEGIN_QUORUM_EPOCH", 1, 1),
    api(54, "END_QUORUM_EPOCH", 1, 1),
    api(55, "DESCRIBE_QUORUM", 2, 0),
    api(56, "ALTER_PARTITION", 3, 0),
    api(57, "UPDATE_FEATURES", 2, 0),
    api(58, "ENVELOPE", 0, 0),
    api(59, "FETCH_SNAPSHOT", 1, 0),
    api(60, "DESCRIBE_CLUSTER", 2, 0),
    api(61, "DESCRIBE_PRODUCERS", 0, 0),
    api(62, "BROKER_REGISTRATION", 4, 0),
    api(63, "BROKER_HEARTBEAT", 1, 0),
    api(64, "UNREGISTER_BROKER", 0, 0),
    api(65, "DESCRIBE_TRANSACTIONS", 0, 0),
    api(66, "LIST_TRANSACTIONS", 2, 0),
    api(67, "ALLOCATE_PRODUCER_IDS", 0, 0),
    api(68, "CONSUMER_GROUP_HEARTBEAT", 1, 0),
    api(69, "CONSUMER_GROUP_DESCRIBE", 1, 0),
    api(70, "CONTROLLER_REGISTRATION", 0, 0),
    api(71, "GET_TELEMETRY_SUBSCRIPTIONS", 0, 0),
    api(72, "PUSH_TELEMETRY", 0, 0),
    api(73, "ASSIGN_REPLICAS_TO_DIRS", 0, 0),
    api(74, "LIST_CONFIG_RESOURCES", 1, 0),
    api(75, "DESCRIBE_TOPIC_PARTITIONS", 0, 0),
    api(76, "SHARE_GROUP_HEARTBEAT", 1, 0),
    api(77, "SHARE_GROUP_DESCRIBE", 1, 0),
    api(78, "SHARE_FETCH", 1, 0),
    api(79, "SHARE_ACKNOWLEDGE", 1, 0),
    api(80, "ADD_RAFT_VOTER", 0, 0),
    api(81, "REMOVE_RAFT_VOTER", 0, 0),
    api(82, "UPDATE_RAFT_VOTER", 0, 0),
    api(83, "INITIALIZE_SHARE_GROUP_STATE", 0, 0),
    api(84, "READ_SHARE_GROUP_STATE", 0, 0),
    api(85, "WRITE_SHARE_GROUP_STATE", 0, 0),
    api(86, "DELETE_SHARE_GROUP_STATE", 0, 0),
    api(87, "READ_SHARE_GROUP_STATE_SUMMARY", 0, 0),
    api(88, "STREAMS_GROUP_HEARTBEAT", 0, 0),
    api(89, "STREAMS_GROUP_DESCRIBE", 0, 0),
    api(90, "DESCRIBE_SHARE_GROUP_OFFSETS", 0, 0),
    api(91, "ALTER_SHARE_GROUP_OFFSETS", 0, 0),
    api(92, "DELETE_SHARE_GROUP_OFFSETS", 0, 0),
];

/// An API by its number.
pub fn by_key(key: i16) -> Option<&'static Api> {
    APIS.get(usize::try_from(key).ok()?)
}

impl Api {
    /// The way along the body of a request; none where nothing is read, and of a later version nothing is guessed.
    pub fn request(&self, version: i16) -> Option<Walk> {
        self.walk(self.request, version, version >= self.flexible)
    }

    /// The way along the body of a response.
    pub fn response(&self, version: i16) -> Option<Walk> {
        // A client reads the versions of a broker before it knows what that speaks: this header has no tags in any version.
        self.walk(self.response, version, version >= self.flexible && self.key != API_VERSIONS)
    }

    fn walk(&self, fields: &'static [Field], version: i16, has_tags: bool) -> Option<Walk> {
        let is_known = version <= self.latest && !fields.is_empty();
        is_known.then(|| Walk::new(fields, version, version >= self.flexible, has_tags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_places() {
        assert!(APIS.iter().zip(0..).all(|(api, key)| api.key == key));
    }
}
