// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Processes that begin, become another program, and end. In: tracepoints of the scheduler. Out: one event each, in a ring;
// events that found it full are counted. Threads are no processes: they are left out.
#include "kernel.h"

enum kind { FORKED = 1, EXECUTED, EXITED };

#define EXE_BYTES 256
#define ARGS_BYTES 1024

struct event {
    __u64 at_ns; // CLOCK_BOOTTIME
    __u64 start_ns; // CLOCK_BOOTTIME
    __u64 cgroup_id;
    __u32 pid;
    __u32 parent;
    __u32 uid;
    __s32 exit_status; // as wait(2) gives it
    __u16 args_bytes;
    __u8 kind;
    __u8 unused;
    __u32 netns;
    char comm[16];
};

struct executed {
    struct event event;
    char exe[EXE_BYTES];
    char args[ARGS_BYTES];
};

struct {
    UINT(type, BPF_MAP_TYPE_RINGBUF);
    UINT(max_entries, 4 << 20);
} events SEC(".maps");

INLINE void describe(struct event *event, struct task_struct *task, int kind)
{
    __builtin_memset(event, 0, sizeof(*event));
    event->at_ns = bpf_ktime_get_boot_ns();
    event->kind = kind;
    event->start_ns = task->group_leader->start_boottime;
    event->pid = task->tgid;
    event->parent = task->real_parent->tgid;
    struct cred *cred = READ(task, cred);
    event->uid = READ(cred, uid.val);
    struct css_set *groups = READ(task, cgroups);
    struct cgroup *group = READ(groups, dfl_cgrp);
    struct kernfs_node *node = READ(group, kn);
    event->cgroup_id = READ(node, id);
    struct nsproxy *spaces = READ(task, nsproxy);
    struct net *net = READ(spaces, net_ns);
    event->netns = READ(net, ns.inum);
    bpf_probe_read_kernel(event->comm, sizeof(event->comm), __builtin_preserve_access_index(&task->comm));
}

INLINE void tell(struct task_struct *task, int kind)
{
    struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
    if (!event) {
        count_lost();
        return;
    }
    describe(event, task, kind);
    if (kind == EXITED) {
        struct signal_struct *signal = READ(task, signal);
        int status = READ(signal, group_exit_code);
        event->exit_status = status ? status : task->exit_code;
    }
    bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

// void (struct task_struct *parent, struct task_struct *child)
SEC("tp_btf/sched_process_fork")
int forked(__u64 *ctx)
{
    struct task_struct *child = (struct task_struct *)ctx[1];
    if (child->pid == child->tgid)
        tell(child, FORKED);
    return 0;
}

// void (struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)
SEC("tp_btf/sched_process_exec")
int executed(__u64 *ctx)
{
    struct task_struct *task = (struct task_struct *)ctx[0];
    struct linux_binprm *program = (struct linux_binprm *)ctx[2];
    struct executed *executed = bpf_ringbuf_reserve(&events, sizeof(*executed), 0);
    if (!executed) {
        count_lost();
        return 0;
    }
    describe(&executed->event, task, EXECUTED);
    executed->exe[0] = 0;
    const char *path = READ(program, filename);
    bpf_probe_read_kernel_str(executed->exe, EXE_BYTES, path);
    struct mm_struct *memory = READ(task, mm);
    unsigned long start = READ(memory, arg_start);
    __u64 length = READ(memory, arg_end) - start;
    if (length > ARGS_BYTES - 1)
        length = ARGS_BYTES - 1;
    // The compiler must not show the verifier another register than the one that was bounded.
    asm volatile("%0 &= 1023" : "+r"(length));
    if (bpf_probe_read_user(executed->args, length, (void *)start) == 0)
        executed->event.args_bytes = length;
    bpf_ringbuf_submit(executed, BPF_RB_NO_WAKEUP);
    return 0;
}

// void (struct task_struct *p); the last thread ends the process, whichever it is
SEC("tp_btf/sched_process_exit")
int exited(__u64 *ctx)
{
    struct task_struct *task = (struct task_struct *)ctx[0];
    struct signal_struct *signal = READ(task, signal);
    if (READ(signal, live.counter) == 0)
        tell(task, EXITED);
    return 0;
}

char _license[] SEC("license") = "GPL";
