"""Sends UDP packets that carry their number, and writes down when each was sent.

usage: send.py TO_IP RATE SIZE LOG [CLOCK]; ends when its standard input does. The file CLOCK says by how many
seconds the clock is ahead: packets are sent at the time that it then shows, and the kernel stamps them with
that (SO_TXTIME). Each time that it is set, a conversation begins.
"""
import os, select, socket, struct, sys, time

to, rate, size, log = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), open(sys.argv[4], "w")
clock, ahead = sys.argv[5] if len(sys.argv) > 5 else None, 0
SO_TXTIME, CLOCK_REALTIME = 61, 0


def opened():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if clock:
        sock.setsockopt(socket.SOL_SOCKET, SO_TXTIME, struct.pack("II", CLOCK_REALTIME, 0))
    return sock


sock = opened()
pad = os.urandom(size)
number, due = 0, time.monotonic()
while not select.select([sys.stdin], [], [], max(0, due - time.monotonic()))[0]:
    stamp = time.time_ns()
    at = []
    if clock:
        before, ahead = ahead, int(open(clock).read())
        if ahead != before:
            sock = opened()
        stamp += ahead * 10**9
        at = [(socket.SOL_SOCKET, SO_TXTIME, struct.pack("Q", stamp))]
    sock.sendmsg([number.to_bytes(8, "big") + pad], at, 0, (to, 4000))
    log.write(f"{stamp}\n")
    number, due = number + 1, due + 1 / rate
log.close()
