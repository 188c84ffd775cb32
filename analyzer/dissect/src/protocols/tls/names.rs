//! Names of TLS's numbers, as IANA's registries and RFC 8446 have them. In: a number. Out: a text, always.

use std::borrow::Cow;

use tls_parser::TlsCipherSuite;

/// A version: TLSv1.2, ...
pub fn version(number: u16) -> Cow<'static, str> {
    match number {
        0x0300 => "SSLv3".into(),
        0x0301 => "TLSv1.0".into(),
        0x0302 => "TLSv1.1".into(),
        0x0303 => "TLSv1.2".into(),
        0x0304 => "TLSv1.3".into(),
        other => format!("0x{other:04x}").into(),
    }
}

/// A version as JA4 writes it.
pub fn ja4_version(number: u16) -> &'static str {
    match number {
        0x0300 => "s3",
        0x0301 => "10",
        0x0302 => "11",
        0x0303 => "12",
        0x0304 => "13",
        _ => "00",
    }
}

/// A cipher suite: TLS_AES_128_GCM_SHA256, ...
pub fn cipher(number: u16) -> Cow<'static, str> {
    match TlsCipherSuite::from_id(number) {
        Some(suite) => suite.name.into(),
        None => format!("0x{number:04x}").into(),
    }
}

/// A group (TLS Supported Groups).
pub fn group(number: u16) -> Cow<'static, str> {
    match number {
        21 => "secp224r1".into(),
        22 => "secp256k1".into(),
        23 => "secp256r1".into(),
        24 => "secp384r1".into(),
        25 => "secp521r1".into(),
        26 => "brainpoolP256r1".into(),
        27 => "brainpoolP384r1".into(),
        28 => "brainpoolP512r1".into(),
        29 => "x25519".into(),
        30 => "x448".into(),
        256 => "ffdhe2048".into(),
        257 => "ffdhe3072".into(),
        258 => "ffdhe4096".into(),
        259 => "ffdhe6144".into(),
        260 => "ffdhe8192".into(),
        512 => "MLKEM512".into(),
        513 => "MLKEM768".into(),
        514 => "MLKEM1024".into(),
        4587 => "SecP256r1MLKEM768".into(),
        4588 => "X25519MLKEM768".into(),
        4589 => "SecP384r1MLKEM1024".into(),
        0x6399 => "X25519Kyber768Draft00".into(),
        other => format!("0x{other:04x}").into(),
    }
}

/// An alert (RFC 8446 section 6, RFC 5246 section 7.2).
pub fn alert(number: u8) -> Cow<'static, str> {
    match number {
        0 => "close_notify".into(),
        10 => "unexpected_message".into(),
        20 => "bad_record_mac".into(),
        21 => "decryption_failed".into(),
        22 => "record_overflow".into(),
        30 => "decompression_failure".into(),
        40 => "handshake_failure".into(),
        41 => "no_certificate".into(),
        42 => "bad_certificate".into(),
        43 => "unsupported_certificate".into(),
        44 => "certificate_revoked".into(),
        45 => "certificate_expired".into(),
        46 => "certificate_unknown".into(),
        47 => "illegal_parameter".into(),
        48 => "unknown_ca".into(),
        49 => "access_denied".into(),
        50 => "decode_error".into(),
        51 => "decrypt_error".into(),
        60 => "export_restriction".into(),
        70 => "protocol_version".into(),
        71 => "insufficient_security".into(),
        80 => "internal_error".into(),
        86 => "inappropriate_fallback".into(),
        90 => "user_canceled".into(),
        100 => "no_renegotiation".into(),
        109 => "missing_extension".into(),
        110 => "unsupported_extension".into(),
        111 => "certificate_unobtainable".into(),
        112 => "unrecognized_name".into(),
        113 => "bad_certificate_status_response".into(),
        114 => "bad_certificate_hash_value".into(),
        115 => "unknown_psk_identity".into(),
        116 => "certificate_required".into(),
        120 => "no_application_protocol".into(),
        121 => "ech_required".into(),
        other => other.to_string().into(),
    }
}

/// The letter of a handshake message in a history (Zeek's `ssl_history`), as the server's.
pub fn letter(message: u8) -> char {
    match message {
        0 => 'h',
        1 => 'c',
        2 => 's',
        3 => 'v',
        4 => 't',
        8 => 'o',
        11 => 'x',
        12 => 'k',
        13 => 'r',
        14 => 'n',
        15 => 'y',
        16 => 'g',
        20 => 'f',
        21 => 'w',
        22 => 'u',
        23 => 'a',
        _ => 'q',
    }
}
