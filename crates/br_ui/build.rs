//! Lists the built pages (`ui/dist`) as a static table, with a compressed copy of each and one id for the whole build.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a build script reads the disk and talks to cargo by printing"
)]

use flate2::Compression;
use flate2::write::GzEncoder;
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

const HELP: &str = "ui/dist is missing or incomplete: run `cargo xtask ui` (needs Node) or restore the committed files";

fn main() -> Result<(), Box<dyn Error>> {
    // Relative to the package: with absolute paths a target folder that two checkouts share would keep the pages of the first.
    let dist = PathBuf::from("../../ui/dist");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo gives no OUT_DIR")?);
    println!("cargo:rerun-if-changed={}", dist.display());
    println!("cargo:rerun-if-changed=build.rs");
    let mut files = Vec::new();
    collect(&dist, "", &mut files).map_err(|error| format!("{HELP}: {error}"))?;
    files.sort();
    if !files.iter().any(|(path, _)| path == "index.html") {
        return Err(format!("{HELP}: no index.html").into());
    }
    let build_id =
        format!("{:016x}", files.iter().fold(FNV_OFFSET, |hash, (path, bytes)| fnv(fnv(hash, path.as_bytes()), bytes)));
    let mut table = format!("pub(crate) const BUILD_ID: &str = \"{build_id}\";\npub(crate) static FILES: &[File] = &[\n");
    for (index, (path, bytes)) in files.iter().enumerate() {
        let (served_path, served_bytes) = served(path, bytes, &build_id)?;
        let plain = out.join(format!("{index}.bin"));
        std::fs::write(&plain, &served_bytes)?;
        let compressed = gzip(&served_bytes)?;
        let gzip = if compressed.len() < served_bytes.len() {
            let file = out.join(format!("{index}.gz"));
            std::fs::write(&file, compressed)?;
            format!("Some(include_bytes!({}))", literal(&file)?)
        } else {
            "None".to_owned()
        };
        let etag = format!("\"{:016x}\"", fnv(FNV_OFFSET, &served_bytes));
        let bytes_file = literal(&plain)?;
        writeln!(
            table,
            "    File {{ path: {served_path:?}, bytes: include_bytes!({bytes_file}), gzip: {gzip}, etag: {etag:?} }},"
        )?;
    }
    table.push_str("];\n");
    std::fs::write(out.join("files.rs"), table)?;
    Ok(())
}

/// All files below a folder: path with `/`, bytes.
fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        println!("cargo:rerun-if-changed={}", entry.path().display());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{path}/"), files)?;
        } else {
            files.push((path, std::fs::read(entry.path())?));
        }
    }
    Ok(())
}

/// Where a file is served, and its bytes there: what stands in `_a/` moves below the build id, and index.html names it there.
/// Scripts name each other relatively and move along.
fn served(path: &str, bytes: &[u8], build_id: &str) -> Result<(String, Vec<u8>), Box<dyn Error>> {
    if let Some(name) = path.strip_prefix("_a/") {
        return Ok((format!("/_a/{build_id}/{name}"), bytes.to_vec()));
    }
    if path == "index.html" {
        let text = std::str::from_utf8(bytes)?;
        return Ok(("/index.html".to_owned(), text.replace("\"/_a/", &format!("\"/_a/{build_id}/")).into_bytes()));
    }
    Ok((format!("/{path}"), bytes.to_vec()))
}

/// A path as a string literal of Rust.
fn literal(path: &Path) -> Result<String, Box<dyn Error>> {
    let text = path.to_str().ok_or_else(|| format!("the path {} is not UTF-8", path.display()))?;
    Ok(format!("{text:?}"))
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, 64 bits: tells builds apart, guards nothing.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
