//! DNS over UDP and TCP: one row per query.

use crate::table;

table! {
    /// DNS queries: one row per question and its answer, or per half where the other is missing.
    call "dns", DnsRow, DnsBlock, sort ["dst_namespace", "dst_workload", "ts"],
    view {
        operation: "qtype",
        resource: "query",
        summary: "concat(coalesce(qtype, '?'), ' ', coalesce(query, '?'))",
        status: "rcode",
        status_code: "rcode_num",
        version: "CAST(NULL AS VARCHAR)",
        excluded: "false",
    } {
        /// Name asked for, lower case, no trailing dot.
        query: Text Lookup = 1001 [wireshark = "dns.qry.name", zeek = "query", otel = "dns.question.name", kfl = "dns_questions"],
        /// A, AAAA, SRV, ...
        qtype: Text = 1002 [zeek = "qtype_name", kfl = "dns_question_types"],
        /// NOERROR, NXDOMAIN, SERVFAIL, ...; NULL no answer.
        rcode: Text = 1003 [zeek = "rcode_name"],
        /// Response code as a number, with the extended bits of EDNS.
        rcode_num: Int32 = 1004 [zeek = "rcode"],
        /// Transaction id.
        trans_id: Int32 = 1005 [wireshark = "dns.id", zeek = "trans_id"],
        /// Query to answer.
        rtt_ns: Int64 = 1006 [unit = "ns", zeek = "rtt"],
        /// Answer data.
        answers: TextList = 1007 [zeek = "answers", otel = "dns.answers"],
        /// TTLs.
        ttls: Int64List = 1008 [unit = "s", zeek = "TTLs"],
        /// AA: the answer is authoritative.
        authoritative: Bool = 1009 [zeek = "AA"],
        /// TC: the answer was truncated.
        truncated: Bool = 1010 [zeek = "TC"],
        /// RA: recursion is available.
        recursion: Bool = 1011 [zeek = "RA"],
        /// udp, tcp, tls or https.
        transport: Text = 1012 [otel = "network.transport"],
        /// The name ends in a cluster search suffix behind a name that is none of the cluster's (`ndots`): that it does not exist is no error.
        search_expansion: Bool = 1013,
        /// Kind of request: QUERY, NOTIFY, UPDATE, ...
        opcode: Text = 1014 [wireshark = "dns.flags.opcode"],
        /// All names of the question section, where there is more than one.
        questions: TextList = 1015,
        /// Types of the answer records, in step with `answers`.
        answer_types: TextList = 1016,
        /// Answer records the response announces.
        n_answers: Int32 = 1017 [wireshark = "dns.count.answers"],
        /// Authority records the response announces.
        n_authority: Int32 = 1018 [wireshark = "dns.count.auth_rr"],
        /// Additional records the response announces.
        n_additional: Int32 = 1019 [wireshark = "dns.count.add_rr"],
    }
}
