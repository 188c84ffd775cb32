// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// One packet socket for all interfaces, which keeps the listed ones only, without the recorder's own uploads. In: a packet as a
// socket filter sees it, and the maps. Out: how many of its bytes are copied; 0 drops it before any copy.
// It includes no kernel or libbpf header, so that any clang builds it: what it needs of them is declared here.

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;

// The head of struct __sk_buff (linux/bpf.h): its order is kernel ABI, the verifier translates each access.
struct __sk_buff {
    __u32 len;
    __u32 pkt_type;
    __u32 mark;
    __u32 queue_mapping;
    __u32 protocol;
    __u32 vlan_present;
    __u32 vlan_tci;
    __u32 vlan_proto;
    __u32 priority;
    __u32 ingress_ifindex;
    __u32 ifindex;
};

// enum bpf_map_type (linux/bpf.h).
#define BPF_MAP_TYPE_HASH 1
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_LRU_HASH 9
// linux/bpf.h: enum bpf_hdr_start_off; linux/if_packet.h; linux/in.h; linux/if_ether.h in network order.
#define BPF_HDR_START_NET 1
#define PACKET_OUTGOING 4
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define ETH_P_IP __builtin_bswap16(0x0800)
#define ETH_P_IPV6 __builtin_bswap16(0x86dd)
// RFC 9293 3.1: the flags of a TCP header.
#define TCP_SYN 0x02
#define TCP_ACK 0x10

#define SEC(name) __attribute__((section(name), used))
#define UINT(name, value) int(*name)[value]

// enum bpf_func_id (linux/bpf.h).
static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static long (*bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static long (*bpf_skb_load_bytes_relative)(const void *skb, __u32 offset, void *to, __u32 len, __u32 start) = (void *)68;

struct listed {
    __u32 snaplen;
    // On loopback every packet passes twice; the outgoing copy is the one to leave out.
    __u32 incoming_only;
};

// ifindex -> what is kept of a packet; what is absent is dropped.
struct {
    UINT(type, BPF_MAP_TYPE_HASH);
    UINT(max_entries, 16384);
    __u32 *key;
    struct listed *value;
} interfaces SEC(".maps");

// A socket that its owner named. Its destination could not be compared: a packet socket gets a clone of the packet, which has no
// socket any more (skb_clone in net/core/skbuff.c), and in the packet the address of a service was replaced by a pod's.
struct own_socket {
    __u32 mark; // SO_MARK
    __u32 port; // its own, in network order
};

// Sockets whose packets are not to be recorded -> anything.
struct {
    UINT(type, BPF_MAP_TYPE_HASH);
    UINT(max_entries, 16384);
    struct own_socket *key;
    __u32 *value;
} own_sockets SEC(".maps");

// Both ends of a connection, the smaller first, so that both directions give the same.
struct ends {
    __u32 low[4];
    __u32 high[4];
    __u32 low_port;
    __u32 high_port;
};

// Connections on which marked packets were sent -> anything. The least recently used go first.
struct {
    UINT(type, BPF_MAP_TYPE_LRU_HASH);
    UINT(max_entries, 4096);
    struct ends *key;
    __u32 *value;
} own_connections SEC(".maps");

// Packets left out because they are our own.
struct {
    UINT(type, BPF_MAP_TYPE_ARRAY);
    UINT(max_entries, 1);
    __u32 *key;
    __u64 *value;
} left_out SEC(".maps");

static __attribute__((always_inline)) int is_greater(const __u32 *a, __u32 a_port, const __u32 *b, __u32 b_port)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (a[i] != b[i])
            return a[i] > b[i];
    return a_port > b_port;
}

static __attribute__((always_inline)) void set(__u32 *to, const __u32 *from)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        to[i] = from[i];
}

// The ends of a TCP or UDP packet, the port it comes from, and the flags of TCP; negative for any other packet.
static __attribute__((always_inline)) int ends_of(struct __sk_buff *skb, struct ends *ends, __u32 *source_port)
{
    __u32 source[4] = {}, target[4] = {};
    __u32 header;
    __u8 protocol;
    if (skb->protocol == ETH_P_IP) {
        __u8 fixed[20] __attribute__((aligned(8)));
        if (bpf_skb_load_bytes_relative(skb, 0, fixed, sizeof(fixed), BPF_HDR_START_NET))
            return -1;
        protocol = fixed[9];
        header = (fixed[0] & 15) * 4;
        source[0] = *(__u32 *)(fixed + 12);
        target[0] = *(__u32 *)(fixed + 16);
    } else if (skb->protocol == ETH_P_IPV6) {
        // Behind an extension header is no upload of ours: the kernel puts none there by itself.
        if (bpf_skb_load_bytes_relative(skb, 6, &protocol, 1, BPF_HDR_START_NET) ||
            bpf_skb_load_bytes_relative(skb, 8, source, 16, BPF_HDR_START_NET) ||
            bpf_skb_load_bytes_relative(skb, 24, target, 16, BPF_HDR_START_NET))
            return -1;
        header = 40;
    } else {
        return -1;
    }
    if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
        return -1;
    __u16 ports[2];
    __u8 flags = 0;
    if (bpf_skb_load_bytes_relative(skb, header, ports, sizeof(ports), BPF_HDR_START_NET) ||
        (protocol == IPPROTO_TCP && bpf_skb_load_bytes_relative(skb, header + 13, &flags, 1, BPF_HDR_START_NET)))
        return -1;
    int swap = is_greater(source, ports[0], target, ports[1]);
    set(ends->low, swap ? target : source);
    set(ends->high, swap ? source : target);
    ends->low_port = swap ? ports[1] : ports[0];
    ends->high_port = swap ? ports[0] : ports[1];
    *source_port = ports[0];
    return flags;
}

// A packet of a named socket is ours. So is any other of a connection that carried such ones: what comes back from the wire.
// A new connection between the same ends is somebody else's.
static __attribute__((always_inline)) int is_own(struct __sk_buff *skb)
{
    __u32 zero = 0, one = 1;
    __u64 *count = bpf_map_lookup_elem(&left_out, &zero);
    // Before the first marked packet there is nothing to look for in any other.
    if (!count || (!skb->mark && !*count))
        return 0;
    struct ends ends = {};
    struct own_socket from = { skb->mark, 0 };
    int flags = ends_of(skb, &ends, &from.port);
    if (flags < 0)
        return 0;
    int is_own;
    if (from.mark && bpf_map_lookup_elem(&own_sockets, &from)) {
        is_own = 1;
        if (!bpf_map_lookup_elem(&own_connections, &ends))
            bpf_map_update_elem(&own_connections, &ends, &one, 0);
    } else {
        is_own = bpf_map_lookup_elem(&own_connections, &ends) != 0;
        if (is_own && (flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
            bpf_map_delete_elem(&own_connections, &ends);
            is_own = 0;
        }
    }
    if (is_own)
        __sync_fetch_and_add(count, 1);
    return is_own;
}

SEC("socket")
int any_socket(struct __sk_buff *skb)
{
    __u32 ifindex = skb->ifindex;
    struct listed *listed = bpf_map_lookup_elem(&interfaces, &ifindex);
    if (!listed || (listed->incoming_only && skb->pkt_type == PACKET_OUTGOING))
        return 0;
    return is_own(skb) ? 0 : listed->snaplen;
}

char _license[] SEC("license") = "GPL";
