"""Sends UDP packets that carry their number, and writes down when each was sent.

usage: send.py TO_IP RATE SIZE LOG; ends when its standard input does
"""
import os, select, socket, sys, time

to, rate, size, log = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), open(sys.argv[4], "w")
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
pad = os.urandom(size)
number, due = 0, time.monotonic()
while not select.select([sys.stdin], [], [], max(0, due - time.monotonic()))[0]:
    stamp = time.time_ns()
    sock.sendto(number.to_bytes(8, "big") + pad, (to, 4000))
    log.write(f"{stamp}\n")
    number, due = number + 1, due + 1 / rate
log.close()
