/** How to send data to this server, as commands that run. `origin` is the address that the reader's browser uses. */

export interface Snippet {
  readonly label: string;
  readonly code: string;
}

export function runSnippet(origin: string): Snippet {
  return { label: 'Any Python service, unchanged', code: `bellrock run --server ${origin} --service my-service -- python app.py` };
}

export function otlpSnippet(origin: string): Snippet {
  return {
    label: 'OpenTelemetry, any language',
    code: `export OTEL_EXPORTER_OTLP_ENDPOINT=${origin}\nexport OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf\nexport OTEL_SERVICE_NAME=my-service`,
  };
}

export function metricsSnippet(origin: string): Snippet {
  return { label: 'A Prometheus that already scrapes (prometheus.yml)', code: `remote_write:\n  - url: ${origin}/api/v1/write` };
}

export function logSnippet(origin: string): Snippet {
  return {
    label: 'One line, by hand',
    code:
      `curl -H 'Content-Type: application/json' ${origin}/loki/api/v1/push -d '{"streams": [{"stream": {"service_name": "my-service"}, ` +
      `"values": [["'$(date +%s%N)'", "hello"]]}]}'`,
  };
}

export function sentrySnippet(origin: string): Snippet {
  const dsn = origin.replace(/^(https?:\/\/)/, '$1key@');
  return { label: 'sentry-sdk: change the DSN', code: `sentry_sdk.init(dsn="${dsn}/1")` };
}

export function ruleSnippet(): Snippet {
  return {
    label: 'A rule file, named under rule_files in the configuration',
    code:
      'groups:\n  - name: my-service\n    rules:\n      - alert: ManyErrors\n        expr: sum(rate(http_requests_total{code=~"5.."}[5m])) / sum(rate(http_requests_total[5m])) > 0.05\n' +
      '        for: 5m\n        labels: {severity: critical}\n        annotations: {summary: "More than 5 % of requests fail"}',
  };
}
