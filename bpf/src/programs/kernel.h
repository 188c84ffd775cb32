// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// What the programs need of the kernel's types and helpers, instead of its headers. In: nothing. Out: declarations only.
// The structs name fields and leave out the rest: CO-RE finds where each lies in the kernel that runs.
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef int __s32;

#define SEC(name) __attribute__((section(name), used))
#define UINT(name, value) int(*name)[value]
#define INLINE static __attribute__((always_inline))
#define CORE __attribute__((preserve_access_index))

// linux/socket.h, linux/in.h, net/tcp_states.h
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
enum { TCP_ESTABLISHED = 1, TCP_SYN_SENT, TCP_SYN_RECV, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_TIME_WAIT, TCP_CLOSE,
       TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_LISTEN };

// enum sock_flags (net/sock.h): the other side has sent its FIN.
#define SOCK_DONE 1

// enum bpf_map_type (linux/bpf.h)
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_LRU_HASH 9
#define BPF_MAP_TYPE_RINGBUF 27
#define BPF_RB_NO_WAKEUP 1

struct ns_common { __u32 inum; } CORE;
struct net { struct ns_common ns; } CORE;
struct nsproxy { struct net *net_ns; } CORE;
typedef struct { struct net *net; } possible_net_t;
struct in6_addr { union { __u32 u6_addr32[4]; } in6_u; } CORE;
struct sock_common {
    __u32 skc_daddr, skc_rcv_saddr;
    __u16 skc_dport, skc_num, skc_family;
    volatile __u8 skc_state;
    unsigned long skc_flags;
    possible_net_t skc_net;
    struct in6_addr skc_v6_daddr, skc_v6_rcv_saddr;
} CORE;
struct kernfs_node { __u64 id; } CORE;
struct cgroup { struct kernfs_node *kn; } CORE;
struct sock_cgroup_data { struct cgroup *cgroup; } CORE;
struct sock {
    struct sock_common __sk_common;
    __u16 sk_protocol;
    int sk_err;
    struct sock_cgroup_data sk_cgrp_data;
} CORE;
struct inet_sock { __u16 inet_sport; } CORE;
struct tcp_sock { __u64 bytes_sent, bytes_retrans, bytes_received; __u32 srtt_us, total_retrans; } CORE;
struct socket { struct sock *sk; } CORE;
struct file { void *private_data; } CORE;
struct css_set { struct cgroup *dfl_cgrp; } CORE;
struct cred { struct { __u32 val; } uid; } CORE;
struct mm_struct { unsigned long arg_start, arg_end; } CORE;
struct signal_struct { struct { int counter; } live; int group_exit_code; } CORE;
struct task_struct {
    int pid, tgid, exit_code;
    __u64 start_boottime;
    struct task_struct *group_leader, *real_parent;
    struct css_set *cgroups;
    struct cred *cred;
    struct mm_struct *mm;
    struct signal_struct *signal;
    struct nsproxy *nsproxy;
    char comm[16];
} CORE;
struct linux_binprm { const char *filename; } CORE;
struct seq_file;
struct bpf_iter_meta { struct seq_file *seq; } CORE;
struct bpf_iter__task_file {
    struct bpf_iter_meta *meta;
    struct task_struct *task;
    __u32 fd;
    struct file *file;
} CORE;

// enum bpf_func_id (linux/bpf.h)
static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static long (*bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static __u64 (*bpf_get_current_pid_tgid)(void) = (void *)14;
static long (*bpf_get_current_comm)(void *to, __u32 size) = (void *)16;
static __u64 (*bpf_get_socket_cookie)(void *sk) = (void *)46;
static long (*bpf_probe_read_user)(void *to, __u32 size, const void *from) = (void *)112;
static long (*bpf_probe_read_kernel)(void *to, __u32 size, const void *from) = (void *)113;
static long (*bpf_probe_read_kernel_str)(void *to, __u32 size, const void *from) = (void *)115;
static __u64 (*bpf_ktime_get_boot_ns)(void) = (void *)125;
static long (*bpf_seq_write)(struct seq_file *seq, const void *data, __u32 length) = (void *)127;
static void *(*bpf_ringbuf_reserve)(void *ring, __u64 size, __u64 flags) = (void *)131;
static void (*bpf_ringbuf_submit)(void *data, __u64 flags) = (void *)132;
static void (*bpf_ringbuf_discard)(void *data, __u64 flags) = (void *)133;
static struct task_struct *(*bpf_get_current_task_btf)(void) = (void *)158;
static struct socket *(*bpf_sock_from_file)(struct file *file) = (void *)162;
static long (*bpf_loop)(__u32 times, void *each, void *with, __u64 flags) = (void *)181;

// Reads a field of a struct whose pointer the verifier does not vouch for; 0 where it cannot be read.
#define READ(from, field)                                                                                                      \
    ({                                                                                                                         \
        __typeof__((from)->field) value_ = 0;                                                                                  \
        bpf_probe_read_kernel(&value_, sizeof(value_), __builtin_preserve_access_index(&(from)->field));                        \
        value_;                                                                                                                \
    })
// bpf_core_read.h: BPF_FIELD_EXISTS
#define EXISTS(field) __builtin_preserve_field_info(field, 2)

// Events that found the ring full.
struct {
    UINT(type, BPF_MAP_TYPE_ARRAY);
    UINT(max_entries, 1);
    __u32 *key;
    __u64 *value;
} lost SEC(".maps");

INLINE void count_lost(void)
{
    __u32 zero = 0;
    __u64 *count = bpf_map_lookup_elem(&lost, &zero);
    if (count)
        __sync_fetch_and_add(count, 1);
}
