// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// One packet socket for all interfaces, which keeps the listed ones only. In: a packet as a socket filter sees it, and the two
// maps. Out: how many of its bytes are copied; 0 drops it before any copy.
// It includes no kernel or libbpf header, so that any clang builds it: what it needs of them is declared here.

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

// enum bpf_map_type and BPF_F_NO_PREALLOC (linux/bpf.h).
#define BPF_MAP_TYPE_HASH 1

#define SEC(name) __attribute__((section(name), used))
#define UINT(name, value) int(*name)[value]

// enum bpf_func_id 1 (linux/bpf.h).
static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;

// ifindex -> bytes kept of a packet; what is absent is dropped.
struct {
    UINT(type, BPF_MAP_TYPE_HASH);
    UINT(max_entries, 16384);
    __u32 *key;
    __u32 *value;
} interfaces SEC(".maps");

// Marks (SO_MARK) of sockets whose packets are not to be recorded -> anything.
struct {
    UINT(type, BPF_MAP_TYPE_HASH);
    UINT(max_entries, 64);
    __u32 *key;
    __u32 *value;
} own_marks SEC(".maps");

SEC("socket")
int any_socket(struct __sk_buff *skb)
{
    __u32 ifindex = skb->ifindex;
    __u32 *snaplen = bpf_map_lookup_elem(&interfaces, &ifindex);
    if (!snaplen)
        return 0;
    __u32 mark = skb->mark;
    if (mark && bpf_map_lookup_elem(&own_marks, &mark))
        return 0;
    return *snaplen;
}

char _license[] SEC("license") = "GPL";
