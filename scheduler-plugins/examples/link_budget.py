#!/usr/bin/env python3
"""At most two transfers of a link (source host, destination host) run at a time; those of other links pass.

Else as `slots`: higher priorities first, then whoever was submitted first. So a long queue from one server neither
overloads that server nor keeps anybody waiting who needs nothing from it.
"""
import json
import sys
from collections import Counter

PER_LINK = 2


def decide(snapshot):
    slots = {executor["name"]: executor["slots"] for executor in snapshot["executors"]}
    taken = Counter(transfer["at"] for transfer in snapshot["running"])
    busy = Counter(tuple(transfer["link"].values()) for transfer in snapshot["running"])
    for transfer in snapshot["waiting"]:
        at, link = transfer["at"], tuple(transfer["link"].values())
        if taken.total() >= sum(slots.values()):
            break
        if busy[link] < PER_LINK and (at is None or taken[at] < slots.get(at, 0)):
            taken[at] += 1
            busy[link] += 1
            source, destination = (host or "here" for host in link)
            yield {"id": transfer["id"], "reason": f"{busy[link]} of {PER_LINK} from {source} to {destination}"}


print(json.dumps({"protocol": 1, "name": "link_budget"}), flush=True)
for line in sys.stdin:
    snapshot = json.loads(line)
    print(json.dumps({"number": snapshot["number"], "decisions": list(decide(snapshot))}), flush=True)
