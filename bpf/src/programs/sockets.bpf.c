// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// The life of TCP and UDP sockets, and whose they are. In: tracepoints of the kernel, and all open files of all processes when
// asked. Out: one event a change that matters, in a ring; events that found it full are counted.
// A TCP state also changes in interrupts, where the current process is anybody: it is named only where it must be the owner.
#include "kernel.h"

enum kind {
    CONNECTING = 1, // by the current process
    CONNECTED,
    FAILED, // never was connected
    ACCEPTED,
    LISTENING, // by the current process
    CLOSING, // by the current process
    CLOSED,
    SENT, // first datagram to this peer, by the current process
    RELEASED, // by the current process
    OPEN, // found in the files of a process
    OWNED, // accepted, and used for the first time by the current process
    BOUND, // a datagram socket, by the current process
};

struct event {
    __u64 at_ns; // CLOCK_BOOTTIME
    __u64 cookie;
    __u64 cgroup_id;
    __u64 process_start_ns; // CLOCK_BOOTTIME
    __u64 sent_bytes;
    __u64 received_bytes;
    __u32 netns;
    __u32 pid; // 0 where the current process may be anybody
    __u32 srtt_us;
    __u32 retransmits;
    __u32 error;
    __u16 family;
    __u16 local_port;
    __u16 peer_port;
    __u8 protocol;
    __u8 kind;
    __u8 state;
    __u8 unused[3];
    __u8 local[16];
    __u8 peer[16];
    char comm[16];
};

struct {
    UINT(type, BPF_MAP_TYPE_RINGBUF);
    UINT(max_entries, 4 << 20);
} events SEC(".maps");

// Cookie of a UDP socket -> to whom it sent last.
struct {
    UINT(type, BPF_MAP_TYPE_LRU_HASH);
    UINT(max_entries, 16384);
    __u64 *key;
    __u64 *value;
} senders SEC(".maps");

// Cookies of TCP sockets that were accepted and not used yet -> anything.
struct {
    UINT(type, BPF_MAP_TYPE_LRU_HASH);
    UINT(max_entries, 16384);
    __u64 *key;
    __u8 *value;
} accepted SEC(".maps");

INLINE int is_inet(struct sock *sk)
{
    __u16 family = sk->__sk_common.skc_family;
    return family == AF_INET || family == AF_INET6;
}

INLINE void describe(struct event *event, struct sock *sk, int kind)
{
    __builtin_memset(event, 0, sizeof(*event));
    event->at_ns = bpf_ktime_get_boot_ns();
    event->kind = kind;
    event->state = sk->__sk_common.skc_state;
    event->protocol = sk->sk_protocol;
    event->family = sk->__sk_common.skc_family;
    event->local_port = sk->__sk_common.skc_num;
    // Given back already when a socket closes; the copy for headers stays.
    if (!event->local_port)
        event->local_port = __builtin_bswap16(READ((struct inet_sock *)sk, inet_sport));
    event->peer_port = __builtin_bswap16(sk->__sk_common.skc_dport);
    event->netns = sk->__sk_common.skc_net.net->ns.inum;
    if (event->family == AF_INET) {
        *(__u32 *)event->local = sk->__sk_common.skc_rcv_saddr;
        *(__u32 *)event->peer = sk->__sk_common.skc_daddr;
    } else {
        bpf_probe_read_kernel(event->local, 16, __builtin_preserve_access_index(&sk->__sk_common.skc_v6_rcv_saddr));
        bpf_probe_read_kernel(event->peer, 16, __builtin_preserve_access_index(&sk->__sk_common.skc_v6_daddr));
    }
    if (EXISTS(sk->sk_cgrp_data.cgroup)) {
        struct cgroup *cgroup = READ(sk, sk_cgrp_data.cgroup);
        struct kernfs_node *node = READ(cgroup, kn);
        event->cgroup_id = READ(node, id);
    }
}

