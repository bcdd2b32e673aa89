"""A client that uses its socket as few do. The plan is the only argument; what it got is written as one JSON object."""

import hashlib
import json
import socket
import sys
import time


def connect(plan):
    family = socket.AF_INET6 if ":" in plan["address"] else socket.AF_INET
    client = socket.socket(family)
    client.settimeout(30)
    for level, name, value in plan["options"]:
        client.setsockopt(level, name, bytes.fromhex(value) if isinstance(value, str) else value)
    client.connect((plan["address"], plan["port"]))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def receive(stream):
    begun = time.monotonic()
    status = int(stream.readline().split()[1])
    headers = []
    while (line := stream.readline().strip()):
        name, value = line.decode("latin-1").split(":", 1)
        headers.append([name, value.strip()])
    length = next(int(value) for name, value in headers if name.lower() == "content-length")
    body = stream.read(length)
    return {
        "status": status,
        "interim": [],
        "headers": headers,
        "bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "seconds": time.monotonic() - begun,
    }


def follow(plan, outcome):
    client = connect(plan)
    stream = client.makefile("rb")
    for what, value in plan["steps"]:
        if what == "sleep":
            time.sleep(value)
        elif what == "send":
            client.sendall(value.encode("latin-1"))
        elif what == "urgent":
            client.send(value.encode("latin-1"), socket.MSG_OOB)
        elif what == "receive":
            outcome["answers"].append(receive(stream))
        else:
            raise ValueError(what)


outcome = {"answers": [], "error": None}
try:
    follow(json.loads(sys.argv[1]), outcome)
except (OSError, IndexError, StopIteration) as error:
    outcome["error"] = repr(error)
print(json.dumps(outcome))
