"""Sends TCP segments with payload and made-up numbers from made-up addresses to a VIP for a while; writes how many."""

import random
import socket
import struct
import sys
import time

vip, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
random.seed(1)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)


def forged():
    payload = b"GET /a/1KB HTTP/1.1\r\nHost: a\r\n\r\n"
    source = bytes([10, 77, random.randrange(1, 255), random.randrange(1, 255)])
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(payload), 0, 0x4000, 64, 6, 0) + source + socket.inet_aton(vip)
    numbers = random.randrange(1 << 32), random.randrange(1 << 32)
    tcp = struct.pack("!HHIIBBHHH", random.randrange(1024, 65536), port, *numbers, 0x50, 0x18, 500, 0, 0)
    return ip + tcp + payload


packets = [forged() for _ in range(4000)]
sent, end = 0, time.monotonic() + seconds
while time.monotonic() < end:
    for packet in packets[:500]:
        try:
            raw.sendto(packet, (vip, 0))
            sent += 1
        except OSError:
            time.sleep(0.001)
    packets = packets[500:] + packets[:500]
print(sent)
