//! Redis and what speaks like it (Valkey, KeyDB, Dragonfly), RESP2 and RESP3: one row per command.

use crate::table;

table! {
    /// Redis commands: one row per command and its reply, or per half where the other is missing; a message to a subscriber and
    /// any other push is a row of its own.
    call "redis", RedisRow, RedisBlock, sort ["dst_namespace", "dst_workload", "ts"],
    view {
        operation: "command",
        resource: "key",
        summary: "concat_ws(' ', coalesce(command, '?'), coalesce(key, args))",
        status: "coalesce(split_part(reply_error, ' ', 1), reply_type)",
        status_code: "CAST(NULL AS INT)",
        version: "CAST(NULL AS VARCHAR)",
        excluded: "false",
    } {
        /// Command in upper case: GET, SET, ...; of a push its kind: MESSAGE, INVALIDATE, ...
        command: Text = 1001 [otel = "db.operation.name", kfl = "redis_type", zeek = "cmd.name"],
        /// Key, or channel, where it is the first argument; cut at 256 bytes.
        key: Text = 1002 [kfl = "redis_key", zeek = "cmd.key"],
        /// The other arguments with a space between them, cut at 1 KiB in all; secrets are `?`.
        args: Text = 1003 [kfl = "redis_command"],
        /// Database as of the last SELECT; NULL where none was seen.
        db_index: Int32 = 1004 [otel = "db.namespace"],
        /// simple, error, int, bulk, array, null, or of RESP3 map, set, push, boolean, double, big_number, verbatim.
        reply_type: Text = 1005 [wireshark = "resp.type"],
        /// Text of the error, its first word says which: MOVED, OOM, NOAUTH; of a transaction its first error.
        reply_error: Text = 1006 [otel = "db.response.status_code", wireshark = "resp.error"],
        /// Of commands that read: something was found.
        hit: Bool = 1007,
    }
}
