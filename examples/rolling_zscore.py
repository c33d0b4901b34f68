"""Anomalies by rolling z-score, from Prometheus' HTTP API: rolling_zscore.py [URL] [EXPRESSION] [STEPS]

Written against Prometheus; it runs unchanged against Bellrock.
"""

import json
import statistics
import sys
import time
import urllib.parse
import urllib.request
from collections import deque

WINDOW = 100
THRESHOLD = 3.0


def query_range(base, expression, start, end, step):
    parameters = {"query": expression, "start": start, "end": end, "step": step}
    url = f"{base}/api/v1/query_range?" + urllib.parse.urlencode(parameters)
    with urllib.request.urlopen(url, timeout=30) as answer:
        body = json.load(answer)
    if body["status"] != "success":
        raise SystemExit(f"{body['errorType']}: {body['error']}")
    return body["data"]["result"]


def anomalies(values):
    window = deque(maxlen=WINDOW)
    for timestamp, text in values:
        value = float(text)
        if len(window) >= 10:
            deviation = statistics.pstdev(window)
            if deviation > 0:
                score = (value - statistics.fmean(window)) / deviation
                if abs(score) > THRESHOLD:
                    yield timestamp, value, score
        window.append(value)


def main():
    base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:1811"
    expression = sys.argv[2] if len(sys.argv) > 2 else "sum(rate(http_requests_total[30s]))"
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 300
    end = time.time()
    for series in query_range(base, expression, end - 2 * steps, end, "2s"):
        found = list(anomalies(series["values"]))
        print(f"{series['metric'] or expression}: {len(series['values'])} points, {len(found)} anomalies")
        for timestamp, value, score in found:
            print(f"  {time.strftime('%H:%M:%S', time.localtime(timestamp))} value {value:.3f} z {score:+.1f}")


if __name__ == "__main__":
    main()
