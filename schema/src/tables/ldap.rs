//! LDAP: one row per operation.

use crate::table;

table! {
    /// LDAP operations (RFC 4511): one row per request and its result, or per half where the other is missing.
    call "ldap", LdapRow, LdapBlock, sort ["dst_namespace", "dst_workload", "ts"],
    view {
        operation: "operation",
        resource: "base_dn",
        summary: "concat(coalesce(operation, '?'), ' ', coalesce(base_dn, ''))",
        status: "result",
        status_code: "result_code",
        version: "CAST(NULL AS VARCHAR)",
        excluded: "false",
    } {
        /// Message id.
        message_id: Int32 = 1001 [wireshark = "ldap.messageID", zeek = "message_id"],
        /// bind, search, modify, add, delete, modify_dn, compare, extended, unbind, abandon.
        operation: Text = 1002 [zeek = "opcode", kfl = "ldap_type"],
        /// Base of a search, and the object of every other operation: for a bind the name.
        base_dn: Text = 1003 [wireshark = "ldap.baseObject", zeek = "base_object"],
        /// Filter of a search (RFC 4515).
        filter: Text = 1004 [zeek = "filter"],
        /// Scope of a search: base, one, sub.
        scope: Text = 1005 [zeek = "scope"],
        /// success, invalidCredentials, ...
        result: Text = 1006 [zeek = "result"],
        /// The same as a number.
        result_code: Int32 = 1007 [wireshark = "ldap.resultCode"],
        /// Entries returned by a search.
        entries: Int64 = 1008 [zeek = "result_count"],
        /// How a bind proves itself: simple, or the SASL mechanism.
        authentication: Text = 1009 [wireshark = "ldap.authentication"],
        /// Name of an extended operation, or its number where it has none here.
        extended: Text = 1010 [wireshark = "ldap.requestName"],
        /// What the server says beside the result.
        diagnostic: Text = 1011 [wireshark = "ldap.errorMessage", zeek = "diagnostic_message"],
    }
}
