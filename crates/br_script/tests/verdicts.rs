//! The runners for exposition and promtool fail what does not come out as it should.

#![allow(clippy::disallowed_methods, reason = "a test makes its files on the real disk")]

use br_script::{exposition, promtool};
use std::path::PathBuf;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }
}

#[test]
fn exposition_cases() {
    let check = |body: &str, should_parse: bool, passes: bool| {
        let folder = Folder::new();
        folder.file("metrics", body);
        let case = folder.file("test.json", &format!(r#"{{"type": "text", "file": "metrics", "shouldParse": {should_parse}}}"#));
        assert_eq!(exposition::run(&case).is_ok(), passes, "{body}");
        assert_eq!(exposition::run(folder.0.path()).is_ok(), passes, "{body}");
    };
    check("a 1\n# EOF\n", true, true);
    check("a 1\n# EOF\n", false, false);
    check("a 1\n", false, true);
    check("a 1\n", true, false);
    let folder = Folder::new();
    let found = exposition::run(&folder.file("a.txt", "# TYPE a gauge\na{b=\"1\"} 1\na{b=\"2\"} 1\n"));
    assert_eq!(found.as_deref(), Ok("1 families, 2 series, 2 samples"));
    assert!(exposition::run(&folder.file("b.txt", "a{b=} 1\n")).is_err());
    assert!(exposition::run(&folder.0.path().join("none")).is_err());
}

#[test]
fn promtool_files() {
    let folder = Folder::new();
    let check = |name: &str, text: &str, passed: usize, failures: usize| {
        let (found, failed) = promtool::run(&folder.file(name, text));
        assert_eq!((found, failed.len()), (passed, failures), "{name}: {failed:?}");
    };
    let right = "groups: [{name: g, rules: [{record: r, expr: sum(up)}]}]";
    let wrong = "groups: [{name: g, rules: [{record: r, expr: sum(up}]}]";
    check("a.good.yml", right, 1, 0);
    check("a.good.yml", wrong, 0, 1);
    check("bad-a.yml", right, 0, 1);
    check("bad-a.yml", wrong, 1, 0);
    let test =
        |value: u32| format!("tests: [{{interval: 1m, promql_expr_test: [{{expr: '1', exp_samples: [{{value: {value}}}]}}]}}]");
    check("t_good.yml", &test(1), 1, 0);
    check("t_good.yml", &test(2), 0, 1);
    check("failing.yml", &test(2), 1, 0);
    check("t.yml", &test(1), 1, 0);
    check("rules_duplicates.yml", right, 1, 1);
}
