"""`bellrock rules lint` and `bellrock rules test`: promtool's verdicts, for people and for programs (docs/cli.md)."""

import json
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest
from bellrock_server import BINARY

RULES = """
groups:
- name: shop
  rules:
  - alert: Down
    expr: up == 0
    for: 2m
    labels: {severity: page}
    annotations: {summary: '{{ $labels.job }} is down'}
  - record: job:up:sum
    expr: sum by (job) (up)
"""

TESTS = """
rule_files: ['*.rules.yml']
tests:
- name: right
  input_series: [{series: 'up{job="a"}', values: '1 0x9'}]
  alert_rule_test:
  - eval_time: 3m
    alertname: Down
    exp_alerts: [{exp_labels: {job: a, severity: page}, exp_annotations: {summary: a is down}}]
- name: wrong
  input_series: [{series: 'up{job="a"}', values: '1x9'}]
  promql_expr_test:
  - expr: job:up:sum
    eval_time: 1m
    exp_samples: [{labels: 'job:up:sum{job="a"}', value: 7}]
"""


def rules(*arguments, code=0, text=None):
    outcome = subprocess.run([BINARY, "rules", *arguments], capture_output=True, text=True, timeout=60, input=text)
    assert outcome.returncode == code, outcome.stdout + outcome.stderr
    return outcome


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "shop.rules.yml").write_text(RULES)
    (tmp_path / "shop.test.yml").write_text(TESTS)
    return tmp_path


def test_lint(folder):
    good = folder / "shop.rules.yml"
    assert "good, 2 rules in 1 groups" in rules("lint", str(good)).stdout
    assert "good" in rules("lint", text=RULES).stdout, "standard input"
    bad = folder / "bad.yml"
    bad.write_text(RULES.replace("up == 0", "up == ").replace("labels:", "lables:"))
    outcome = rules("lint", str(good), str(bad), code=1)
    assert f"{bad}:6:11: could not parse expression" in outcome.stderr and f"{bad}:8:5: unknown field" in outcome.stderr
    rows = json.loads(rules("lint", str(bad), "-o", "json", code=1).stdout)
    assert [(row["line"], row["severity"]) for row in rows] == [(6, "error"), (8, "error")]
    assert json.loads(rules("lint", str(good), "-o", "json").stdout) == []
    rules("lint", str(folder / "none.yml"), code=1)
    rules("lint", "--nonsense", code=2)


def test_lint_of_twins_names_and_foreign_fields(folder):
    twins = folder / "twins.yml"
    twins.write_text(RULES + RULES.split("rules:")[1])
    assert "warning" in rules("lint", str(twins)).stderr
    rules("lint", "--lint-fatal", str(twins), code=3)
    assert not rules("lint", "--lint-fatal", "--lint", "none", str(twins)).stderr
    text = RULES.replace("severity:", "how-bad:")
    rules("lint", text=text)
    rules("lint", "--name-validation", "legacy", text=text, code=1)
    text = RULES.replace("- name: shop", "- name: shop\n  owner: me")
    rules("lint", text=text, code=1)
    rules("lint", "--ignore-unknown-fields", text=text)


def test_unit_tests(folder):
    file, junit = str(folder / "shop.test.yml"), folder / "junit.xml"
    outcome = rules("test", file, "--junit", str(junit), code=1)
    assert "1 passed, 1 failed" in outcome.stdout
    assert "shop.test.yml:13: wrong: expression" in outcome.stderr
    assert '  job:up:sum{job="a"} 7\n    found\n      job:up:sum{job="a"} 1' in outcome.stderr
    suite = ElementTree.parse(junit).getroot().find("testsuite")
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [len(case.findall("failure")) for case in suite.findall("testcase")] == [0, 1]
    assert '- job:up:sum{job="a"} 7' in rules("test", "--diff", file, code=1).stderr
    rows = json.loads(rules("test", "-o", "json", file, code=1).stdout)
    assert [(row["test"], row["status"]) for row in rows] == [("right", "passed"), ("wrong", "failed")]
    assert rows[1]["failures"][0]["found"] == ['job:up:sum{job="a"} 1']
    outcome = rules("test", "--run", "nothing", "--run", "^ri", "--debug", file)
    assert "1 passed, 0 failed" in outcome.stdout and 'ALERTS{alertname="Down"' in outcome.stderr
    rules("test", "--run", "(", file, code=2)


def test_files_that_cannot_be_used(folder):
    file = folder / "bad.test.yml"
    file.write_text(TESTS.replace("tests:", "tets:"))
    assert "unknown field" in rules("test", str(file), code=1).stderr
    file.write_text(TESTS.replace("*.rules.yml", "nowhere.yml").replace("exp_alerts: [", "exp_alerts: [] # ["))
    assert "warning: no file matches" in rules("test", "--run", "right", str(file)).stderr
    (folder / "broken.rules.yml").write_text("groups: 5")
    assert "broken.rules.yml:1:9" in rules("test", "--run", "right", str(folder / "shop.test.yml"), code=1).stderr
    (folder / "broken.rules.yml").write_text("\n".join(["groups: [{name: g, mine: 1}]"]))
    rules("test", "--run", "right", str(folder / "shop.test.yml"), code=1)
    rules("test", "--run", "right", "--ignore-unknown-fields", str(folder / "shop.test.yml"))