INLINE void measure(struct event *event, struct sock *sk)
{
    struct tcp_sock *tcp = (struct tcp_sock *)sk;
    event->sent_bytes = READ(tcp, bytes_sent) - READ(tcp, bytes_retrans);
    // The kernel counts the FIN as a byte.
    event->received_bytes = READ(tcp, bytes_received) - (sk->__sk_common.skc_flags >> SOCK_DONE & 1);
    event->srtt_us = READ(tcp, srtt_us) >> 3;
    event->retransmits = READ(tcp, total_retrans);
}

INLINE void name_current(struct event *event)
{
    struct task_struct *task = bpf_get_current_task_btf();
    event->pid = bpf_get_current_pid_tgid() >> 32;
    event->process_start_ns = task->group_leader->start_boottime;
    bpf_probe_read_kernel(event->comm, sizeof(event->comm), __builtin_preserve_access_index(&task->group_leader->comm));
}

// include/net/tcp_states.h; tcp_close_state() alone leads to FIN_WAIT1 and LAST_ACK: close, shutdown, exit.
INLINE int kind_of(int before, int now)
{
    switch (now) {
    case TCP_SYN_SENT:
        return CONNECTING;
    case TCP_ESTABLISHED:
        return before == TCP_SYN_SENT ? CONNECTED : ACCEPTED;
    case TCP_LISTEN:
        return LISTENING;
    case TCP_FIN_WAIT1:
    case TCP_LAST_ACK:
        return CLOSING;
    case TCP_CLOSE:
        return before == TCP_SYN_SENT ? FAILED : CLOSED;
    default:
        return 0;
    }
}

// void (const struct sock *sk, const int oldstate, const int newstate)
SEC("tp_btf/inet_sock_set_state")
int state_changed(__u64 *ctx)
{
    struct sock *sk = (struct sock *)ctx[0];
    int before = ctx[1], now = ctx[2];
    int kind = kind_of(before, now);
    if (!kind || !is_inet(sk) || sk->sk_protocol != IPPROTO_TCP)
        return 0;
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event) {
        count_lost();
        return 0;
    }
    describe(event, sk, kind);
    event->cookie = bpf_get_socket_cookie(sk);
    event->state = now;
    if (kind == ACCEPTED) {
        // In an interrupt: who accepts it shows when that process uses it.
        __u8 one = 1;
        bpf_map_update_elem(&accepted, &event->cookie, &one, 0);
    }
    if (kind == CONNECTING || kind == LISTENING || kind == CLOSING)
        name_current(event);
    if (kind == CLOSING || kind == CLOSED)
        measure(event, sk);
    if (kind == FAILED || kind == CLOSED)
        event->error = sk->sk_err;
    bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
    return 0;
}

// The first time that a process uses what it accepted; a lookup for every other use.
INLINE int used(struct sock *sk)
{
    if (sk->sk_protocol != IPPROTO_TCP || !is_inet(sk))
        return 0;
    __u64 cookie = bpf_get_socket_cookie(sk);
    if (!bpf_map_lookup_elem(&accepted, &cookie) || bpf_map_delete_elem(&accepted, &cookie))
        return 0;
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event) {
        count_lost();
        return 0;
    }
    describe(event, sk, OWNED);
    event->cookie = cookie;
    name_current(event);
    bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
    return 0;
}

// void (struct sock *sk, int ret, int flags), since Linux 6.3
SEC("tp_btf/sock_recv_length")
int received(__u64 *ctx)
{
    return used((struct sock *)ctx[0]);
}

// void (struct sock *sk, int ret, int flags), since Linux 6.3
SEC("tp_btf/sock_send_length")
int datagram_sent(__u64 *ctx)
{
    struct sock *sk = (struct sock *)ctx[0];
    if (sk->sk_protocol == IPPROTO_TCP)
        return used(sk);
    if (sk->sk_protocol != IPPROTO_UDP || !is_inet(sk))
        return 0;
    __u64 cookie = bpf_get_socket_cookie(sk);
    __u64 peer = (__u64)sk->__sk_common.skc_daddr << 32 | (__u32)sk->__sk_common.skc_dport << 16 | sk->__sk_common.skc_num;
    __u64 *last = bpf_map_lookup_elem(&senders, &cookie);
    if (last && *last == peer)
        return 0;
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event) {
        count_lost();
        return 0;
    }
    bpf_map_update_elem(&senders, &cookie, &peer, 0);
    describe(event, sk, SENT);
    event->cookie = cookie;
    name_current(event);
    bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
    return 0;
}

