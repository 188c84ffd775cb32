//! The row of a handshake. In: the ClientHello and the server's part, or one of them. Out: the columns of `tls`.

use std::borrow::Cow;

use shark_schema::table::Block;
use shark_schema::tables::tls::{TlsBlock, TlsRow};

use super::hello::ClientHello;
use super::{Answer, By, TLS_1_3, names};
use crate::layer::{CallTimes, Written};

pub fn write(
    asked: Option<&ClientHello>,
    answered: Option<&Answer>,
    times: &CallTimes,
    columns: &mut TlsBlock,
) -> Written {
    let hello = answered.and_then(|answer| answer.hello.as_ref());
    let agreed = hello.filter(|hello| !hello.is_retry);
    let version = agreed.map(|hello| names::version(hello.version));
    let cipher = agreed.map(|hello| names::cipher(hello.cipher));
    let group = answered.and_then(|answer| answer.group).or(agreed.and_then(|hello| hello.group));
    let curve = group.map(names::group);
    let offered_version = asked.map(|hello| names::version(hello.offered));
    let suites =
        asked.map(|hello| hello.ciphers.iter().map(|suite| names::cipher(*suite)).collect::<Vec<_>>());
    let suites = suites.as_ref().map(|names| names.iter().map(Cow::as_ref).collect::<Vec<&str>>());
    let alpn_offered = asked.filter(|hello| !hello.alpn.is_empty());
    let alpn_offered = alpn_offered.map(|hello| hello.alpn.iter().map(String::as_str).collect::<Vec<_>>());
    let (ja3, ja4) = (asked.map(ClientHello::ja3), asked.map(ClientHello::ja4));
    let ja3s = agreed.map(|hello| hello.ja3s());
    let leaf = answered.and_then(|answer| answer.certificate.as_ref());
    let sans = leaf.filter(|leaf| !leaf.names.is_empty());
    let sans = sans.map(|leaf| leaf.names.iter().map(String::as_str).collect::<Vec<_>>());
    let client = answered.and_then(|answer| answer.client_certificate.as_ref());
    let established = answered.and_then(|answer| answer.established);
    let alert = answered.and_then(|answer| answer.alert.as_ref());
    let history = answered.map_or("C", |answer| &answer.history);
    let row = TlsRow {
        handshake_ns: times.duration_ns.filter(|_| established == Some(true)),
        version: version.as_deref(),
        cipher: cipher.as_deref(),
        curve: curve.as_deref(),
        sni: asked.and_then(|hello| hello.sni.as_deref()),
        alpn: agreed.and_then(|hello| hello.alpn.as_deref()),
        resumed: asked.zip(answered).and_then(|(asked, answer)| is_resumed(asked, answer)),
        established,
        alert: alert.map(|(name, _)| &**name),
        alert_by: alert.map(|(_, by)| if *by == By::Client { "src" } else { "dst" }),
        ssl_history: Some(history),
        ja3: ja3.as_deref(),
        ja3s: ja3s.as_deref(),
        ja4: ja4.as_deref(),
        server_subject: leaf.and_then(|leaf| leaf.subject.as_deref()),
        server_issuer: leaf.and_then(|leaf| leaf.issuer.as_deref()),
        server_sans: sans.as_deref(),
        server_not_after: leaf.and_then(|leaf| leaf.not_after_ns),
        server_sha256: leaf.map(|leaf| leaf.sha256.as_str()),
        client_subject: client.and_then(|leaf| leaf.subject.as_deref()),
        client_spiffe: client.and_then(|leaf| leaf.spiffe()),
        version_num: agreed.map(|hello| hello.version.into()),
        cipher_num: agreed.map(|hello| hello.cipher.into()),
        cipher_suites: suites.as_deref(),
        offered_version: offered_version.as_deref(),
        alpn_offered: alpn_offered.as_deref(),
        ..TlsRow::default()
    };
    let bytes = columns.append(&row);
    Written {
        bytes,
        is_error: established.map(|established| !established),
        error_type: alert.map(|(name, _)| name.clone()).or_else(|| {
            let is_refused = answered.is_some_and(|answer| answer.is_refused);
            // It came to its end unfinished, and nobody said why.
            let failed = if is_refused { "not_tls" } else { "incomplete" };
            (established == Some(false)).then_some(failed.into())
        }),
        server_name: asked.and_then(ClientHello::host_name),
        ..Written::default()
    }
}

/// A shared key was taken, or the session id of before with no certificate after it (RFC 5246 section 7.3); a server that
/// takes a ticket may also answer with the id the client made up for it (RFC 5077 section 3.4).
fn is_resumed(asked: &ClientHello, answer: &Answer) -> Option<bool> {
    let hello = answer.hello.as_ref().filter(|hello| !hello.is_retry)?;
    if hello.version >= TLS_1_3 {
        return Some(hello.takes_shared_key);
    }
    let is_same = !hello.session.is_empty() && hello.session == asked.session;
    Some(is_same && answer.certificate.is_none())
}
