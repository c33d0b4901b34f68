//! Where a frame is, said so that every sender says the same of the same code.
//!
//! Sentry SDKs name a frame by module and absolute path, a traceback by its path alone. What both have is the path, so the
//! path decides and the module stands in where there is none. Nobody tells where in a path the packages begin; therefore
//! only its tail counts, up to the first folder that says something. That also leaves out release directories, homes and
//! mount points.

use crate::Frame;

/// Folders that hold code and are no packages: the place begins below them.
const ROOTS: [&str; 29] = [
    "Users",
    "build",
    "builds",
    "checkout",
    "code",
    "current",
    "data",
    "deploy",
    "deployments",
    "dist",
    "home",
    "mnt",
    "opt",
    "releases",
    "repo",
    "repos",
    "revisions",
    "root",
    "src",
    "srv",
    "site",
    "task",
    "tmp",
    "usr",
    "var",
    "versions",
    "work",
    "workspace",
    "www",
];
/// Roots whose direct children are named by a person, a release or a build.
const ROOTS_OF_NAMED: [&str; 8] = ["Users", "builds", "deployments", "home", "releases", "repos", "revisions", "versions"];
/// Names that half of all programs have: alone they do not tell two files apart.
const GENERIC: [&str; 46] = [
    "__main__",
    "admin",
    "api",
    "app",
    "apps",
    "backend",
    "base",
    "cli",
    "client",
    "commands",
    "common",
    "config",
    "controllers",
    "core",
    "crud",
    "database",
    "db",
    "endpoints",
    "errors",
    "forms",
    "handlers",
    "helpers",
    "jobs",
    "lib",
    "main",
    "management",
    "middleware",
    "models",
    "project",
    "resources",
    "routers",
    "routes",
    "schemas",
    "serializers",
    "server",
    "service",
    "services",
    "settings",
    "tasks",
    "test",
    "tests",
    "urls",
    "utils",
    "views",
    "web",
    "worker",
];
const PARTS_MAX: usize = 4;

/// The place of a frame, such as `shop.pay`, `requests.api` or `<template-#>`; empty when the sender told nothing.
pub(super) fn place(frame: &Frame) -> String {
    let path = path_of(frame);
    if let Some(name) = generated_name(&path) {
        return generated(name);
    }
    if let Some(below) = below_library(&path) {
        return module_path(below);
    }
    let parts: Vec<&str> = without_origin(&path).split('/').filter(|part| !part.is_empty()).collect();
    match parts.split_last() {
        Some((name, folders)) if !folders.is_empty() || !is_module(&frame.module) => tail(folders, name, is_temporary(&path)),
        _ if !is_module(&frame.module) => frame.module.clone(),
        _ => {
            let modules: Vec<&str> = frame.module.split('.').collect();
            modules.split_last().map_or_else(String::new, |(name, folders)| tail(folders, name, false))
        }
    }
}

/// The last part of a path without its ending: `pay` of `/srv/shop/pay.py`.
pub(super) fn file_stem(frame: &Frame) -> String {
    let path = path_of(frame);
    let name = path.rsplit('/').next().unwrap_or_default();
    if name.is_empty() { frame.module.clone() } else { stem(name).to_owned() }
}

/// Code that comes with Python itself, whatever the sender says: an SDK that runs in `/` takes it for the service's own.
pub(super) fn is_standard_library(frame: &Frame) -> bool {
    let path = path_of(frame);
    generated_name(&path).is_some_and(|name| name.starts_with("<frozen "))
        || below_library(&path).is_some() && !path.contains("/site-packages/") && !path.contains("/dist-packages/")
}

fn path_of(frame: &Frame) -> String {
    let path = if frame.path.is_empty() { &frame.filename } else { &frame.path };
    path.replace('\\', "/")
}

/// `<template-17>` of `/srv/app/<template-17>`: Sentry SDKs make a path even of what is no file.
fn generated_name(path: &str) -> Option<&str> {
    let at = if path.starts_with('<') { 0 } else { path.find("/<")? + 1 };
    path.ends_with('>').then(|| &path[at..])
}

