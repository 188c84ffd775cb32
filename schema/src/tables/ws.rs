//! WebSocket (RFC 6455): one row per message.

use crate::table;

table! {
    /// WebSocket messages behind an upgrade of HTTP: one row per text, binary or close message, whatever frames it came in, and per
    /// ping with its pong.
    call "ws", WsRow, WsBlock, sort ["dst_namespace", "dst_workload", "ts"],
    view {
        operation: "opcode",
        resource: "path",
        summary: "concat(coalesce(opcode, '?'), ' ', coalesce(path, ''))",
        status: "CAST(close_code AS VARCHAR)",
        status_code: "close_code",
        version: "CAST(NULL AS VARCHAR)",
        excluded: "false",
    } {
        /// text, binary, close or ping; pong where no ping was seen.
        opcode: Text = 1001 [wireshark = "websocket.opcode", kfl = "ws_opcode"],
        /// The end that connected sent it; of a ping, that end sent the ping.
        is_request: Bool = 1002 [kfl = "ws_request"],
        /// Path and query of the upgrade that the connection began with.
        path: Text = 1003,
        /// Subprotocol that the server chose.
        subprotocol: Text = 1004 [wireshark = "http.sec_websocket_protocol"],
        /// Status code of a close message (RFC 6455 section 7.4).
        close_code: Int32 = 1005 [wireshark = "websocket.payload.close.status_code"],
        /// Reason of a close message.
        close_reason: Text = 1006 [wireshark = "websocket.payload.close.reason"],
        /// Payload as sent: of all frames, before it is decompressed.
        payload_len: Int64 = 1007 [unit = "B", wireshark = "websocket.payload_length", kfl = "ws_request_payload_length"],
        /// Frames that it came in.
        frames: Int32 = 1008,
        /// It was compressed (RFC 7692).
        compressed: Bool = 1009,
        /// Payload of a text message, decompressed and cut at the body limit.
        payload: Text = 1010 [kfl = "ws_request_payload_data"],
        /// Payload that is no text, likewise.
        payload_raw: Bytes = 1011,
        /// True length of the decompressed payload; NULL where it is not known.
        decoded_len: Int64 = 1012 [unit = "B"],
    }
}
