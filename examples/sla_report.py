"""An SLA report from Prometheus' HTTP API: sla_report.py [URL] [WINDOW] [SELECTOR]

Written against Prometheus; it runs unchanged against Bellrock.
"""

import json
import sys
import urllib.parse
import urllib.request


def query(base, expression):
    url = f"{base}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(url, timeout=30) as answer:
        body = json.load(answer)
    if body["status"] != "success":
        raise SystemExit(f"{body['errorType']}: {body['error']}")
    result = body["data"]["result"]
    return float(result[0]["value"][1]) if result else 0.0


def main():
    base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:1811"
    window = sys.argv[2] if len(sys.argv) > 2 else "5m"
    selector = sys.argv[3] if len(sys.argv) > 3 else 'job="shop-front"'
    total = query(base, f"sum(increase(http_requests_total{{{selector}}}[{window}]))")
    errors = query(base, f'sum(increase(http_requests_total{{{selector},status=~"5.."}}[{window}]))')
    rate = query(base, f"sum(rate(http_requests_total{{{selector}}}[{window}]))")
    buckets = f"sum by (le) (rate(http_request_duration_seconds_bucket{{{selector}}}[{window}]))"
    p50 = query(base, f"histogram_quantile(0.5, {buckets})")
    p99 = query(base, f"histogram_quantile(0.99, {buckets})")
    availability = 100 * (1 - errors / total) if total else 100.0
    report = {
        "window": window,
        "availability_percent": round(availability, 3),
        "p50_seconds": round(p50, 4),
        "p99_seconds": round(p99, 4),
        "requests": round(total),
        "requests_per_second": round(rate, 2),
        "errors": round(errors),
        "slo_met": availability >= 99.9,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
