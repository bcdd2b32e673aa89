"""Sends one SYN with an IEEE 802.1Q tag from eth0 and tells whether a SYN-ACK comes back within a second, and with which tag.

Not every kernel has VLAN interfaces, so the frame is made here.
"""

import fcntl
import random
import socket
import struct
import sys
import time

source, vip, gateway, tag = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
port = random.randrange(20000, 60000)


def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def with_sum(header, at, extra=b""):
    return header[:at] + struct.pack("!H", checksum(extra + header)) + header[at + 2 :]


own = fcntl.ioctl(socket.socket(), 0x8927, struct.pack("256s", b"eth0"))[18:24]
addresses = socket.inet_aton(source) + socket.inet_aton(vip)
tcp = struct.pack("!HHIIBBHHH4B", port, 80, 1000, 0, 0x60, 2, 64000, 0, 0, 2, 4, 5, 180)
tcp = with_sum(tcp, 16, addresses + struct.pack("!HH", 6, len(tcp)))
ip = with_sum(struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0) + addresses, 10)
link = bytes.fromhex(gateway.replace(":", "")) + own
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind(("eth0", 0))
wire.settimeout(0.1)
wire.send(link + struct.pack("!HHH", 0x8100, tag, 0x0800) + ip + tcp)
answered, end = False, time.monotonic() + 1
while not answered and time.monotonic() < end:
    try:
        frame = wire.recv(2048)
    except TimeoutError:
        continue
    segment = frame[34:]
    answered = (
        frame[12:14] == b"\x08\x00"
        and frame[26:30] == socket.inet_aton(vip)
        and segment[:4] == struct.pack("!HH", 80, port)
        and segment[13] == 0x12
    )
print("answered" if answered else "silence")