// The head of struct bpf_sock (linux/bpf.h): its order is kernel ABI.
struct bpf_sock {
    __u32 bound_dev_if;
    __u32 family;
    __u32 type;
    __u32 protocol;
    __u32 mark;
    __u32 priority;
    __u32 src_ip4; // network byte order
    __u32 src_ip6[4];
    __u32 src_port; // host byte order
};

// A datagram socket may be sent to from now on, long before it sends. Its namespace is that of its process, but for a process that
// carries it into another.
INLINE struct event *bound(struct bpf_sock *ctx)
{
    if (ctx->protocol != IPPROTO_UDP)
        return 0;
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event) {
        count_lost();
        return 0;
    }
    __builtin_memset(event, 0, sizeof(*event));
    event->at_ns = bpf_ktime_get_boot_ns();
    event->kind = BOUND;
    event->protocol = IPPROTO_UDP;
    event->family = ctx->family;
    event->cookie = bpf_get_socket_cookie(ctx);
    event->local_port = ctx->src_port;
    name_current(event);
    struct task_struct *task = bpf_get_current_task_btf();
    struct nsproxy *spaces = READ(task, nsproxy);
    struct net *net = READ(spaces, net_ns);
    event->netns = READ(net, ns.inum);
    struct css_set *groups = READ(task, cgroups);
    struct cgroup *group = READ(groups, dfl_cgrp);
    struct kernfs_node *node = READ(group, kn);
    event->cgroup_id = READ(node, id);
    return event;
}

SEC("cgroup/post_bind4")
int bound4(struct bpf_sock *ctx)
{
    struct event *event = bound(ctx);
    if (event) {
        *(__u32 *)event->local = ctx->src_ip4;
        bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
    }
    return 1;
}

SEC("cgroup/post_bind6")
int bound6(struct bpf_sock *ctx)
{
    struct event *event = bound(ctx);
    if (event) {
        __u32 *local = (__u32 *)event->local;
        local[0] = ctx->src_ip6[0];
        local[1] = ctx->src_ip6[1];
        local[2] = ctx->src_ip6[2];
        local[3] = ctx->src_ip6[3];
        bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
    }
    return 1;
}

SEC("cgroup/sock_release")
int socket_released(struct bpf_sock *ctx)
{
    if (ctx->protocol != IPPROTO_UDP)
        return 1;
    __u64 cookie = bpf_get_socket_cookie(ctx);
    // One that never sent is told of by its process's files only.
    bpf_map_delete_elem(&senders, &cookie);
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event) {
        count_lost();
        return 1;
    }
    __builtin_memset(event, 0, sizeof(*event));
    event->at_ns = bpf_ktime_get_boot_ns();
    event->kind = RELEASED;
    event->protocol = IPPROTO_UDP;
    event->family = ctx->family;
    event->cookie = cookie;
    bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
    return 1;
}

SEC("iter/task_file")
int open_sockets(struct bpf_iter__task_file *ctx)
{
    struct task_struct *task = ctx->task;
    struct file *file = ctx->file;
    if (!task || !file)
        return 0;
    struct socket *socket = bpf_sock_from_file(file);
    if (!socket)
        return 0;
    struct sock *sk = socket->sk;
    if (!sk || !is_inet(sk) || (sk->sk_protocol != IPPROTO_TCP && sk->sk_protocol != IPPROTO_UDP))
        return 0;
    struct event event;
    describe(&event, sk, OPEN);
    event.cookie = bpf_get_socket_cookie(sk);
    event.pid = task->tgid;
    event.process_start_ns = task->group_leader->start_boottime;
    bpf_probe_read_kernel(event.comm, sizeof(event.comm), __builtin_preserve_access_index(&task->group_leader->comm));
    bpf_seq_write(ctx->meta->seq, &event, sizeof(event));
    return 0;
}

char _license[] SEC("license") = "GPL";
