//! RADIUS: one row per exchange.

use crate::table;

table! {
    /// RADIUS exchanges (RFC 2865, 2866, 5176): one row per request and its answer, or per half where the other is missing.
    call "radius", RadiusRow, RadiusBlock, sort ["dst_namespace", "dst_workload", "ts"],
    view {
        operation: "code",
        resource: "username",
        summary: "concat(coalesce(code, '?'), ' ', coalesce(username, ''))",
        status: "response_code",
        status_code: "CAST(NULL AS INT)",
        version: "CAST(NULL AS VARCHAR)",
        excluded: "false",
    } {
        /// Access-Request, Accounting-Request, ...; that of the answer where only it was seen.
        code: Text = 1001 [kfl = "radius_code_name"],
        /// Identifier.
        identifier: Int32 = 1002 [wireshark = "radius.id"],
        /// User-Name.
        username: Text = 1003 [wireshark = "radius.User_Name", zeek = "username"],
        /// NAS-IP-Address, or NAS-IPv6-Address.
        nas_ip: Text = 1004 [wireshark = "radius.NAS_IP_Address"],
        /// Calling-Station-Id.
        calling_station: Text = 1005 [wireshark = "radius.Calling_Station_Id", zeek = "mac"],
        /// success, failed or challenge; unknown where no answer says.
        result: Text = 1006 [zeek = "result"],
        /// Reply-Message of the answer.
        reply_msg: Text = 1007 [zeek = "reply_msg"],
        /// `code` as a number.
        code_num: Int32 = 1008 [wireshark = "radius.code", kfl = "radius_code"],
        /// Code of the answer: Access-Accept, Access-Reject, ...
        response_code: Text = 1009,
        /// Authenticator of the request, in hexadecimal.
        authenticator: Text = 1010 [wireshark = "radius.authenticator", kfl = "radius_request_authenticator"],
        /// Called-Station-Id.
        called_station: Text = 1011 [wireshark = "radius.Called_Station_Id"],
        /// Acct-Status-Type: Start, Stop, Interim-Update, ...
        acct_status: Text = 1012 [wireshark = "radius.Acct_Status_Type"],
        /// Acct-Session-Id.
        session_id: Text = 1013 [wireshark = "radius.Acct_Session_Id"],
    }
}