fn generated(name: &str) -> String {
    match name.strip_prefix("<frozen ").and_then(|rest| rest.strip_suffix('>')) {
        Some(module) => module.to_owned(),
        None => without_counters(name),
    }
}

/// Each number, and each hexadecimal number of eight digits or more, is `#`.
fn without_counters(name: &str) -> String {
    let mut shown = String::new();
    let mut rest = name;
    while !rest.is_empty() {
        let run = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let (word, behind) = rest.split_at(run);
        let is_hexadecimal = run >= 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) && has_digit(word);
        if is_hexadecimal || word.starts_with("0x") {
            shown.push('#');
        } else {
            push_without_digits(&mut shown, word);
        }
        let separator = behind.chars().next().map_or(0, char::len_utf8);
        shown.push_str(&behind[..separator]);
        rest = &behind[separator..];
    }
    shown
}

fn push_without_digits(shown: &mut String, word: &str) {
    for character in word.chars() {
        if !character.is_ascii_digit() {
            shown.push(character);
        } else if !shown.ends_with('#') {
            shown.push('#');
        }
    }
}

fn has_digit(word: &str) -> bool {
    word.bytes().any(|byte| byte.is_ascii_digit())
}

/// What lies below the folder of an installed package or of the standard library.
fn below_library(path: &str) -> Option<&str> {
    let packages = ["/site-packages/", "/dist-packages/"].iter().find_map(|part| path.rsplit_once(part).map(|(_, rest)| rest));
    packages.or_else(|| {
        // `…/lib/python3.13/json/…`, on Windows `…\Python313\Lib\json\…`.
        let parts: Vec<&str> = path.split('/').collect();
        let is_library = |pair: &[&str]| {
            let [first, second] = [pair[0].to_ascii_lowercase(), pair[1].to_ascii_lowercase()];
            let is_python = |part: &str| part.strip_prefix("python").is_some_and(|version| version.starts_with('3'));
            (first == "lib" || first == "lib64") && is_python(&second) || is_python(&first) && second == "lib"
        };
        let at = parts.windows(2).position(is_library)?;
        let skipped: usize = parts[..at + 2].iter().map(|part| part.len() + 1).sum();
        let below = path.get(skipped..).filter(|below| !below.is_empty())?;
        Some(below.strip_prefix("lib-dynload/").unwrap_or(below))
    })
}

fn module_path(below: &str) -> String {
    let (folders, name) = below.rsplit_once('/').unwrap_or(("", below));
    let folders = folders.replace('/', ".");
    match (folders.is_empty(), stem(name)) {
        (true, name) => name.to_owned(),
        (false, "__init__") => folders,
        (false, name) => format!("{folders}.{name}"),
    }
}

fn stem(name: &str) -> &str {
    name.split('.').next().filter(|stem| !stem.is_empty()).unwrap_or(name)
}

/// Without drive, scheme and host.
fn without_origin(path: &str) -> &str {
    let path = path.split(['?', '#']).next().unwrap_or(path);
    if let Some((_, rest)) = path.split_once("://") {
        return rest.split_once('/').map_or(rest, |(_, rest)| rest);
    }
    match path.as_bytes() {
        [drive, b':', b'/', ..] if drive.is_ascii_alphabetic() => &path[3..],
        _ => path,
    }
}

/// A name that says more than "what was started".
fn is_module(module: &str) -> bool {
    !module.is_empty() && module != "__main__" && module != "__mp_main__"
}

fn tail(folders: &[&str], name: &str, is_temporary: bool) -> String {
    let stem = stem(name);
    let mut kept = Vec::new();
    if stem != "__init__" || folders.is_empty() {
        kept.push(if is_temporary { without_counters(stem) } else { stem.to_owned() });
    }
    let mut is_told = false;
    for (at, folder) in folders.iter().enumerate().rev() {
        let above = if at == 0 { "" } else { folders[at - 1] };
        let repeats = kept.last().is_some_and(|last| last == folder) && GENERIC.contains(folder);
        let ends = is_root(folder, above) || repeats || kept.len() == PARTS_MAX || is_told && !is_version(folder);
        if ends {
            break;
        }
        kept.push((*folder).to_owned());
        is_told |= !GENERIC.contains(folder) && !is_version(folder);
    }
    kept.reverse();
    kept.join(".")
}

