"""A bounded load on the shop's front, from the standard library alone: load.py URL SECONDS REQUESTS_PER_SECOND"""

import json
import random
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

USERS = [f"user-{number}" for number in range(1, 41)]


def call(url, body=None):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"} if data else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            answer.read()
    except (urllib.error.URLError, OSError):
        pass  # The shop's own telemetry tells what failed.


def one(front):
    draw = random.random()
    if draw < 0.5:
        call(f"{front}/products")
    elif draw < 0.75:
        call(f"{front}/products/{random.choice([1, 2, 3, 4, 5, 5, 404])}")
    else:
        call(f"{front}/checkout", {"user_id": random.choice(USERS), "product_id": random.randint(1, 5), "quantity": 1})


def main():
    front, seconds, rate = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(16) as pool:
        while time.monotonic() < end:
            pool.submit(one, front)
            time.sleep(random.expovariate(rate))


if __name__ == "__main__":
    main()
