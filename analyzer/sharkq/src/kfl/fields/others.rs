//! Fields of protocols whose tables come later: they parse and have their types today, and begin to speak when their
//! table is in the catalogue.

use super::super::types::Element;
use super::super::types::Fold::{Lower, Upper};
use super::super::types::Type::{Bool, Int, List, Text};
use super::Field;

const REDIS: &[&str] = &["redis"];
const KAFKA: &[&str] = &["kafka"];
const AMQP: &[&str] = &["amqp"];
const LDAP: &[&str] = &["ldap"];
const RADIUS: &[&str] = &["radius"];
const DIAMETER: &[&str] = &["diameter"];
const TLS: &[&str] = &["tls"];
const DB: &[&str] = &["db"];

/// Sizes that all calls have.
const SENT: &str = "request_bytes";
const RECEIVED: &str = "response_bytes";
const BOTH: &str = "coalesce(request_bytes, 0) + coalesce(response_bytes, 0)";
/// Halves that were seen.
const REQUEST: &str = "request_bytes IS NOT NULL";
const RESPONSE: &str = "response_bytes IS NOT NULL";

#[rustfmt::skip]
pub static FIELDS: &[Field] = &[
    Field::flag("redis", REDIS, "protocol = 'redis'", "Redis"),
    Field::new("redis_type", Text, "command", "Verb: GET, SET, ...").of(REDIS).fold(Upper),
    Field::new("redis_command", Text, "concat_ws(' ', command, key, args)", "Whole command").of(REDIS),
    Field::new("redis_key", Text, "key", "First key").of(REDIS),
    Field::new("redis_request_size", Int, SENT, "Bytes of the request").of(REDIS),
    Field::new("redis_response_size", Int, RECEIVED, "Bytes of the response").of(REDIS),
    Field::new("redis_total_size", Int, BOTH, "Bytes of both").of(REDIS),

    Field::flag("kafka", KAFKA, "protocol = 'kafka'", "Kafka"),
    Field::new("kafka_api_key", Int, "api_key", "Number of the API: 0 produce, 1 fetch, as Kafka has it").of(KAFKA),
    Field::new("kafka_api_key_name", Text, "upper(api)", "PRODUCE, FETCH, METADATA, ...").of(KAFKA).fold(Upper),
    Field::new("kafka_client_id", Text, "client_id", "Client id").of(KAFKA),
    Field::new("kafka_size", Int, "coalesce(request_bytes, response_bytes)", "Bytes of the request, else of the response").of(KAFKA),
    Field::new("kafka_request", Bool, REQUEST, "The request was seen").of(KAFKA),
    Field::new("kafka_response", Bool, RESPONSE, "The response was seen").of(KAFKA),
    Field::new("kafka_request_summary", Text, "topic", "Topic").of(KAFKA),
    Field::new("kafka_request_size", Int, SENT, "Bytes of the request").of(KAFKA),
    Field::new("kafka_response_size", Int, RECEIVED, "Bytes of the response").of(KAFKA),

    Field::flag("amqp", AMQP, "protocol = 'amqp'", "AMQP 0-9-1"),
    Field::new("amqp_method", Text, "method", "basic.publish, ...").of(AMQP).fold(Lower),
    Field::new("amqp_summary", Text, "coalesce(exchange, queue, routing_key, reply_text, vhost)", "Exchange, queue, routing key, reply text or virtual host").of(AMQP),
    Field::new("amqp_request", Bool, REQUEST, "The request was seen").of(AMQP),
    Field::new("amqp_response", Bool, RESPONSE, "The response was seen").of(AMQP),
    Field::new("amqp_request_length", Int, SENT, "Bytes of the request").of(AMQP),
    Field::new("amqp_response_length", Int, RECEIVED, "Bytes of the response").of(AMQP),
    Field::new("amqp_total_size", Int, BOTH, "Bytes of both").of(AMQP),

    Field::flag("ldap", LDAP, "protocol = 'ldap'", "LDAP"),
    Field::new("ldap_type", Text, "operation", "bind, search, modify, ...").of(LDAP).fold(Lower),
    Field::new("ldap_summary", Text, "summary", "Operation and base object").of(LDAP),
    Field::new("ldap_result", Text, "result", "success, invalidCredentials, ...").of(LDAP),
    Field::new("ldap_request", Bool, REQUEST, "The request was seen").of(LDAP),
    Field::new("ldap_response", Bool, RESPONSE, "The response was seen").of(LDAP),
    Field::new("ldap_request_length", Int, SENT, "Bytes of the request").of(LDAP),
    Field::new("ldap_response_length", Int, RECEIVED, "Bytes of the response").of(LDAP),
    Field::new("ldap_total_size", Int, BOTH, "Bytes of both").of(LDAP),

    Field::flag("radius", RADIUS, "protocol = 'radius'", "RADIUS"),
    Field::new("radius_code", Int, "code_num", "Code as a number").of(RADIUS),
    Field::new("radius_code_name", Text, "code", "Access-Request, Access-Reject, ...").of(RADIUS),
    Field::new("radius_response_code_name", Text, "response_code", "Code of the answer: Access-Accept, Access-Reject, ...").of(RADIUS),
    Field::new("radius_username", Text, "username", "User-Name").of(RADIUS),
    Field::new("radius_request", Bool, REQUEST, "The request was seen").of(RADIUS),
    Field::new("radius_response", Bool, RESPONSE, "The response was seen").of(RADIUS),
    Field::new("radius_request_authenticator", Text, "authenticator", "Authenticator of the request, in hexadecimal").of(RADIUS).fold(Lower),
    Field::new("radius_request_length", Int, SENT, "Bytes of the request").of(RADIUS),
    Field::new("radius_response_length", Int, RECEIVED, "Bytes of the response").of(RADIUS),
    Field::new("radius_total_size", Int, BOTH, "Bytes of both").of(RADIUS),

    Field::flag("diameter", DIAMETER, "protocol = 'diameter'", "Diameter"),
    Field::new("diameter_method", Text, "command_name", "Credit-Control, Update-Location, ...").of(DIAMETER),
    Field::new("diameter_command", Text, "command", "CCR, ULR, ...").of(DIAMETER).fold(Upper),
    Field::new("diameter_result_code", Int, "result_code", "Result-Code of the answer").of(DIAMETER),
    Field::new("diameter_summary", Text, "summary", "Command and peer").of(DIAMETER),
    Field::new("diameter_request", Bool, REQUEST, "The request was seen").of(DIAMETER),
    Field::new("diameter_response", Bool, RESPONSE, "The response was seen").of(DIAMETER),
    Field::new("diameter_request_length", Int, SENT, "Bytes of the request").of(DIAMETER),
    Field::new("diameter_response_length", Int, RECEIVED, "Bytes of the response").of(DIAMETER),
    Field::new("diameter_total_size", Int, BOTH, "Bytes of both").of(DIAMETER),

    Field::new("tls_summary", Text, "", "One line of a TLS entry"),
    Field::new("tls_info", Text, "", "Details of a TLS entry"),
    Field::new("tls_request_size", Int, "CASE WHEN tls THEN request_bytes END", "Bytes of a request from inside TLS"),
    Field::new("tls_response_size", Int, "CASE WHEN tls THEN response_bytes END", "Bytes of a response from inside TLS"),
    Field::new("tls_total_size", Int, "CASE WHEN tls THEN coalesce(request_bytes, 0) + coalesce(response_bytes, 0) END", "Bytes of both"),

    Field::flag("tlsx", TLS, "protocol = 'tls'", "A TLS handshake"),
    Field::new("tlsx_sni", Text, "sni", "Server name the client asked for").of(TLS).fold(Lower),
    Field::new("tlsx_cipher_suite", Int, "cipher_num", "Cipher suite agreed on, as a number").of(TLS),
    Field::new("tlsx_cipher", Text, "cipher", "Cipher suite agreed on, by name").of(TLS),
    Field::new("tlsx_cipher_suites", List(Element::Text), "cipher_suites", "Cipher suites offered").of(TLS),
    Field::new("tlsx_alpn", Text, "alpn", "Protocol agreed on; encrypted in TLS 1.3").of(TLS),
    Field::new("tlsx_version", Int, "version_num", "Version agreed on, as a number: 772 is TLS 1.3").of(TLS),
    Field::new("tlsx_summary", Text, "concat(coalesce(sni, dst_ip), ' ', coalesce(status, ''))", "Whom it asked for, and how it ended").of(TLS),
    Field::new("tlsx_info", Text, "concat_ws(' ', version, cipher)", "Version and cipher suite agreed on").of(TLS),
    Field::new("tlsx_ja3", Text, "ja3", "JA3").of(TLS).fold(Lower),
    Field::new("tlsx_ja3s", Text, "ja3s", "JA3S").of(TLS).fold(Lower),
    Field::new("tlsx_ja4", Text, "ja4", "JA4").of(TLS).fold(Lower),
    Field::new("tlsx_established", Bool, "established", "Both sides finished").or(&["established"]).of(TLS),
    Field::new("tlsx_alert", Text, "alert", "Fatal alert: unknown_ca, handshake_failure, ...").of(TLS).fold(Lower),
    Field::new("tlsx_alert_by", Text, "alert_by", "Who sent it: src or dst").of(TLS).fold(Lower),
    Field::new("tlsx_server_subject", Text, "server_subject", "Subject of the server's certificate, up to TLS 1.2").of(TLS),
    Field::new("tlsx_server_issuer", Text, "server_issuer", "Issuer of the server's certificate").of(TLS),

    Field::flag("mongodb", DB, "protocol = 'db' AND system = 'mongodb'", "MongoDB"),
    Field::new("mongodb_command", Text, "CASE WHEN system = 'mongodb' THEN operation END", "find, insert, ...").of(DB),
    Field::new("mongodb_database", Text, "CASE WHEN system = 'mongodb' THEN database END", "Database").of(DB),
    Field::new("mongodb_collection", Text, "CASE WHEN system = 'mongodb' THEN collection END", "Collection").of(DB),
    Field::new("mongodb_opcode", Text, "CASE WHEN system = 'mongodb' THEN command END", "OP_MSG, ...").of(DB).fold(Upper),
    Field::new("mongodb_request_size", Int, "CASE WHEN system = 'mongodb' THEN request_bytes END", "Bytes of the request").of(DB),
    Field::new("mongodb_response_size", Int, "CASE WHEN system = 'mongodb' THEN response_bytes END", "Bytes of the response").of(DB),
    Field::new("mongodb_total_size", Int, "CASE WHEN system = 'mongodb' THEN coalesce(request_bytes, 0) + coalesce(response_bytes, 0) END", "Bytes of both").of(DB),
    Field::new("mongodb_success", Bool, "CASE WHEN system = 'mongodb' THEN NOT is_error END", "It did not fail").of(DB),
    Field::new("mongodb_error_code", Int, "CASE WHEN system = 'mongodb' THEN TRY_CAST(error_code AS BIGINT) END", "Error code").of(DB),
    Field::new("mongodb_error_message", Text, "CASE WHEN system = 'mongodb' THEN error_message END", "Error text").of(DB),
    Field::new("mongodb_error_code_name", Text, "error_code_name", "Name of the error code").of(DB),

    Field::flag("mysql", DB, "protocol = 'db' AND system = 'mysql'", "MySQL"),
    Field::new("mysql_command", Text, "CASE WHEN system = 'mysql' THEN command END", "COM_QUERY, ...").of(DB).fold(Upper),
    Field::new("mysql_query", Text, "CASE WHEN system = 'mysql' THEN statement END", "Statement").of(DB),
    Field::new("mysql_database", Text, "CASE WHEN system = 'mysql' THEN database END", "Database").of(DB),
    Field::new("mysql_statement_id", Int, "statement_id", "Id of a prepared statement").of(DB),
    Field::new("mysql_request_size", Int, "CASE WHEN system = 'mysql' THEN request_bytes END", "Bytes of the request").of(DB),
    Field::new("mysql_response_size", Int, "CASE WHEN system = 'mysql' THEN response_bytes END", "Bytes of the response").of(DB),
    Field::new("mysql_total_size", Int, "CASE WHEN system = 'mysql' THEN coalesce(request_bytes, 0) + coalesce(response_bytes, 0) END", "Bytes of both").of(DB),
    Field::new("mysql_success", Bool, "CASE WHEN system = 'mysql' THEN NOT is_error END", "It did not fail").of(DB),
    Field::new("mysql_error_code", Int, "CASE WHEN system = 'mysql' THEN TRY_CAST(error_code AS BIGINT) END", "Error number").of(DB),
    Field::new("mysql_error_message", Text, "CASE WHEN system = 'mysql' THEN error_message END", "Error text").of(DB),

    Field::flag("postgresql", DB, "protocol = 'db' AND system = 'postgresql'", "PostgreSQL"),
    Field::new("postgresql_command", Text, "CASE WHEN system = 'postgresql' THEN operation END", "SELECT, INSERT, ...").of(DB).fold(Upper),
    Field::new("postgresql_query", Text, "CASE WHEN system = 'postgresql' THEN statement END", "Statement").of(DB),
    Field::new("postgresql_database", Text, "CASE WHEN system = 'postgresql' THEN database END", "Database").of(DB),
    Field::new("postgresql_user", Text, "CASE WHEN system = 'postgresql' THEN \"user\" END", "Login name").of(DB),
    Field::new("postgresql_request_size", Int, "CASE WHEN system = 'postgresql' THEN request_bytes END", "Bytes of the request").of(DB),
    Field::new("postgresql_response_size", Int, "CASE WHEN system = 'postgresql' THEN response_bytes END", "Bytes of the response").of(DB),
    Field::new("postgresql_total_size", Int, "CASE WHEN system = 'postgresql' THEN coalesce(request_bytes, 0) + coalesce(response_bytes, 0) END", "Bytes of both").of(DB),
    Field::new("postgresql_success", Bool, "CASE WHEN system = 'postgresql' THEN NOT is_error END", "It did not fail").of(DB),
    Field::new("postgresql_error_code", Text, "CASE WHEN system = 'postgresql' THEN error_code END", "SQLSTATE").of(DB).fold(Upper),
    Field::new("postgresql_error_message", Text, "CASE WHEN system = 'postgresql' THEN error_message END", "Error text").of(DB),
];
