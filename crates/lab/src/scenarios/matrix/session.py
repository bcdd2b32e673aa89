"""One requests.Session over all pools: downloads, uploads with a length and chunked, HEAD, a missing file. Tells what was wrong as JSON."""
import hashlib
import json
import sys

import requests

plan = json.loads(sys.argv[1])
answers, wrong = 0, []


def check(answer, pool, status, what):
    global answers
    answers += 1
    if answer.status_code != status or answer.headers.get("X-Backend") != pool["server"]:
        wrong.append(f"{what}: {answer.status_code} from {answer.headers.get('X-Backend')}")


with requests.Session() as session:
    for number in range(plan["rounds"]):
        for pool in plan["pools"]:
            url = plan["url"] + pool["prefix"]
            answer = session.get(url + "/unique", timeout=30)
            check(answer, pool, 200, f"GET {number}")
            if hashlib.sha256(answer.content).hexdigest() != pool["unique"]:
                wrong.append(f"GET {number}: other bytes")
            body = bytes(range(256)) * (number % 40)
            pieces = (body[at:at + 1000] for at in range(0, len(body), 1000))
            answer = session.post(url + "/echo", data=pieces if number % 20 == 7 else body, timeout=30)
            check(answer, pool, 200, f"POST {number}")
            if answer.ok and answer.json()["sha256"] != hashlib.sha256(body).hexdigest():
                wrong.append(f"POST {number}: other bytes")
            check(session.head(url + "/unique", timeout=30), pool, 200, f"HEAD {number}")
            check(session.get(url + "/none", timeout=30), pool, 404, f"GET of nothing {number}")

print(json.dumps({"answers": answers, "wrong": wrong[:5]}))
