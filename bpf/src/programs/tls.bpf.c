// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// What passes through SSL_read and SSL_write of OpenSSL. In: uprobes on the library, tracepoints of sockets. Out: the bytes, with their
// place in their direction and the connection on which the library sent or received while it was called. A call that touches no
// socket, and whose session never did, has no connection: it is counted by process and not guessed.
//
// Programs of uprobes can be preempted. From Linux 6.13 on a function that uses 64 bytes of stack or more (BPF_PRIV_STACK_MIN_SIZE in
// kernel/bpf/verifier.c) gets a stack that all tasks of a CPU share, which preemption corrupts. So every function here uses less, and
// what is larger lies in the thread's own entry of the map `calls`. tests/stack.rs holds every object to it.
#include "kernel.h"

enum kind { SENT = 1, RECEIVED, ENDED_HERE, ENDED_THERE };
enum function { READ_FUNCTION = 1, READ_EX, WRITE_FUNCTION, WRITE_EX, HANDSHAKE };
enum count { LOST_BYTES, CUT_CALLS, CUT_BYTES, UNPLACED_CALLS, COUNTS };

// Flags of an event.
#define BEGUN 1 // offsets count from the first byte of the connection
#define FIRST 2 // nothing passed before it in either direction
#define CLIENT 4 // the handshake began with a send (RFC 8446, section 2)

#define SHORT_BYTES 512
#define CHUNK_BYTES 8192
// More than this many chunks in one call are cut: the rest is a gap.
#define MOST_CHUNKS 32

struct connection {
    __u64 cookie;
    __u64 since_ns; // CLOCK_BOOTTIME; tells sessions on one socket apart
    __u32 netns;
    __u16 family;
    __u16 local_port;
    __u16 peer_port;
    __u8 unused[6];
    __u8 local[16];
    __u8 peer[16];
};

struct event {
    __u64 at_ns; // CLOCK_BOOTTIME: a write when it began, a read when it returned
    __u64 offset; // of these bytes in their direction
    __u64 other; // bytes of the other direction until then
    __u32 pid;
    __u32 bytes;
    __u8 kind;
    __u8 flags;
    __u8 unused[6];
    struct connection connection;
};

struct short_event {
    struct event event;
    __u8 data[SHORT_BYTES];
};

struct long_event {
    struct event event;
    __u8 data[CHUNK_BYTES];
};

struct session {
    struct connection connection; // cookie 0: no socket yet
    __u64 sent;
    __u64 received;
    __u8 flags;
    __u8 ended;
    __u8 unused[6];
};

// A process that ends frees nothing, and its number and addresses come again.
struct session_key {
    __u64 ssl;
    __u64 pid;
    __u64 process_start_ns;
};

// A process whose calls have no connection.
struct process_key {
    __u64 pid;
    __u64 start_ns; // CLOCK_BOOTTIME
};

struct unplaced {
    __u64 calls;
    char comm[16];
};

// A thread, and what its calls are worked out in.
struct call {
    __u64 ssl;
    __u64 buffer;
    __u64 count_at; // where the _ex functions put how much it was
    __u64 stack;
    __u64 at_ns;
    __u64 function; // 0: it is in none
    __u64 total; // bytes that the call sent or received
    struct session_key key;
    struct process_key process;
    struct session session; // a new one, before it is in its map
    struct unplaced unplaced;
    // What is left to send of the call.
    struct event event;
    __u64 from;
    __u64 bytes;
};

struct {
    UINT(type, BPF_MAP_TYPE_RINGBUF);
    UINT(max_entries, 16 << 20);
} events SEC(".maps");

struct {
    UINT(type, BPF_MAP_TYPE_LRU_HASH);
    UINT(max_entries, 65536);
    struct session_key *key;
    struct session *value;
} sessions SEC(".maps");

// By thread.
struct {
    UINT(type, BPF_MAP_TYPE_LRU_HASH);
    UINT(max_entries, 16384);
    __u64 *key;
    struct call *value;
} calls SEC(".maps");

// Zeros, from which the entry of a thread is made: the stack has no room for one.
struct {
    UINT(type, BPF_MAP_TYPE_ARRAY);
    UINT(max_entries, 1);
    __u32 *key;
    struct call *value;
} blank SEC(".maps");

struct {
    UINT(type, BPF_MAP_TYPE_LRU_HASH);
    UINT(max_entries, 1024);
    struct process_key *key;
    struct unplaced *value;
} unplaced SEC(".maps");

