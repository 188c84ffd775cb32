//! Both ends of a conversation. In: its addresses and begin. Out: who they were, also behind an address translation, with the
//! sockets that prove it. Ports are used again at once: what may belong to another conversation from the same port proves nothing.

use super::sockets::{Endpoint, Place, Site, Socket};
use super::{Identities, Identity};

/// A conversation as packets show it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Talk {
    /// Where it was recorded.
    pub site: Site,
    /// IP protocol.
    pub protocol: u8,
    /// Who asked.
    pub src: Place,
    /// Who was asked.
    pub dst: Place,
    /// First packet.
    pub start_ns: i64,
    /// Last packet, where the names must hold until then.
    pub end_ns: Option<i64>,
}

/// Both ends of a conversation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parties<'a> {
    /// Who asked.
    pub src: Identity<'a>,
    /// Who was asked.
    pub dst: Identity<'a>,
    /// Address of the destination on the other side of an address translation.
    pub nat: Option<Place>,
    /// By which socket both sides of a translation are known, seen from the caller's side.
    pub before: Option<u64>,
    /// The same, seen from the backend's: by its own socket, and by the caller's.
    pub after: [Option<u64>; 2],
    /// The sockets with just these ends.
    pub sockets: [Option<u64>; 2],
}

impl Identities {
    /// Both ends of a conversation when it began, also where the address that was asked leads to another.
    pub fn parties(&self, talk: &Talk) -> Parties<'_> {
        let Talk { site, protocol, src, dst, start_ns, end_ns } = *talk;
        let [asking, asked] =
            [(src, dst), (dst, src)].map(|(local, peer)| Endpoint { protocol, local, peer });
        let [caller, callee] = [&asking, &asked].map(|end| {
            let found = self.socket(site, end, start_ns)?;
            // Nothing opens or closes a conversation of datagrams: its port may have had several sockets.
            match end_ns.filter(|_| protocol == 17) {
                Some(end_ns) => self.sockets.throughout(found, end, [start_ns, end_ns]),
                None => Some(found),
            }
        });
        let mut parties = Parties {
            src: self.by_socket(caller, site, &asking, start_ns),
            dst: self.by_socket(callee, site, &asked, start_ns),
            sockets: [(caller, dst), (callee, src)].map(|(found, peer)| {
                let socket = found?.socket;
                (socket.peer == Some(peer)).then_some(socket.id)
            }),
            ..Parties::default()
        };
        if parties.src.service.is_none() {
            let service = self.cluster.serving_at(site.cluster, src.0, start_ns);
            parties.src.service = service.map(|service| service.name.as_str());
        }
        let caller = caller.map(|found| found.socket);
        let accepted = callee.map(|found| found.socket).filter(|socket| socket.peer == Some(src));
        parties.after[0] = accepted.map(|socket| socket.id);
        if let Some((dialling, dialled)) = self.dialled(talk, caller, accepted) {
            parties.nat = Some(dialled);
            parties.after[1] = Some(dialling.id);
            if let Some(service) = self.cluster.service_at(site.cluster, dialled, start_ns) {
                parties.dst.service = Some(&service.name);
            }
        } else if callee.is_none() {
            self.follow(talk, caller, &mut parties);
        }
        // A socket without a fixed peer does not say what it dialled: the other side does, if it was recorded.
        let served = || self.cluster.served_at(site.cluster, dst, start_ns).is_some();
        if let Some(caller) =
            caller.filter(|socket| socket.peer.is_none() && socket.asks_anybody() && served())
        {
            parties.after[1] = Some(caller.id);
        }
        parties
    }

    /// Who answered at an address that is nobody's own: the backend that the kernel led the conversation to, if that is proven. Each
    /// proof is a socket by which the conversation is found again on its other side.
    fn follow<'a>(&'a self, talk: &Talk, caller: Option<&'a Socket>, parties: &mut Parties<'a>) {
        let Talk { site, protocol, src, dst, start_ns, .. } = *talk;
        let service = self.cluster.service_at(site.cluster, dst, start_ns);
        // A pod's own address leads nowhere else; a port of it may.
        let is_pods = parties.dst.kind == Some("pod");
        let leads = |to: Place| match is_pods {
            true => (to.0 != dst.0).then_some(false),
            false => service?.leads_to(to, start_ns),
        };
        let asking = Endpoint { protocol, local: src, peer: dst };
        let accepted = self.sockets.translated(site.cluster, &asking, start_ns, leads);
        let only = || {
            let caller = caller.filter(|socket| socket.peer.is_none_or(|peer| peer == dst))?;
            Some((service?.only_backend_at(dst.1, start_ns)?, caller.id))
        };
        let Some((backend, proof)) = accepted.map(|socket| (socket.local(), socket.id)).or_else(only) else {
            return;
        };
        let answering = Endpoint { protocol, local: backend, peer: src };
        let who = self.at(site, &answering, start_ns);
        let said = parties.dst;
        parties.nat = Some(backend);
        parties.before = Some(proof);
        parties.dst = Identity {
            service: said.service.or(service.map(|service| service.name.as_str())).or(who.service),
            namespace: said.namespace.or(who.namespace),
            kind: Some("service"),
            ..who
        };
    }

    /// What the caller dialled, and by which socket, if that was not the address that was reached. From one port it may have dialled
    /// several within the time that clocks differ by: then the services must tell, or nobody can.
    fn dialled<'a>(
        &'a self,
        talk: &Talk,
        caller: Option<&Socket>,
        accepted: Option<&Socket>,
    ) -> Option<(&'a Socket, Place)> {
        let Talk { site, protocol, src, dst, start_ns, .. } = *talk;
        caller.filter(|socket| socket.peer != Some(dst))?;
        let by_socket = accepted.is_some_and(|socket| socket.local() == dst);
        let asking = Endpoint { protocol, local: src, peer: dst };
        let leads_here =
            |peer: Place| self.cluster.service_at(site.cluster, peer, start_ns)?.leads_to(dst, start_ns);
        let those = |leads: Option<bool>| {
            let dialling = self.sockets.dialling(site, &asking, start_ns);
            let dialling = dialling.filter_map(|socket| Some((socket, socket.peer?)));
            dialling.filter(move |(_, peer)| *peer != dst && leads_here(*peer) == leads)
        };
        let by_service = those(Some(true)).next().map(|_| Some(true));
        let leads = by_service.or(by_socket.then_some(None))?;
        let nearest = those(leads).min_by_key(|(socket, _)| socket.distance_ns(start_ns))?;
        those(leads).all(|(_, peer)| peer == nearest.1).then_some(nearest)
    }
}

