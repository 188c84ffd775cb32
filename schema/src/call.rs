//! The columns all call tables share, and those that lead from any row back to its packets.
//! The driver fills both; a protocol never sees them.

use crate::block;
use crate::shared::{CALL_DST, CALL_SRC, CLUSTER, FLOW_ID, NODE, SNAPSHOT_ID, VANTAGE};

block! {
    /// What every request and response has, whatever the protocol.
    CallRow, CallBlock {
        own {
            /// Deterministic id of this exchange.
            call_id: Text Lookup = 1 [kfl = "id"],
        }
        shared [&[FLOW_ID]]
        own {
            /// Request first byte.
            ts: Time = 3 [tz = "UTC", zeek = "ts"],
            /// Response last byte; NULL when no response.
            end_ts: Time = 4 [tz = "UTC", ecs = "event.end"],
            /// `end_ts` minus `ts`; NULL when no response.
            duration_ns: Int64 = 5 [unit = "ns", kfl = "elapsed_time"],
        }
        shared [&[SNAPSHOT_ID, CLUSTER, NODE, VANTAGE], CALL_SRC, CALL_DST]
        own {
            /// Request size on the wire.
            request_bytes: Int64 = 15 [unit = "B"],
            /// Response size on the wire.
            response_bytes: Int64 = 16 [unit = "B"],
            /// Failure by the rules of the protocol, as the server rate counts it (HTTP: 5xx or no answer; a 4xx is not one, see `error_type`).
            is_error: Bool = 17,
            /// Timeout, reset, no_response, 503, NXDOMAIN, SQLSTATE, ...
            error_type: Text = 18 [otel = "error.type"],
            /// Payload came from inside TLS (uprobe or keys); `flow_id` is that of the encrypted conversation.
            tls: Bool = 19 [kfl = "tls"],
            /// W3C trace id if propagated.
            trace_id: Text Lookup = 20 [otel = "trace_id"],
            /// complete (also a message that nothing answers), request_only, response_only, or lossy: near a gap, where halves are not paired.
            pairing: Text = 21,
        }
    }
}

block! {
    /// The packets behind a row. Frames are counted from 1 in each segment or file, as tshark counts them.
    OriginRow, OriginBlock { own {
        /// Segment (or capture file) of the first packet of the row.
        first_segment: Segment = 2001,
        /// Number of that packet in its segment.
        first_frame: Int64 = 2002 [wireshark = "frame.number"],
        /// Segment of the last packet of the row.
        last_segment: Segment = 2003,
        /// Number of that packet in its segment.
        last_frame: Int64 = 2004 [wireshark = "frame.number"],
    } }
}
