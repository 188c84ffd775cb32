//! TLS handshakes: one row per handshake, as far as it is readable on the wire.

use crate::table;

table! {
    /// TLS handshakes: what was asked for, what was agreed on, and how it ended. No row of `api_calls`.
    call "tls", TlsRow, TlsBlock, sort ["dst_namespace", "dst_workload", "ts"],
    view {
        operation: "'handshake'",
        resource: "sni",
        summary: "concat(coalesce(version, 'TLS'), ' ', coalesce(sni, dst_ip))",
        status: "coalesce(alert, CASE WHEN established THEN 'established' END)",
        status_code: "CAST(NULL AS INT)",
        version: "version",
        excluded: "true",
    } {
        /// ClientHello to the last byte of the server's part of the handshake (its Finished), where it was established.
        handshake_ns: Int64 = 1001 [unit = "ns"],
        /// Version agreed on: SSLv3, TLSv1.0, TLSv1.1, TLSv1.2, TLSv1.3.
        version: Text = 1002 [zeek = "version", otel = "tls.protocol.version"],
        /// Cipher suite agreed on, as IANA names it.
        cipher: Text = 1003 [zeek = "cipher", otel = "tls.cipher", kfl = "tlsx_cipher"],
        /// Group of the key exchange: x25519, secp256r1, ...
        curve: Text = 1004 [zeek = "curve", otel = "tls.curve"],
        /// Server name the client asked for.
        sni: Text = 1005 [wireshark = "tls.handshake.extensions_server_name", zeek = "server_name", ecs = "tls.client.server_name", kfl = "tlsx_sni"],
        /// Protocol agreed on; encrypted, and NULL, in TLS 1.3.
        alpn: Text = 1006 [zeek = "next_protocol", otel = "tls.next_protocol", kfl = "tlsx_alpn"],
        /// An earlier session was resumed.
        resumed: Bool = 1007 [zeek = "resumed", otel = "tls.resumed"],
        /// Both sides finished. NULL where the capture does not tell.
        established: Bool = 1008 [zeek = "established", otel = "tls.established"],
        /// Fatal alert; `encrypted` where it is known by its length alone, as after the first flight of TLS 1.3.
        alert: Text = 1009 [wireshark = "tls.alert_message.desc", zeek = "last_alert"],
        /// Who sent it: src or dst.
        alert_by: Text = 1010,
        /// Messages in their order, a letter each, capital for the client's, as Zeek writes them.
        ssl_history: Text = 1011 [zeek = "ssl_history"],
        /// JA3 of the ClientHello.
        ja3: Text = 1012 [wireshark = "tls.handshake.ja3", otel = "tls.client.ja3"],
        /// JA3S of the ServerHello.
        ja3s: Text = 1013 [wireshark = "tls.handshake.ja3s", otel = "tls.server.ja3s"],
        /// JA4 of the ClientHello.
        ja4: Text = 1014,
        /// Subject of the server's certificate; encrypted in TLS 1.3.
        server_subject: Text = 1015 [otel = "tls.server.subject", zeek = "subject"],
        /// Its issuer.
        server_issuer: Text = 1016 [otel = "tls.server.issuer"],
        /// Its names and addresses (RFC 5280 section 4.2.1.6).
        server_sans: TextList = 1017 [zeek = "san.dns"],
        /// Its expiry.
        server_not_after: Time = 1018 [tz = "UTC", otel = "tls.server.not_after"],
        /// Its SHA-256, in hexadecimal.
        server_sha256: Text = 1019 [otel = "tls.server.hash.sha256"],
        /// Subject of the client's certificate.
        client_subject: Text = 1020,
        /// SPIFFE id in the client's certificate.
        client_spiffe: Text = 1021,
        /// Library that speaks at either end; NULL until a probe of the process tells.
        library: Text = 1022,
        /// uprobe, keys, none, unsupported: whether the content was readable; NULL until something tells.
        plaintext: Text = 1023,
        /// `version` as a number: 772 is TLS 1.3.
        version_num: Int32 = 1024 [wireshark = "tls.handshake.version", kfl = "tlsx_version"],
        /// `cipher` as a number.
        cipher_num: Int32 = 1025 [wireshark = "tls.handshake.ciphersuite", kfl = "tlsx_cipher_suite"],
        /// Cipher suites the client offered, in its order.
        cipher_suites: TextList = 1026 [kfl = "tlsx_cipher_suites"],
        /// Highest version the client offered.
        offered_version: Text = 1027,
        /// Protocols the client offered.
        alpn_offered: TextList = 1028,
    }
}