#[cfg(test)]
mod tests {
    use shark_schema::identity::{self, EndpointSlice, Fact, LogHeader, Pod, Port, Record, Service};
    use shark_schema::table::Block;
    use shark_schema::tables::sockets::{SocketBlock, SocketRow};
    use shark_schema::tables::{processes, sockets};

    use super::super::cluster::Cluster;
    use super::super::history::History;
    use super::super::rows::Rows;
    use super::super::sockets::Sockets;
    use super::super::tables::batch;
    use super::*;

    const MS: i64 = 1_000_000;
    const CLIENT: (&str, u16) = ("10.0.0.1", 40_000);
    const NAMES: (&str, u16) = ("10.96.0.10", 53);
    const COREDNS: (&str, u16) = ("10.0.0.10", 53);
    const PAYMENT: (&str, u16) = ("10.96.0.30", 8080);
    const BACKEND: (&str, u16) = ("10.0.0.30", 8080);

    /// The client asks for a name, over TCP, and dials the payment from the same port two milliseconds later.
    fn told_by_sockets(is_refused: bool) -> Sockets {
        let dialled = [
            ("connect", CLIENT, Some(NAMES), "client", 1_000),
            ("accept", COREDNS, Some(CLIENT), "coredns", 1_000),
            ("connect", CLIENT, Some(PAYMENT), "client", 1_002),
        ];
        let answered =
            [("listen", BACKEND, None, "payment", 1), ("accept", BACKEND, Some(CLIENT), "payment", 1_002)];
        let mut block = SocketBlock::default();
        let all = dialled.into_iter().chain(answered.into_iter().filter(|_| !is_refused));
        for (number, (op, local, peer, pod, start)) in all.enumerate() {
            block.append(&SocketRow {
                sock_id: Some(&format!("n/{number}")),
                node: Some("n"),
                start_ts: Some(start * MS),
                end_ts: (op != "listen").then_some((start + 1) * MS),
                op: Some(op),
                pid: Some(7),
                pod_uid: Some(pod),
                proto: Some("tcp"),
                local_ip: Some(local.0),
                local_port: Some(local.1.into()),
                peer_ip: peer.map(|peer| peer.0),
                peer_port: peer.map(|peer| peer.1.into()),
                ..SocketRow::default()
            });
        }
        let sockets = Rows::unbounded(&sockets::TABLE, vec![batch(&sockets::TABLE, block)]);
        Sockets::new(&sockets, &Rows::unbounded(&processes::TABLE, Vec::new()), |_| 0)
    }

