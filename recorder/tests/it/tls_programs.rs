//! Programs that speak TLS to each other: nginx, and clients in Python and C for every way to use the library. In: a namespace, or a
//! folder to build in. Out: nginx that runs, texts of programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::net::{Net, run};
use crate::nginx::Nginx;

pub const PORT: u16 = 18_443;
/// In every answer of nginx.
pub const SECRET: &str = "the secret of";

/// Says the secret to everybody who asks, over TLS, in the receiver's namespace.
pub fn nginx(net: &Net) -> Nginx {
    let dir = tempfile::tempdir().unwrap();
    let (key, certificate) = (dir.path().join("key.pem"), dir.path().join("cert.pem"));
    let (key, certificate) = (key.display().to_string(), certificate.display().to_string());
    let kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let subject = ["-subj", "/CN=localhost", "-days", "2", "-keyout", &key, "-out", &certificate];
    run("openssl", &[&kind[..], &subject].concat());
    let server = format!(
        "keepalive_requests 10000; server {{ listen 127.0.0.1:{PORT} ssl; ssl_protocols TLSv1.2 TLSv1.3;
         ssl_certificate {certificate}; ssl_certificate_key {key};
         location / {{ return 200 '{SECRET} $request_uri'; }} }}"
    );
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{}", net.receiver)).arg("nginx");
    Nginx::start_as(command, dir, PORT, "$request_method $request_uri", &server)
}

/// One connection, eleven requests, two with bodies.
pub const PYTHON_CLIENT: &str = r#"
import http.client, ssl, sys
context = ssl._create_unverified_context()
c = http.client.HTTPSConnection("127.0.0.1", int(sys.argv[1]), context=context)
for n in range(9):
    c.request("GET", f"/python-{n}"); assert c.getresponse().read().startswith(b"the secret of")
for n in range(2):
    c.request("POST", f"/python-post-{n}", body=b"x" * 50_000); assert c.getresponse().read()
"#;

/// Requests with bodies: how many, and how large.
pub const PYTHON_LARGE: &str = r#"
import http.client, ssl, sys
context = ssl._create_unverified_context()
c = http.client.HTTPSConnection("127.0.0.1", int(sys.argv[1]), context=context)
for n in range(int(sys.argv[2])):
    c.request("POST", "/large", body=b"y" * int(sys.argv[3])); assert c.getresponse().read()
"#;

/// The library that Python runs.
pub const PYTHON_LIBRARY: &str = r#"
import ssl
print(next(line.split()[-1] for line in open("/proc/self/maps") if "libssl" in line and "r-xp" in line))
"#;

/// Waits for a line before it begins.
pub const PYTHON_WAITING: &str = r#"
import http.client, ssl, sys
context = ssl._create_unverified_context()
sys.stdin.readline()
c = http.client.HTTPSConnection('127.0.0.1', int(sys.argv[1]), context=context)
c.request('GET', '/waiting'); assert c.getresponse().read()
"#;

/// Its library never sees the socket.
pub const PYTHON_MEMORY: &str = r#"
import asyncio, ssl, sys
async def main():
    context = ssl._create_unverified_context()
    r, w = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]), ssl=context)
    w.write(b"GET /memory HTTP/1.0\r\n\r\n")
    assert b"the secret of" in await r.read()
asyncio.run(main())
"#;

/// Waits for a line, too.
const C_CLIENT: &str = r#"
#include <openssl/ssl.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    char text[256], answer[4096];
    if (!fgets(text, sizeof(text), stdin)) return 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(0x7f000001)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof(to))) return 2;
    SSL *ssl = SSL_new(SSL_CTX_new(TLS_client_method()));
    SSL_set_fd(ssl, fd);
    if (SSL_connect(ssl) != 1) return 3;
    int n = snprintf(text, sizeof(text), "GET /%s HTTP/1.0\r\n\r\n", argv[2]);
    if (SSL_write(ssl, text, n) != n) return 4;
    while (SSL_read(ssl, answer, sizeof(answer)) > 0) {}
    SSL_free(ssl);
    return argc != 3;
}
"#;

/// None, with the reason printed, without a compiler or the static library.
pub fn static_program(dir: &Path) -> Option<PathBuf> {
    let (source, program) = (dir.join("client.c"), dir.join("program"));
    fs::write(&source, C_CLIENT).unwrap();
    let linked = Command::new("cc")
        .arg("-o")
        .args([&program, &source])
        .args(["-Wl,-Bstatic", "-lssl", "-lcrypto", "-Wl,-Bdynamic"])
        .output();
    if !linked.is_ok_and(|output| output.status.success()) {
        println!("skipped: no C compiler, or no libssl.a (libssl-dev)");
        return None;
    }
    Some(program)
}
