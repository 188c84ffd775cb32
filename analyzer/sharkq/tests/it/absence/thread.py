"""Stops, or ends, one thread of a process, as no program would do it to itself (ptrace(2), x86-64).

usage: thread.py PID NAME end          the thread executes exit(2)
       thread.py PID NAME stop SECONDS the thread stands still so long
"""
import ctypes, os, sys, time

ATTACH, DETACH, GETREGS, SETREGS = 16, 17, 12, 13
SYS_EXIT = 60
pid, name, what = int(sys.argv[1]), sys.argv[2], sys.argv[3]
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request, tid, data=None):
    if libc.ptrace(request, tid, None, data) == -1:
        raise OSError(ctypes.get_errno(), f"ptrace {request}")


class Registers(ctypes.Structure):
    """struct user_regs_struct of sys/user.h."""

    _fields_ = [(n, ctypes.c_ulonglong) for n in (
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss "
        "fs_base gs_base ds es fs gs").split()]


tids = [int(t) for t in os.listdir(f"/proc/{pid}/task")
        if open(f"/proc/{pid}/task/{t}/comm").read().strip() == name]
assert len(tids) == 1, f"{name}: {tids}"
tid = tids[0]
ptrace(ATTACH, tid)
os.waitpid(tid, 0x40000000)  # __WALL
if what == "stop":
    time.sleep(float(sys.argv[4]))
    # The process may have ended meanwhile, and the thread with it.
    sys.exit()
else:
    registers = Registers()
    ptrace(GETREGS, tid, ctypes.byref(registers))
    # It waits in a system call: the instruction before is `syscall`, two bytes long.
    registers.rip, registers.rax, registers.rdi, registers.orig_rax = registers.rip - 2, SYS_EXIT, 0, 2**64 - 1
    ptrace(SETREGS, tid, ctypes.byref(registers))
ptrace(DETACH, tid)
