//! Diameter: one row per exchange.

use crate::table;

table! {
    /// Diameter exchanges (RFC 6733): one row per request and its answer, or per half where the other is missing. Either end may
    /// ask; src is the one that opened the connection.
    call "diameter", DiameterRow, DiameterBlock, sort ["dst_namespace", "dst_workload", "ts"],
    view {
        operation: "command",
        resource: "dest_realm",
        summary: "concat(coalesce(command, '?'), ' ', coalesce(origin_host, ''))",
        status: "CAST(result_code AS VARCHAR)",
        status_code: "result_code",
        version: "CAST(NULL AS VARCHAR)",
        excluded: "false",
    } {
        /// CCR, ULR, ...; CCA and so on where only the answer was seen, the code where it has no name here.
        command: Text = 1001 [kfl = "diameter_command"],
        /// Command code.
        command_code: Int32 = 1002 [wireshark = "diameter.cmd.code"],
        /// Application id.
        app_id: Int64 = 1003 [wireshark = "diameter.applicationId"],
        /// Session-Id.
        session_id: Text = 1004 [wireshark = "diameter.Session-Id"],
        /// Origin-Host of the one who asks.
        origin_host: Text = 1005 [wireshark = "diameter.Origin-Host"],
        /// Destination-Realm of the request.
        dest_realm: Text = 1006 [wireshark = "diameter.Destination-Realm"],
        /// Result-Code of the answer, or the code in its Experimental-Result.
        result_code: Int32 = 1007 [wireshark = "diameter.Result-Code"],
        /// Hop-by-hop identifier.
        hop_by_hop: Int64 = 1008 [wireshark = "diameter.hopbyhopid"],
        /// End-to-end identifier.
        end_to_end: Int64 = 1009 [wireshark = "diameter.endtoendid"],
        /// Name of the command: Credit-Control, Update-Location, ...
        command_name: Text = 1010 [kfl = "diameter_method"],
        /// Origin-Host of the one who answers.
        answering_host: Text = 1011,
        /// User-Name of the request.
        username: Text = 1012 [wireshark = "diameter.User-Name"],
    }
}
