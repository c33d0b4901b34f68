//! The web pages, embedded.
//!
//! `ui/dist` becomes part of the binary; this crate says which bytes answer a path and with which headers.
//! It knows no HTTP library: `br_http` turns an [`Asset`] into a response.
//!
//! Scripts and styles are served below `/_a/<build id>/` and may be kept for ever, because another build has another id.
//! The shell (`index.html`) is asked for again each time, and names the files of its own build.

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// The `Content-Security-Policy` of the pages: scripts, styles and connections of this origin only, nothing inline,
/// and no text becomes markup except through the framework's own templates.
pub const CONTENT_SECURITY_POLICY: &str = include_str!("../../../ui/content-security-policy.txt").trim_ascii();

/// The headers that go with every page and asset, names in lower case.
pub const SECURITY_HEADERS: [(&str, &str); 6] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
];

/// The first segments of paths that are pages. `ui/src/lib/routes.ts` knows what they show.
pub const PAGE_SEGMENTS: [&str; 10] =
    ["services", "explore", "graph", "logs", "traces", "trace", "issues", "alerts", "incidents", "index.html"];

/// What answers a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asset {
    pub bytes: &'static [u8],
    /// The same bytes compressed; absent when that saves nothing. With it goes `Content-Encoding: gzip` and `Vary: Accept-Encoding`.
    pub gzip: Option<&'static [u8]>,
    pub content_type: &'static str,
    /// A strong entity tag with its quotes. A compressed answer is another representation: see [`Asset::gzip_etag`].
    pub etag: &'static str,
    /// Whether the bytes at this path never change.
    pub immutable: bool,
}

impl Asset {
    /// The value of `Cache-Control`.
    pub fn cache_control(&self) -> &'static str {
        if self.immutable { "public, max-age=31536000, immutable" } else { "no-cache" }
    }

    /// The entity tag of the compressed bytes.
    pub fn gzip_etag(&self) -> String {
        format!("{}-gzip\"", self.etag.trim_end_matches('"'))
    }

    /// Whether an `If-None-Match` header names these bytes, compressed or not: then the answer is 304 without a body.
    pub fn is_known(&self, if_none_match: &str) -> bool {
        let gzip_etag = self.gzip_etag();
        let names_it = |tag: &str| {
            let tag = tag.trim();
            let tag = tag.strip_prefix("W/").unwrap_or(tag);
            tag == "*" || tag == self.etag || tag == gzip_etag
        };
        if_none_match.split(',').any(names_it)
    }
}

/// The id of the embedded build, 16 hexadecimal digits.
pub fn build_id() -> &'static str {
    BUILD_ID
}

/// What answers a path (without its query): a file of the build, or the shell for the paths that are pages.
/// `None` means 404; a script of another build is one of these, and the page that asks for it loads anew.
pub fn asset(path: &str) -> Option<Asset> {
    let path = if is_page(path) { "/index.html" } else { path };
    let file = FILES.iter().find(|file| file.path == path)?;
    Some(Asset {
        bytes: file.bytes,
        gzip: file.gzip,
        content_type: content_type(file.path),
        etag: file.etag,
        immutable: file.path.starts_with("/_a/"),
    })
}

/// Whether the shell answers this path.
fn is_page(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let first = rest.split('/').next().unwrap_or_default();
    first.is_empty() && rest.is_empty() || PAGE_SEGMENTS.contains(&first)
}

struct File {
    path: &'static str,
    bytes: &'static [u8],
    gzip: Option<&'static [u8]>,
    etag: &'static str,
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests;