// A process that uses TCP, and since when: what it did before its library was watched is missing.
struct talker {
    __u64 first_ns;
    __u64 process_start_ns;
};

struct {
    UINT(type, BPF_MAP_TYPE_LRU_HASH);
    UINT(max_entries, 65536);
    __u32 *key;
    struct talker *value;
} talkers SEC(".maps");

struct {
    UINT(type, BPF_MAP_TYPE_ARRAY);
    UINT(max_entries, COUNTS);
    __u32 *key;
    __u64 *value;
} counts SEC(".maps");

// Set by the loader; the verifier does not look at the branch that is not taken.
volatile const __u8 is_arm64 = 0;

// Written out, since the verifier lets nobody compute with the address of the registers.
#define REGISTER(registers, number)                                                                                            \
    ({                                                                                                                         \
        __u64 value_;                                                                                                          \
        asm volatile("%0 = *(u64 *)(%1 + %2)" : "=r"(value_) : "r"(registers), "i"((number) * 8));                             \
        value_;                                                                                                                \
    })

// Places in struct pt_regs (arch/x86/include/uapi/asm/ptrace.h) and struct user_pt_regs (arch/arm64/include/uapi/asm/ptrace.h).
#define PLACE(registers, x86, arm64) (is_arm64 ? REGISTER(registers, arm64) : REGISTER(registers, x86))
#define FIRST_ARGUMENT(registers) PLACE(registers, 14, 0)
#define SECOND_ARGUMENT(registers) PLACE(registers, 13, 1)
#define FOURTH_ARGUMENT(registers) PLACE(registers, 11, 3)
#define RESULT(registers) PLACE(registers, 10, 0)
#define STACK(registers) PLACE(registers, 19, 31)

INLINE void count(__u32 which, __u64 more)
{
    __u64 *total = bpf_map_lookup_elem(&counts, &which);
    if (total)
        __sync_fetch_and_add(total, more);
}

// Into memory of the caller: the verifier allows no results of this size.
INLINE void set_key(struct session_key *key, __u64 ssl)
{
    struct task_struct *task = bpf_get_current_task_btf();
    key->ssl = ssl;
    key->pid = bpf_get_current_pid_tgid() >> 32;
    key->process_start_ns = task->group_leader->start_boottime;
}

// The entry of this thread.
INLINE struct call *own_entry(void)
{
    __u64 thread = bpf_get_current_pid_tgid();
    struct call *call = bpf_map_lookup_elem(&calls, &thread);
    if (call)
        return call;
    __u32 zero = 0;
    struct call *zeros = bpf_map_lookup_elem(&blank, &zero);
    if (!zeros)
        return 0;
    bpf_map_update_elem(&calls, &thread, zeros, 0);
    return bpf_map_lookup_elem(&calls, &thread);
}

INLINE int enter(__u64 *registers, int function)
{
    struct call *call = own_entry();
    if (!call)
        return 0;
    __u64 stack = STACK(registers);
    // TLS within TLS: what the application itself said is of the outer call. One that never returned lies deeper, not higher.
    if (call->function && stack < call->stack)
        return 0;
    call->ssl = FIRST_ARGUMENT(registers);
    call->buffer = SECOND_ARGUMENT(registers);
    call->count_at = FOURTH_ARGUMENT(registers);
    call->stack = stack;
    call->at_ns = bpf_ktime_get_boot_ns();
    call->function = function;
    set_key(&call->key, call->ssl);
    if (function == HANDSHAKE && !bpf_map_lookup_elem(&sessions, &call->key)) {
        __builtin_memset(&call->session, 0, sizeof(call->session));
        call->session.flags = BEGUN;
        call->session.connection.since_ns = call->at_ns;
        bpf_map_update_elem(&sessions, &call->key, &call->session, 0);
    }
    return 0;
}

SEC("uprobe/read_entered")
int read_entered(__u64 *registers)
{
    return enter(registers, READ_FUNCTION);
}

SEC("uprobe/read_ex_entered")
int read_ex_entered(__u64 *registers)
{
    return enter(registers, READ_EX);
}

SEC("uprobe/write_entered")
int write_entered(__u64 *registers)
{
    return enter(registers, WRITE_FUNCTION);
}

SEC("uprobe/write_ex_entered")
int write_ex_entered(__u64 *registers)
{
    return enter(registers, WRITE_EX);
}

