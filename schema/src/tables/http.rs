//! HTTP/1.0, HTTP/1.1 and later versions: one row per exchange.

use crate::table::{Derived, Source};
use crate::{column, table};

table! {
    /// HTTP exchanges: one row per request and its response, or per half where the other is missing.
    call "http", HttpRow, HttpBlock, sort ["dst_namespace", "dst_workload", "ts"],
    view {
        operation: "method",
        resource: "coalesce(route, path)",
        summary: "concat(coalesce(method, '?'), ' ', coalesce(path, '?'))",
        status: "CAST(status_code AS VARCHAR)",
        status_code: "status_code",
        version: "version",
        excluded: "inner IS NOT NULL",
    } {
        /// GET, POST, ...
        method: Text = 1001 [wireshark = "http.request.method", otel = "http.request.method", zeek = "method", kfl = "method"],
        /// Authority or Host.
        host: Text = 1002 [otel = "server.address", zeek = "host"],
        /// Path without query.
        path: Text = 1003 [otel = "url.path", kfl = "path"],
        /// Path with its variable parts replaced: `/orders/{id}`.
        route: Text = 1004 [otel = "http.route"],
        /// Query string as sent, without the question mark.
        query: Text Lookup = 1005 [otel = "url.query"],
        /// Full URL: scheme, host and request target.
        url: Text = 1006 [otel = "url.full", zeek = "uri"],
        /// Response status.
        status_code: Int32 = 1007 [wireshark = "http.response.code", kfl = "status_code", otel = "http.response.status_code", zeek = "status_code"],
        /// 1.0, 1.1, 2 or 3.
        version: Text = 1008 [otel = "network.protocol.version"],
        /// User-Agent.
        user_agent: Text = 1010 [otel = "user_agent.original", zeek = "user_agent"],
        /// Referer.
        referrer: Text = 1011 [zeek = "referrer"],
        /// Media type of the response.
        content_type: Text = 1012 [zeek = "resp_mime_types"],
        /// Request header fields: lower-case names, repeats joined with a comma (`Set-Cookie` with a newline).
        request_headers: TextMap = 1013 [otel = "http.request.header.<k>", kfl = "request.headers"],
        /// Response header fields, likewise.
        response_headers: TextMap = 1014 [otel = "http.response.header.<k>"],
        /// Request body, content-decoded and cut at the body limit; NULL if not kept or not text.
        request_body: Text Body = 1015 [otel = "http.request.body.content"],
        /// Response body, likewise.
        response_body: Text Body = 1016 [otel = "http.response.body.content"],
        /// True length of the decoded request body, also where less of it was kept; NULL where it is not known.
        request_body_len: Int64 = 1017 [unit = "B", otel = "http.request.body.size", zeek = "request_body_len"],
        /// True length of the decoded response body.
        response_body_len: Int64 = 1018 [unit = "B", otel = "http.response.body.size", zeek = "response_body_len"],
        /// Request last byte to response first byte (server think time).
        ttfb_ns: Int64 = 1019 [unit = "ns"],
        /// `x-request-id` of the request, if any.
        x_request_id: Text Lookup = 1020,
        /// `x-envoy-attempt-count` of the request, if any.
        attempt: Int32 = 1021 [otel = "http.request.resend_count"],
        /// Envoy flags when visible (UF, UO, RL).
        response_flags: Text = 1022,
        /// More specific protocol carried by this exchange: grpc, graphql, ws; NULL for plain HTTP.
        inner: Text = 1023,
        /// Names of the request header fields in wire order with their wire spelling, repeats kept, one a line.
        request_header_names: Text = 1024,
        /// Names of the response header fields, likewise.
        response_header_names: Text = 1025,
        /// Request trailer fields (RFC 9112 section 7.1.2).
        request_trailers: TextMap = 1026,
        /// Response trailer fields.
        response_trailers: TextMap = 1027,
        /// Status codes of the interim (1xx) responses before the final one.
        interim_statuses: Int64List = 1028,
        /// Reason phrase of the response.
        reason: Text = 1029 [wireshark = "http.response.phrase"],
        /// Bytes of request line and header section.
        request_head_len: Int64 = 1030 [unit = "B"],
        /// Bytes of status line and header section.
        response_head_len: Int64 = 1031 [unit = "B"],
        /// Request body where it is kept but is not text.
        request_body_raw: Bytes Body = 1032,
        /// Response body where it is kept but is not text.
        response_body_raw: Bytes Body = 1033,
        /// Request header fields as they were sent, where a name repeats; NULL where `request_headers` and `request_header_names` say
        /// it all.
        request_header_repeats: PairList = 1034,
        /// Response header fields as they were sent, where a name repeats.
        response_header_repeats: PairList = 1035,
    }
    derived [
        Derived {
            column: column!(
                "request_header_list",
                "Request header fields in wire order with their wire spelling, repeats kept.",
                PairList, [], 1036, Source::Row, []
            ),
            sql: "header_list(request_header_names, request_headers, request_header_repeats)",
        },
        Derived {
            column: column!(
                "response_header_list",
                "Response header fields in wire order with their wire spelling, repeats kept.",
                PairList, [], 1037, Source::Row, []
            ),
            sql: "header_list(response_header_names, response_headers, response_header_repeats)",
        },
    ]
}
