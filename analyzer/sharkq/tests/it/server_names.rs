//! Names that curl asked nginx for over TLS 1.2 and 1.3: each names its flow's destination as tshark reads it, where neither DNS
//! answers nor sockets name it better. What is asked for inside of a proxy's tunnel names nobody.

use std::path::Path;

use crate::captures;
use crate::desk::Desk;
use crate::footer::plaintext_is_never_targeted;
use crate::pair::Pair;
use crate::plaintext::write_nginx;
use crate::programs::{is_installed, is_permitted, printed, within};
use crate::same::assert_same;

const SERVER: &str = "dnsmasq -C /dev/null -x \"$DESK/pid\" -kRhz -u root -a 10.9.0.2 -A /told.test/10.9.0.2 & \
                      nginx -c \"$DESK/nginx/nginx.conf\" & exec python3 \"$DESK/proxy.py\"";

const CLIENT: &str = r#"
ask() { curl -sk "$@" -o /dev/null || exit 1; }
until test -s "$DESK/pid" -a -s "$DESK/nginx/pid"; do sleep 0.1; done
for version in 1.2 1.3; do
    ask --tls-max $version --resolve resolved-$version.test:443:$SERVER_IP https://resolved-$version.test/
    ask --tls-max $version --connect-to Connected-$version.test:443:$SERVER_IP:443 https://Connected-$version.test/
    ask --tls-max $version https://$SERVER_IP/
done
ask --proxytunnel --proxy http://$SERVER_IP:3128 https://tunnel.test/
python3 "$DESK/resolve.py" || exit 1
ask --resolve other.test:443:$SERVER_IP https://other.test/
"#;

/// Wherever it is asked to connect to, that is nginx.
const PROXY: &str = r#"
import socket, threading
def pump(a, b):
    while data := a.recv(65536): b.sendall(data)
    b.shutdown(socket.SHUT_WR)
listener = socket.create_server(("10.9.0.2", 3128))
while True:
    client, _ = listener.accept()
    assert client.recv(65536).endswith(b"\r\n\r\n")
    server = socket.create_connection(("10.9.0.2", 443))
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    threading.Thread(target=pump, args=(client, server)).start()
    pump(server, client)
"#;

/// Asks for the address of told.test.
const RESOLVE: &str = r#"
import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)
s.sendto(b"\x12\x34\1\0\0\1\0\0\0\0\0\0\4told\4test\0\0\1\0\1", (os.environ["SERVER_IP"], 53))
assert s.recv(512).endswith(socket.inet_aton(os.environ["SERVER_IP"]))
"#;

#[test]
fn a_server_name_names_the_destination() {
    let tools = ["nginx", "curl", "openssl", "python3", "dnsmasq", "tshark"];
    if !is_permitted() || !tools.into_iter().all(is_installed) {
        return;
    }
    let desk = Desk::new();
    write_nginx(&desk);
    for (name, text) in [("client.sh", CLIENT), ("proxy.py", PROXY), ("resolve.py", RESOLVE)] {
        std::fs::write(desk.at(name), text).expect("a file");
    }
    let client = "exec sh \"$DESK/client.sh\"";
    let snapshot = Pair { server: SERVER, client, port: Some(3128), options: "" }.record(&desk);
    let named = |source: &Path, port: u16| -> Vec<String> {
        let sql = format!(
            "SELECT concat_ws(' ', coalesce(dst_dns, '-'), dst_identity, coalesce(src_dns, '-'), orientation, \
             array_to_string(l7, '+')) AS line FROM flows WHERE proto = 'tcp' AND dst_port = {port} ORDER BY ts"
        );
        desk.rows(source, &sql).iter().map(|row| row["line"].as_str().expect("text").to_owned()).collect()
    };
    // Packets by themselves have no log, so that no socket proves who it was.
    let packets: Vec<captures::Packet> =
        captures::segments(&desk.at("ring")).iter().flat_map(|segment| captures::read(segment)).collect();
    let alone = &desk.at("alone.pcap");
    captures::write(alone, packets.iter());
    let lines = [
        "resolved-1.2.test sni - syn tls",
        "connected-1.2.test sni - syn tls",
        "- none - syn tls",
        "resolved-1.3.test sni - syn tls",
        "connected-1.3.test sni - syn tls",
        "- none - syn tls",
        "told.test dns - syn tls",
    ];
    assert_eq!(named(alone, 443), lines);
    assert_eq!(named(alone, 3128), ["- none - syn http+tls"]);
    let by_socket = lines.map(|line| line.replacen(" sni ", " socket ", 1).replacen(" dns ", " socket ", 1));
    assert_eq!(named(&snapshot, 443), by_socket.map(|line| line.replacen(" none ", " socket ", 1)));
    tshark_reads_the_same(&desk, alone);
    plaintext_is_never_targeted(&desk, &snapshot, ["--since", "1s"], "recorded without --tls");
}

fn tshark_reads_the_same(desk: &Desk, capture: &Path) {
    let mut read = within(60, "tshark");
    read.arg("-r").arg(capture).args(["-Y", "tls.handshake.type == 1 && tcp.dstport == 443", "-T", "fields"]);
    read.args(["-E", "separator=/s", "-e", "tcp.srcport", "-e", "tls.handshake.extensions_server_name"]);
    let told: Vec<String> = printed(&mut read).lines().map(str::to_lowercase).collect();
    let sql = "SELECT src_port, dst_dns, dst_identity FROM flows WHERE proto = 'tcp' AND dst_port = 443";
    let line = |row: &serde_json::Value| match (row["dst_identity"].as_str(), row["dst_dns"].as_str()) {
        (Some("sni"), Some(name)) => format!("{} {name}", row["src_port"]),
        (Some("dns"), Some("told.test")) => format!("{} other.test", row["src_port"]),
        _ => format!("{} ", row["src_port"]),
    };
    let seen: Vec<String> = desk.rows(capture, sql).iter().map(line).collect();
    assert_same("server names", &told, &seen);
}
