//! HTTP/1.0, HTTP/1.1 and later versions: one row per exchange.

use crate::table;

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
        method: Text [wireshark = "http.request.method", otel = "http.request.method", zeek = "method", kfl = "method"],
        /// Authority or Host.
        host: Text [otel = "server.address", zeek = "host"],
        /// Path without query.
        path: Text [otel = "url.path", kfl = "path"],
        /// Path with its variable parts replaced: `/orders/{id}`.
        route: Text [otel = "http.route"],
        /// Query string as sent, without the question mark.
        query: Text [otel = "url.query"],
        /// Full URL: scheme, host and request target.
        url: Text [otel = "url.full", zeek = "uri"],
        /// Response status.
        status_code: Int32 [wireshark = "http.response.code", kfl = "status_code", otel = "http.response.status_code", zeek = "status_code"],
        /// 1.0, 1.1, 2 or 3.
        version: Text [otel = "network.protocol.version"],
        /// HTTP/2 stream.
        stream_id: Int64 [wireshark = "http2.streamid"],
        /// User-Agent.
        user_agent: Text [otel = "user_agent.original", zeek = "user_agent"],
        /// Referer.
        referrer: Text [zeek = "referrer"],
        /// Media type of the response.
        content_type: Text [zeek = "resp_mime_types"],
        /// Request header fields: lower-case names, repeats joined with a comma (`Set-Cookie` with a newline).
        request_headers: TextMap [otel = "http.request.header.<k>", kfl = "request.headers"],
        /// Response header fields, likewise.
        response_headers: TextMap [otel = "http.response.header.<k>"],
        /// Request body, content-decoded and cut at the body limit; NULL if not kept or not text.
        request_body: Text [otel = "http.request.body.content"],
        /// Response body, likewise.
        response_body: Text [otel = "http.response.body.content"],
        /// True length of the decoded request body, also where less of it was kept; NULL where it is not known.
        request_body_len: Int64 [unit = "B", otel = "http.request.body.size", zeek = "request_body_len"],
        /// True length of the decoded response body.
        response_body_len: Int64 [unit = "B", otel = "http.response.body.size", zeek = "response_body_len"],
        /// Request last byte to response first byte (server think time).
        ttfb_ns: Int64 [unit = "ns"],
        /// `x-request-id` of the request, if any.
        x_request_id: Text,
        /// `x-envoy-attempt-count` of the request, if any.
        attempt: Int32 [otel = "http.request.resend_count"],
        /// Envoy flags when visible (UF, UO, RL).
        response_flags: Text,
        /// More specific protocol carried by this exchange: grpc, graphql, ws; NULL for plain HTTP.
        inner: Text,
        /// Request header fields in wire order with their wire spelling, repeats kept.
        request_header_list: PairList,
        /// Response header fields in wire order with their wire spelling, repeats kept.
        response_header_list: PairList,
        /// Request trailer fields (RFC 9112 section 7.1.2).
        request_trailers: TextMap,
        /// Response trailer fields.
        response_trailers: TextMap,
        /// Status codes of the interim (1xx) responses before the final one.
        interim_statuses: Int64List,
        /// Reason phrase of the response.
        reason: Text [wireshark = "http.response.phrase"],
        /// Bytes of request line and header section.
        request_head_len: Int64 [unit = "B"],
        /// Bytes of status line and header section.
        response_head_len: Int64 [unit = "B"],
        /// Request body where it is kept but is not text.
        request_body_raw: Bytes,
        /// Response body where it is kept but is not text.
        response_body_raw: Bytes,
    }
}
