use super::*;
use flate2::read::GzDecoder;
use std::io::Read;

fn check(path: &str, content_type: Option<&str>) {
    assert_eq!(asset(path).map(|asset| asset.content_type), content_type, "{path}");
}

/// The paths in double quotes that index.html loads from this origin.
fn loaded_by_the_shell() -> Vec<String> {
    let shell = asset("/").expect("the shell is embedded");
    let text = std::str::from_utf8(shell.bytes).expect("index.html is UTF-8");
    let quoted = text.split('"').filter(|part| part.starts_with("/_a/"));
    quoted.map(str::to_owned).collect()
}

#[test]
fn pages_get_the_shell_and_nothing_else_does() {
    const SHELL: Option<&str> = Some("text/html; charset=utf-8");
    check("/", SHELL);
    check("/services/a%2Fb", SHELL);
    check("/traces/4bf92f3577b34da6a3ce929d0e0e4736", SHELL);
    check("/graph", SHELL);
    // The server's own exposition, the APIs and what does not exist stay what they are.
    for path in [
        "/metrics",
        "/api/v1/query",
        "/v1/traces",
        "/loki/api/v1/push",
        "/-/ready",
        "/servicesx",
        "",
        "services",
        "//",
        "/../Cargo.toml",
    ] {
        check(path, None);
    }
}

#[test]
fn the_shell_loads_only_what_is_embedded() {
    let loaded = loaded_by_the_shell();
    for wanted in ["text/javascript; charset=utf-8", "text/css; charset=utf-8"] {
        assert!(loaded.iter().any(|path| content_type(path) == wanted), "no {wanted} in {loaded:?}");
    }
    for path in loaded {
        let found = asset(&path).unwrap_or_else(|| panic!("{path} is not embedded"));
        assert!(found.immutable, "{path}");
        assert!(path.starts_with(&format!("/_a/{}/", build_id())), "{path}");
    }
}

#[test]
fn scripts_of_another_build_are_not_found() {
    check("/_a/0000000000000000/kit.js", None);
    check("/_a/kit.js", None);
}

#[test]
fn the_shell_obeys_its_policy() {
    let shell = asset("/").expect("the shell is embedded");
    let text = std::str::from_utf8(shell.bytes).expect("index.html is UTF-8");
    for forbidden in ["<style", " style=", "onload=", "http://", "https://"] {
        assert!(!text.contains(forbidden), "index.html holds {forbidden}");
    }
    for script in text.split("<script").skip(1) {
        assert!(script.trim_start().contains("src="), "an inline script");
        assert!(script.split_once('>').is_some_and(|(_, rest)| rest.starts_with("</script>")), "a script with a body");
    }
    assert!(CONTENT_SECURITY_POLICY.contains("default-src 'none'"));
    assert!(!CONTENT_SECURITY_POLICY.contains("unsafe"));
    assert!(!CONTENT_SECURITY_POLICY.contains('\n'));
}

#[test]
fn compressed_bytes_are_the_same_bytes() {
    for path in loaded_by_the_shell() {
        let found = asset(&path).expect("embedded, as another test shows");
        let Some(gzip) = found.gzip else { continue };
        assert!(gzip.len() < found.bytes.len(), "{path}");
        let mut plain = Vec::new();
        GzDecoder::new(gzip).read_to_end(&mut plain).expect("gzip of the build");
        assert!(plain == found.bytes, "{path}");
    }
}

#[test]
fn caches_ask_again_for_the_shell_only() {
    let shell = asset("/alerts/17").expect("the shell is embedded");
    assert_eq!(shell.cache_control(), "no-cache");
    assert!(shell.is_known(shell.etag));
    assert!(shell.is_known(&format!("\"other\", W/{}", shell.etag)));
    assert!(shell.is_known(&shell.gzip_etag()));
    assert!(!shell.is_known("\"other\""));
    assert!(!shell.is_known(""));
}

#[test]
fn the_critical_path_is_small() {
    let transferred: usize =
        loaded_by_the_shell().iter().filter_map(|path| asset(path)).map(|found| found.gzip.unwrap_or(found.bytes).len()).sum();
    // 60 KB of brotli is about 68 KB of gzip.
    assert!(transferred < 68_000, "{transferred} bytes of gzip before the first page");
}