    fn told_by_the_cluster() -> Cluster {
        let pod = |name: &str, ip: &str| {
            let (uid, name, ips) = (name.to_owned(), name.to_owned(), vec![ip.to_owned()]);
            Fact::Pod(Pod { uid, name, ips, phase: "Running".into(), ..Pod::default() })
        };
        let service = |name: &str, at: (&str, u16)| {
            let ports = vec![Port { port: at.1, protocol: "TCP".into(), ..Port::default() }];
            let (uid, cluster_ips) = (name.to_owned(), vec![at.0.to_owned()]);
            Fact::Service(Service { uid, name: name.into(), cluster_ips, ports, ..Service::default() })
        };
        let slice = |name: &str, at: (&str, u16)| {
            let ports = vec![Port { port: at.1, protocol: "TCP".into(), ..Port::default() }];
            let addresses = vec![at.0.to_owned()];
            let endpoints =
                vec![identity::Endpoint { addresses, ready: Some(true), ..identity::Endpoint::default() }];
            let (uid, service) = (format!("{name}-1"), Some(name.to_owned()));
            Fact::EndpointSlice(EndpointSlice { uid, service, ports, endpoints, ..EndpointSlice::default() })
        };
        let facts = [
            pod("client", CLIENT.0),
            pod("coredns", COREDNS.0),
            pod("payment", BACKEND.0),
            service("names", NAMES),
            service("pay", PAYMENT),
            slice("names", COREDNS),
            slice("pay", BACKEND),
        ];
        let said = |fact| {
            let header = LogHeader {
                log: "sharkrec".into(),
                format: 1,
                node: "n".into(),
                cluster: String::new(),
                writer: "witness".into(),
                started_ns: 0,
            };
            (header, Record { ts_ns: 1, after_ns: None, fact })
        };
        Cluster::new(&History::new(&facts.map(said)))
    }

    /// Pod, service and the other address of the destination of a conversation.
    fn answering(
        of: &Identities,
        dst: (&str, u16),
        at_ms: i64,
    ) -> (Option<String>, Option<String>, Option<String>) {
        let place = |(ip, port): (&str, u16)| (ip.parse().expect("an address"), port);
        let site = Site { node: of.sockets.node(Some("n")), cluster: 0 };
        let (src, dst) = (place(CLIENT), place(dst));
        let parties = of.parties(&Talk { site, protocol: 6, src, dst, start_ns: at_ms * MS, end_ns: None });
        let text = |text: Option<&str>| text.map(str::to_owned);
        (text(parties.dst.pod_uid), text(parties.dst.service), parties.nat.map(|(ip, _)| ip.to_string()))
    }

    fn some(pod: &str, service: &str, nat: &str) -> (Option<String>, Option<String>, Option<String>) {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        (text(pod), text(service), text(nat))
    }

    #[test]
    fn a_port_that_is_used_again_at_once_leads_where_it_led() {
        let of = Identities {
            sockets: told_by_sockets(false),
            cluster: told_by_the_cluster(),
            ..Identities::default()
        };
        assert_eq!(answering(&of, NAMES, 1_000), some("coredns", "names", COREDNS.0));
        assert_eq!(answering(&of, COREDNS, 1_000), some("coredns", "names", NAMES.0));
        assert_eq!(answering(&of, PAYMENT, 1_002), some("payment", "pay", BACKEND.0));
        assert_eq!(answering(&of, BACKEND, 1_002), some("payment", "pay", PAYMENT.0));
    }

    #[test]
    fn what_was_refused_was_not_answered_by_who_was_asked_before() {
        let of = Identities {
            sockets: told_by_sockets(true),
            cluster: told_by_the_cluster(),
            ..Identities::default()
        };
        assert_eq!(answering(&of, COREDNS, 1_000), some("coredns", "names", NAMES.0));
        assert_eq!(answering(&of, BACKEND, 1_002), some("payment", "pay", PAYMENT.0));
        assert_eq!(answering(&of, PAYMENT, 1_002), some("payment", "pay", BACKEND.0));
    }

    #[test]
    fn without_a_cluster_nobody_is_named_where_two_could_be_meant() {
        for is_refused in [false, true] {
            let of = Identities { sockets: told_by_sockets(is_refused), ..Identities::default() };
            assert_eq!(answering(&of, NAMES, 1_000), some("", "", ""));
            assert_eq!(answering(&of, PAYMENT, 1_002), some("", "", ""));
            assert_eq!(answering(&of, COREDNS, 1_000), some("coredns", "", ""));
            assert_eq!(answering(&of, BACKEND, 1_002), some(if is_refused { "" } else { "payment" }, "", ""));
        }
    }
}
