//! The one place where an asynchronous object store is waited for.
//!
//! The store's callers run on a pool for blocking work. Nothing in here may be called from an asynchronous task.

use br_std::{Error, Kind, Result};
use futures::executor::block_on;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, PutMultipartOptions, PutOptions};
use parquet::errors::ParquetError;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Waits for one call of an object store.
pub(crate) fn wait<T, E>(future: impl Future<Output = std::result::Result<T, E>>, path: &str) -> Result<T>
where
    E: IntoStoreError,
{
    block_on(future).map_err(|error| error.into_store_error(path))
}

/// Runs a decoder over bytes that may be damaged. The Parquet reader checks much, but not all: where it gives up by
/// a panic, that is damage of the file, not of this program.
pub(crate) fn guard<T>(path: &str, decode: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(Error::corrupt(format!("{path}: the decoder stopped at damaged bytes"))))
}

/// Puts a whole file, in parts when it is large.
pub(crate) struct Upload {
    path: Path,
    /// Begun with the first part; a file of one part is put at once.
    parts: Option<Box<dyn MultipartUpload>>,
    checksum: crc32fast::Hasher,
    size_bytes: u64,
}

/// Object stores want parts of at least 5 MiB.
pub(crate) const PART_BYTES: usize = 8 << 20;

impl Upload {
    pub(crate) fn new(path: &str) -> Result<Self> {
        let path = Path::parse(path).map_err(|error| Error::fix_request(format!("not a path of an object: {error}")))?;
        Ok(Self { path, parts: None, checksum: crc32fast::Hasher::new(), size_bytes: 0 })
    }

    /// Sends one part.
    pub(crate) fn put_part(&mut self, store: &dyn ObjectStore, bytes: Vec<u8>) -> Result<()> {
        self.checksum.update(&bytes);
        self.size_bytes += bytes.len() as u64;
        let path = self.path.to_string();
        if self.parts.is_none() {
            self.parts = Some(wait(store.put_multipart_opts(&self.path, PutMultipartOptions::default()), &path)?);
        }
        let Some(parts) = &mut self.parts else { return Ok(()) };
        wait(parts.put_part(bytes.into()), &path)
    }

    /// Sends the last part. Gives the size and the CRC-32 of the whole.
    pub(crate) fn finish(mut self, store: &dyn ObjectStore, bytes: Vec<u8>) -> Result<(u64, u32)> {
        let path = self.path.to_string();
        if self.parts.is_some() {
            if !bytes.is_empty() {
                self.put_part(store, bytes)?;
            }
            if let Some(parts) = &mut self.parts {
                wait(parts.complete(), &path)?;
            }
        } else {
            self.checksum.update(&bytes);
            self.size_bytes += bytes.len() as u64;
            wait(store.put_opts(&self.path, bytes.into(), PutOptions::default()), &path)?;
        }
        Ok((self.size_bytes, self.checksum.finalize()))
    }

    /// Takes back what was sent. Best effort: what stays is an object that nothing names.
    pub(crate) fn abort(mut self) -> Result<()> {
        match &mut self.parts {
            Some(parts) => wait(parts.abort(), self.path.as_ref()),
            None => Ok(()),
        }
    }
}

/// Errors of the libraries below, as errors of the house.
pub(crate) trait IntoStoreError {
    fn into_store_error(self, path: &str) -> Error;
}

impl IntoStoreError for object_store::Error {
    fn into_store_error(self, path: &str) -> Error {
        let kind = match &self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::PermissionDenied { .. } | Self::Unauthenticated { .. } => Kind::Unauthorized,
            _ => Kind::Retry,
        };
        Error::new(kind, format!("{path}: {self}")).with_source(self)
    }
}

impl IntoStoreError for ParquetError {
    fn into_store_error(self, path: &str) -> Error {
        match self {
            Self::External(source) => match source.downcast::<object_store::Error>() {
                Ok(error) => error.into_store_error(path),
                Err(source) => Error::corrupt(format!("{path}: {source}")),
            },
            error => Error::corrupt(format!("{path}: {error}")).with_source(error),
        }
    }
}