/// A folder that no package can be: its name is no identifier, it is a customary root, or it is named by hand or by a machine.
fn is_root(folder: &str, above: &str) -> bool {
    let is_identifier = folder.starts_with(|first: char| first.is_alphabetic() || first == '_')
        && folder.chars().all(|character| character.is_alphanumeric() || character == '_');
    let is_hash = folder.len() >= 7 && has_digit(folder) && folder.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_scratch = folder.starts_with("tmp") && (folder.len() == 11 || above == "tmp") || folder.starts_with("_MEI");
    !is_identifier || is_hash || is_scratch || ROOTS.contains(&folder) || ROOTS_OF_NAMED.contains(&above)
}

/// `v2`
fn is_version(folder: &str) -> bool {
    folder.strip_prefix('v').is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Files in such folders are written for one process and numbered.
fn is_temporary(path: &str) -> bool {
    ["/tmp/", "/Temp/", "/var/folders/"].iter().any(|part| path.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expect: &str) {
        assert_eq!(place(&Frame { filename: path.into(), ..Frame::default() }), expect, "{path}");
    }

    #[test]
    fn roots_and_releases_do_not_count() {
        for path in [
            "/srv/app/shop/pay.py",
            "/home/ann/work/shop/pay.py",
            "C:\\app\\shop\\pay.py",
            "/srv/releases/20260101T1000/shop/pay.py",
            "/srv/releases/abc/shop/pay.py",
            "/opt/web/current/src/shop/pay.py",
            "/x/bundle.zip/shop/pay.pyc",
            "shop/pay.py",
        ] {
            check(path, "shop.pay");
        }
        check("/home/ann/pay.py", "pay");
        check("/srv/releases/r17/pay.py", "pay");
        check("/srv/my-shop/pay.py", "pay");
        check("/srv/front/app.py", "front.app");
        check("/srv/app/main.py", "app.main");
        check("/code/app/app/main.py", "app.main");
        check("/srv/shop/__init__.py", "shop");
        check("/tmp/tmpab12cd34/job_17.py", "job_#");
        check("/tmp/ipykernel_431/2815.py", "ipykernel_431.#");
    }

    #[test]
    fn generic_names_take_their_folder_along() {
        check("/srv/app/orders/api/views.py", "orders.api.views");
        check("/srv/app/users/api/views.py", "users.api.views");
        check("/srv/shop/api/v1/orders.py", "shop.api.v1.orders");
        check("/srv/shop/v2/orders/views.py", "v2.orders.views");
        check("/srv/shop/migrations/0002_more.py", "migrations.0002_more");
    }

    #[test]
    fn libraries_have_their_whole_module() {
        check("/venv/lib/python3.13/site-packages/a/b/c/d/e.py", "a.b.c.d.e");
        check("/usr/local/lib/python3.13/json/__init__.py", "json");
        check("C:\\Python313\\Lib\\json\\decoder.py", "json.decoder");
        check("/usr/lib/python3.13/lib-dynload/_x.cpython-313-x86_64-linux-gnu.so", "_x");
        check("<frozen importlib._bootstrap>", "importlib._bootstrap");
    }

    #[test]
    fn generated_code_has_no_counter() {
        check("<template-17>", "<template-#>");
        check("/srv/app/<template-93>", "<template-#>");
        check("<ipython-input-3-0a1b2c3d4e5f>", "<ipython-input-#-#>");
        check("<string>", "<string>");
        check("<a/b-1>", "<a/b-#>");
    }

    #[test]
    fn the_module_stands_in_for_a_missing_path() {
        let named =
            |module: &str, filename: &str| place(&Frame { module: module.into(), filename: filename.into(), ..Frame::default() });
        assert_eq!(named("shop.pay", ""), "shop.pay");
        assert_eq!(named("shop.pay", "pay.py"), "shop.pay");
        assert_eq!(named("com.shop.api.Views", "Views.java"), "shop.api.Views");
        assert_eq!(named("__main__", "pay.py"), "pay");
        assert_eq!(named("__main__", ""), "__main__");
        assert_eq!(named("", ""), "");
    }
}