SEC("uprobe/handshake_entered")
int handshake_entered(__u64 *registers)
{
    return enter(registers, HANDSHAKE);
}

INLINE void describe(struct connection *connection, struct sock *sk, __u64 cookie)
{
    __builtin_memset(connection, 0, sizeof(*connection));
    connection->cookie = cookie;
    connection->since_ns = bpf_ktime_get_boot_ns();
    connection->family = sk->__sk_common.skc_family;
    connection->local_port = sk->__sk_common.skc_num;
    connection->peer_port = __builtin_bswap16(sk->__sk_common.skc_dport);
    connection->netns = sk->__sk_common.skc_net.net->ns.inum;
    if (connection->family == AF_INET) {
        *(__u32 *)connection->local = sk->__sk_common.skc_rcv_saddr;
        *(__u32 *)connection->peer = sk->__sk_common.skc_daddr;
    } else {
        bpf_probe_read_kernel(connection->local, 16, __builtin_preserve_access_index(&sk->__sk_common.skc_v6_rcv_saddr));
        bpf_probe_read_kernel(connection->peer, 16, __builtin_preserve_access_index(&sk->__sk_common.skc_v6_daddr));
    }
}

INLINE void note_talker(void)
{
    __u32 pid = bpf_get_current_pid_tgid() >> 32;
    struct task_struct *task = bpf_get_current_task_btf();
    struct talker talker = {.process_start_ns = task->group_leader->start_boottime};
    struct talker *known = bpf_map_lookup_elem(&talkers, &pid);
    if (known && known->process_start_ns == talker.process_start_ns)
        return;
    talker.first_ns = bpf_ktime_get_boot_ns();
    bpf_map_update_elem(&talkers, &pid, &talker, 0);
}

// The socket that is touched within a call is that of its session.
INLINE int touch(struct sock *sk, int is_send)
{
    if (sk->sk_protocol != IPPROTO_TCP || !sk->__sk_common.skc_dport)
        return 0;
    note_talker();
    __u64 thread = bpf_get_current_pid_tgid();
    struct call *call = bpf_map_lookup_elem(&calls, &thread);
    if (!call || !call->function)
        return 0;
    __u16 family = sk->__sk_common.skc_family;
    if (family != AF_INET && family != AF_INET6)
        return 0;
    __u64 cookie = bpf_get_socket_cookie(sk);
    struct session *known = bpf_map_lookup_elem(&sessions, &call->key);
    if (known && known->connection.cookie == cookie)
        return 0;
    struct session *session = &call->session;
    __builtin_memset(session, 0, sizeof(*session));
    describe(&session->connection, sk, cookie);
    // Within a handshake nothing of the application has passed.
    if (call->function == HANDSHAKE && known)
        session->flags = known->flags & BEGUN;
    if (is_send && session->flags)
        session->flags |= CLIENT;
    bpf_map_update_elem(&sessions, &call->key, session, 0);
    return 0;
}

// void (struct sock *sk, int ret, int flags), since Linux 6.3, both
SEC("tp_btf/sock_send_length")
int socket_sent(__u64 *ctx)
{
    return touch((struct sock *)ctx[0], 1);
}

SEC("tp_btf/sock_recv_length")
int socket_received(__u64 *ctx)
{
    return touch((struct sock *)ctx[0], 0);
}

INLINE void fill(struct event *event, struct session *session, int kind)
{
    __builtin_memset(event, 0, sizeof(*event));
    event->kind = kind;
    event->flags = session->flags;
    event->pid = bpf_get_current_pid_tgid() >> 32;
    event->connection = session->connection;
}

// One chunk; 0 where it was lost.
INLINE int chunk(struct event *like, __u64 from, __u64 length)
{
    void *record;
    long failed;
    if (length <= SHORT_BYTES) {
        struct short_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
        if (!event)
            return 0;
        event->event = *like;
        // The compiler must not show the verifier another register than the one that is bounded.
        asm volatile("" : "+r"(length));
        if (length > SHORT_BYTES)
            length = SHORT_BYTES;
        failed = bpf_probe_read_user(event->data, length, (void *)from);
        record = event;
    } else {
        struct long_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
        if (!event)
            return 0;
        event->event = *like;
        asm volatile("" : "+r"(length));
        if (length > CHUNK_BYTES)
            length = CHUNK_BYTES;
        failed = bpf_probe_read_user(event->data, length, (void *)from);
        record = event;
    }
    if (failed) {
        bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
        return 0;
    }
    bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
    return 1;
}

