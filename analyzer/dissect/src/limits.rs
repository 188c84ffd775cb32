//! Every bound on memory and work, in one place. Reaching one costs detail, is counted or marked on the row, and never
//! stops the analysis.

/// Unparsed bytes held for one direction of a stream; a message head longer than this is malformed.
pub const STREAM_BUFFER: usize = 256 * 1024;
/// Bytes looked through for the next message start after a gap, before the direction is given up.
pub const RESYNC_WINDOW: u64 = 4 * 1024 * 1024;
/// Bytes kept while looking for a message start: one that is cut there is found when the rest of its line arrives.
pub const RESYNC_TAIL: usize = 2048;
/// Bytes of a conversation's first data held while protocols cannot tell yet.
pub const PROBE_BUFFER: usize = 512;
/// Bytes of a TLS handshake message held; of a longer one nothing is told.
pub const TLS_MESSAGE: usize = 64 * 1024;
/// Messages of a TLS handshake told in its history.
pub const TLS_HISTORY: usize = 64;
/// Out-of-order bytes held for one direction.
pub const OUT_OF_ORDER_BYTES: usize = 1024 * 1024;
/// Out-of-order segments held for one direction.
pub const OUT_OF_ORDER_SEGMENTS: usize = 1024;
/// Requests waiting for their response in one conversation.
pub const OPEN_REQUESTS: usize = 4096;
/// Body bytes kept for a message even where all were asked for.
pub const BODY_BYTES: usize = 16 * 1024 * 1024;
/// Memory taken for a body by its announced length, before so many bytes have come.
pub const ANNOUNCED_BYTES: usize = 16 * 1024;
/// Decompressed bytes counted for one body; beyond it the true length is unknown.
pub const DECODED_BYTES: u64 = 32 * 1024 * 1024;
/// Compressed bytes of one body held for decoding; of a longer one the beginning is decoded and the length unknown.
pub const ENCODED_BYTES: usize = 1024 * 1024;
/// Header fields kept of one message.
pub const HEADER_FIELDS: usize = 256;
/// Memory of the flows of one shard; the idlest are closed as timed out beyond it. There are 64 shards.
pub const SHARD_BYTES: usize = 4 * 1024 * 1024;
/// IP datagrams being reassembled.
pub const DATAGRAMS: usize = 1024;
/// Bytes of fragments held.
pub const FRAGMENT_BYTES: usize = 16 * 1024 * 1024;
/// Capture time after which an incomplete datagram is dropped.
pub const FRAGMENT_TIMEOUT_NS: i64 = 30_000_000_000;
/// Capture time without packets after which a TCP conversation is over.
pub const TCP_IDLE_NS: i64 = 3_600_000_000_000;
/// Capture time a closed TCP conversation still takes late packets.
pub const TCP_CLOSED_NS: i64 = 5_000_000_000;
/// Capture time without packets after which any other conversation is over.
pub const OTHER_IDLE_NS: i64 = 60_000_000_000;
/// The same where every request of it was answered: resolvers take a new port for each question, and their conversations
/// would otherwise be most of what is held.
pub const ANSWERED_IDLE_NS: i64 = 5_000_000_000;
/// Capture time after which an unanswered datagram request is written without its answer.
pub const DATAGRAM_ANSWER_NS: i64 = 30_000_000_000;
/// Silence after which a conversation that streams requests without waiting may be paired again after a gap.
pub const STREAMING_QUIET_NS: i64 = 1_000_000_000;
/// Datagrams of a conversation remembered to know their copies at other interfaces.
pub const COPIES: usize = 32;
/// Capture time between a datagram and its copy at another interface.
pub const COPY_NS: i64 = 1_000_000_000;
/// Capture time that packets may be out of order by, and that a packet waits for bytes it acknowledges and that the capture has
/// not shown yet.
pub const REORDER_NS: i64 = 500_000_000;
/// Packets of a conversation that wait so.
pub const WAITING: usize = 64;
/// Bytes of them.
pub const WAITING_BYTES: usize = 256 * 1024;
/// Datagram answers of a conversation that wait for the request they overtook.
pub const WAITING_ANSWERS: usize = 16;
/// Packets of a conversation remembered to know those that an interface shows twice.
pub const RECENT_PACKETS: usize = 16;
/// Capture time between both.
pub const TWICE_NS: i64 = 20_000_000;
/// Silence of a TCP conversation after which its first bytes, sent again, begin another one.
pub const SILENCE_NS: i64 = 30_000_000_000;
/// The same where a SYN sends them, or after the end.
pub const SILENCE_OF_SYN_NS: i64 = 1_000_000_000;
/// Bytes that the PROXY protocol may put before a conversation.
pub const PROXY_HEADER: usize = 4096;
/// Bytes kept of a statement.
pub const STATEMENT_BYTES: usize = 4096;
/// Bytes kept of a name, a user or what a server says of an error.
pub const NAME_BYTES: usize = 1024;
/// Prepared statements remembered of one connection.
pub const STATEMENTS: usize = 1024;
/// Bytes of them.
pub const STATEMENTS_BYTES: usize = 128 * 1024;
