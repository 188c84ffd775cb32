//! Fields of calls whose protocols have tables: HTTP with what it carries (gRPC, GraphQL, WebSocket), and DNS.

use super::super::types::Element;
use super::super::types::Fold::{Lower, Upper};
use super::super::types::Type::{Bool, Int, List, Map, Micros, Text};
use super::Field;

const HTTP: &[&str] = &["http"];
const DNS: &[&str] = &["dns"];
const GRPC: &[&str] = &["http", "grpc"];
const GQL: &[&str] = &["http", "graphql"];
const WS: &[&str] = &["http", "ws"];

/// `http.inner` says what an exchange carries, also where that protocol has no table of its own.
#[rustfmt::skip]
pub static FIELDS: &[Field] = &[
    Field::flag("http", HTTP, "protocol = 'http'", "HTTP of any version"),
    Field::flag("http2", HTTP, "protocol = 'http' AND version = '2'", "HTTP/2"),
    Field::flag("https", HTTP, "protocol = 'http' AND (coalesce(tls, false) OR coalesce(vantage = 'tls_uprobe', false))", "HTTP from inside TLS"),
    Field::flag("dns", DNS, "protocol = 'dns'", "DNS"),
    Field::flag("grpc", GRPC, "protocol = 'grpc' OR inner = 'grpc'", "gRPC"),
    Field::flag("gql", GQL, "protocol = 'graphql' OR inner = 'graphql'", "GraphQL over any version of HTTP"),
    Field::flag("gqlv1", GQL, "inner = 'graphql' AND version <> '2'", "GraphQL over HTTP/1"),
    Field::flag("gqlv2", GQL, "inner = 'graphql' AND version = '2'", "GraphQL over HTTP/2"),
    Field::flag("ws", WS, "protocol = 'ws' OR inner = 'ws'", "WebSocket"),

    Field::new("method", Text, "method", "GET, POST, ...").or(&["request.method"]).of(HTTP).fold(Upper),
    Field::new("url", Text, "path || coalesce('?' || query, '')", "Path and query").or(&["request.url"]).of(HTTP),
    Field::new("full_url", Text, "url", "Scheme, host, path and query").of(HTTP),
    Field::new("path", Text, "path", "Path without query").or(&["request.path"]).of(HTTP),
    Field::new("route", Text, "route", "Path with its variable parts replaced: /orders/{id}").of(HTTP),
    Field::new("host", Text, "host", "Authority or Host").or(&["request.host"]).of(HTTP),
    Field::new("http_version", Text, "'HTTP/' || version", "HTTP/1.1, HTTP/2").or(&["request.httpVersion", "response.httpVersion"]).of(HTTP).fold(Upper),
    Field::new("status_code", Int, "CASE WHEN protocol = 'dns' THEN rcode_num ELSE status_code END", "Status of the response; for DNS its response code").or(&["response.status"]).of(&["http", "dns"]),
    Field::new("response.statusText", Text, "reason", "Reason phrase").of(HTTP),
    Field::new("query_string", Map, "query_map(query)", "Parameters of the query: query_string[\"page\"]").or(&["request.queryString", "request.query"]).of(HTTP),
    Field::new("request.headers", Map, "request_headers", "Request header fields, names in any case").of(HTTP).fold(Lower),
    Field::new("response.headers", Map, "response_headers", "Response header fields, names in any case").of(HTTP).fold(Lower),
    Field::new("request.cookies", Map, "cookie_map(request_headers['cookie'])", "Cookies the client sent").of(HTTP),
    Field::new("response.cookies", Map, "set_cookie_map(response_headers['set-cookie'])", "Cookies the server set").of(HTTP),
    Field::new("request_headers_size", Int, "request_head_len", "Bytes of request line and header section").or(&["request.headersSize"]).of(HTTP),
    Field::new("response_headers_size", Int, "response_head_len", "Bytes of status line and header section").or(&["response.headersSize"]).of(HTTP),
    Field::new("request_body_size", Int, "request_body_len", "Bytes of the request body, decoded").or(&["request.bodySize"]).of(HTTP),
    Field::new("response_body_size", Int, "response_body_len", "Bytes of the response body, decoded").or(&["response.bodySize"]).of(HTTP),
    Field::new("request.body", Text, "request_body", "Request body, cut at the body limit of the index").or(&["request_body"]).of(HTTP),
    Field::new("response.body", Text, "response_body", "Response body, cut likewise").or(&["response_body"]).of(HTTP),
    Field::new("user_agent", Text, "user_agent", "User-Agent").of(HTTP),
    Field::new("content_type", Text, "content_type", "Media type of the response").of(HTTP).fold(Lower),
    Field::new("request_id", Text, "x_request_id", "x-request-id of the request").of(HTTP),
    Field::new("attempt", Int, "attempt", "Which try it was, by x-envoy-attempt-count").of(HTTP),
    Field::new("ttfb", Micros, "ttfb_ns", "Request last byte to response first byte").of(HTTP),

    Field::new("grpc_method", Text, "CASE WHEN inner = 'grpc' THEN regexp_replace(path, '^.*/', '') END", "Last segment of the path of a gRPC call").of(HTTP),
    Field::new("grpc_service", Text, "CASE WHEN inner = 'grpc' THEN regexp_replace(path, '^/?(.*)/[^/]*$', '\\1') END", "package.Service of a gRPC call").of(HTTP),
    Field::new("grpc_status", Int, "CASE WHEN inner = 'grpc' THEN coalesce(TRY_CAST(response_trailers['grpc-status'] AS BIGINT), TRY_CAST(response_headers['grpc-status'] AS BIGINT), 0) ELSE -1 END", "0 to 16; 0 where a gRPC call has none, -1 where it is no gRPC call"),

    Field::flag("dns_request", DNS, "protocol = 'dns' AND coalesce(pairing, '') <> 'response_only'", "The query was seen"),
    Field::flag("dns_response", DNS, "protocol = 'dns' AND rcode_num IS NOT NULL", "The answer was seen"),
    Field::new("dns_questions", List(Element::Text), "CASE WHEN questions IS NOT NULL THEN questions WHEN query IS NOT NULL THEN [query] END", "Names asked for").of(DNS).fold(Lower),
    Field::new("dns_question_types", List(Element::Text), "CASE WHEN qtype IS NOT NULL THEN [qtype] END", "A AAAA NS CNAME SOA MX TXT SRV PTR ANY ...").of(DNS).fold(Upper),
    Field::new("dns_answers", List(Element::Text), "answers", "Data of the answer records").of(DNS),
    Field::new("dns_answer_types", List(Element::Text), "answer_types", "Types of the answer records, in step with dns_answers").of(DNS).fold(Upper),
    Field::new("dns_request_length", Int, "request_bytes", "Bytes of the query").of(DNS),
    Field::new("dns_response_length", Int, "response_bytes", "Bytes of the answer").of(DNS),
    Field::new("dns_total_size", Int, "coalesce(request_bytes, 0) + coalesce(response_bytes, 0)", "Bytes of both").of(DNS),
    Field::new("rcode", Text, "rcode", "NOERROR, NXDOMAIN, SERVFAIL, ...").or(&["response.code", "dns_rcode"]).of(DNS).fold(Upper),
    Field::new("dns_search_expansion", Bool, "search_expansion", "The name ends in a cluster search suffix behind a name that is none of the cluster's").of(DNS),
    Field::new("dns_transport", Text, "transport", "udp, tcp, tls or https").of(DNS).fold(Lower),
    Field::new("dns_truncated", Bool, "truncated", "The answer was truncated").of(DNS),

    Field::new("ws_opcode", Text, "opcode", "text, binary, close, ping, pong").of(&["ws"]).fold(Lower),
    Field::new("ws_request", Bool, "is_request", "The client sent it").of(&["ws"]),
    Field::new("ws_response", Bool, "NOT is_request", "The server sent it").of(&["ws"]),
    Field::new("ws_request_payload_data", Text, "CASE WHEN is_request THEN payload END", "Text that the client sent, cut").of(&["ws"]),
    Field::new("ws_request_payload_length", Int, "CASE WHEN is_request THEN payload_len END", "Bytes of payload that the client sent").of(&["ws"]),
    Field::new("ws_response_payload_length", Int, "CASE WHEN NOT is_request THEN payload_len END", "Bytes of payload that the server sent").of(&["ws"]),
    Field::new("gql_operation", Text, "operation_name", "Name of the GraphQL operation").of(&["graphql"]),
];