static long next_chunk(__u64 number, struct call **of)
{
    struct call *call = *of;
    __u64 length = call->bytes;
    if (length > CHUNK_BYTES)
        length = CHUNK_BYTES;
    call->event.bytes = length;
    if (!chunk(&call->event, call->from, length)) {
        count_lost();
        count(LOST_BYTES, length);
    }
    call->event.flags &= ~FIRST;
    call->event.offset += length;
    call->from += length;
    call->bytes -= length;
    return call->bytes == 0;
}

INLINE void tell(struct session *session, struct call *call, int kind)
{
    struct event *event = &call->event;
    fill(event, session, kind);
    event->at_ns = kind == SENT ? call->at_ns : bpf_ktime_get_boot_ns();
    event->offset = kind == SENT ? session->sent : session->received;
    event->other = kind == SENT ? session->received : session->sent;
    if (!session->sent && !session->received && session->flags & BEGUN)
        event->flags |= FIRST;
    call->from = call->buffer;
    call->bytes = call->total;
    bpf_loop(MOST_CHUNKS, next_chunk, &call, 0);
    if (call->bytes) {
        count(CUT_CALLS, 1);
        count(CUT_BYTES, call->bytes);
    }
    if (kind == SENT)
        session->sent += call->total;
    else
        session->received += call->total;
}

INLINE void tell_end(struct session *session, int kind)
{
    if (!session->connection.cookie || session->ended & kind)
        return;
    session->ended |= kind;
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event) {
        count_lost();
        return;
    }
    fill(event, session, kind);
    event->at_ns = bpf_ktime_get_boot_ns();
    event->offset = kind == ENDED_HERE ? session->sent : session->received;
    event->other = kind == ENDED_HERE ? session->received : session->sent;
    bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

INLINE void count_unplaced(struct call *call)
{
    count(UNPLACED_CALLS, 1);
    call->process.pid = call->key.pid;
    call->process.start_ns = call->key.process_start_ns;
    struct unplaced *known = bpf_map_lookup_elem(&unplaced, &call->process);
    if (known) {
        __sync_fetch_and_add(&known->calls, 1);
        return;
    }
    call->unplaced.calls = 1;
    bpf_get_current_comm(call->unplaced.comm, sizeof(call->unplaced.comm));
    bpf_map_update_elem(&unplaced, &call->process, &call->unplaced, 0);
}

INLINE void finish(struct call *call, __u64 function, int status)
{
    if (function == HANDSHAKE)
        return;
    int is_read = function == READ_FUNCTION || function == READ_EX;
    call->total = 0;
    if (function == READ_FUNCTION || function == WRITE_FUNCTION)
        call->total = status > 0 ? status : 0;
    else if (status == 1)
        bpf_probe_read_user(&call->total, sizeof(call->total), (void *)call->count_at);
    struct session *session = bpf_map_lookup_elem(&sessions, &call->key);
    if (call->total && (!session || !session->connection.cookie)) {
        count_unplaced(call);
    } else if (session && call->total) {
        tell(session, call, is_read ? RECEIVED : SENT);
    } else if (session && function == READ_FUNCTION && status == 0) {
        // SSL_read(3): the peer has closed.
        tell_end(session, ENDED_THERE);
    }
}

// Of all functions: the thread knows in which it is.
SEC("uretprobe/returned")
int returned(__u64 *registers)
{
    __u64 thread = bpf_get_current_pid_tgid();
    struct call *call = bpf_map_lookup_elem(&calls, &thread);
    // The stack is as before the call, or without the return address; of a nested call it is deeper.
    if (!call || !call->function || STACK(registers) - call->stack > sizeof(__u64))
        return 0;
    __u64 function = call->function;
    call->function = 0;
    finish(call, function, RESULT(registers));
    return 0;
}

// The address may be another session's next.
SEC("uprobe/freed")
int freed(__u64 *registers)
{
    struct session_key key;
    set_key(&key, FIRST_ARGUMENT(registers));
    struct session *session = bpf_map_lookup_elem(&sessions, &key);
    if (session) {
        tell_end(session, ENDED_HERE);
        bpf_map_delete_elem(&sessions, &key);
    }
    return 0;
}

char _license[] SEC("license") = "GPL";
