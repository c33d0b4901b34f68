//! The local directory as an object store whose puts are on stable storage when they return.
//!
//! object_store's own local store does not sync: a file that the catalog names could be gone after a power cut, when the journal
//! has been cut already. This one syncs the file and every folder on the way to it.

use async_trait::async_trait;
use br_std::Error;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result, UploadPart,
};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct SyncedDirectory {
    root: Arc<PathBuf>,
    inner: LocalFileSystem,
}

impl SyncedDirectory {
    /// Makes the directory when there is none.
    #[allow(clippy::disallowed_methods, reason = "this is the disk's edge")]
    pub fn open(root: &Path) -> br_std::Result<Self> {
        std::fs::create_dir_all(root)?;
        let root = root.canonicalize()?;
        let inner =
            LocalFileSystem::new_with_prefix(&root).map_err(|error| Error::retry(format!("{}: {error}", root.display())))?;
        Ok(Self { root: Arc::new(root), inner })
    }

    /// Syncs an object and the names that lead to it.
    async fn sync(&self, location: &ObjectPath) -> Result<()> {
        let (root, path) = (self.root.clone(), self.inner.path_to_filesystem(location)?);
        let sync = move || sync_file_and_folders(&root, &path);
        let synced = match tokio::runtime::Handle::try_current() {
            Ok(runtime) => runtime.spawn_blocking(sync).await?,
            Err(_) => sync(),
        };
        synced.map_err(|source| object_store::Error::Generic { store: "SyncedDirectory", source: Box::new(source) })
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the disk's edge")]
fn read_ranges(path: &Path, ranges: &[Range<u64>]) -> std::io::Result<Vec<Bytes>> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let read = |range: &Range<u64>| {
        // Before memory is taken for it.
        if range.start > range.end || range.end > size {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(|_| std::io::ErrorKind::OutOfMemory)?];
        file.read_exact_at(&mut bytes, range.start)?;
        Ok(Bytes::from(bytes))
    };
    ranges.iter().map(read).collect()
}

#[allow(clippy::disallowed_methods, reason = "this is the disk's edge")]
fn sync_file_and_folders(root: &Path, path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()?;
    for folder in path.ancestors().skip(1) {
        File::open(folder)?.sync_all()?;
        if folder == root {
            break;
        }
    }
    Ok(())
}

impl std::fmt::Display for SyncedDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SyncedDirectory({})", self.root.display())
    }
}

#[async_trait]
impl ObjectStore for SyncedDirectory {
    async fn put_opts(&self, location: &ObjectPath, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let result = self.inner.put_opts(location, payload, options).await?;
        self.sync(location).await?;
        Ok(result)
    }

    async fn put_multipart_opts(&self, location: &ObjectPath, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(SyncedUpload { inner, directory: self.clone(), location: location.clone() }))
    }

    async fn get_opts(&self, location: &ObjectPath, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    /// Reads where the caller stands: engines read where blocking is allowed, and to have each range read by another thread of the
    /// runtime takes longer than to read it. What fails is told as the local store tells it.
    async fn get_ranges(&self, location: &ObjectPath, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        match read_ranges(&self.inner.path_to_filesystem(location)?, ranges) {
            Ok(read) => Ok(read),
            Err(_) => self.inner.get_ranges(location, ranges).await,
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<ObjectPath>>) -> BoxStream<'static, Result<ObjectPath>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &ObjectPath, to: &ObjectPath, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.sync(to).await
    }
}

/// An upload in parts that is synced when it is complete.
#[derive(Debug)]
struct SyncedUpload {
    inner: Box<dyn MultipartUpload>,
    directory: SyncedDirectory,
    location: ObjectPath,
}

#[async_trait]
impl MultipartUpload for SyncedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.inner.complete().await?;
        self.directory.sync(&self.location).await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;

    #[test]
    fn puts_and_gets_with_and_without_a_runtime() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = SyncedDirectory::open(&folder.path().join("files")).expect("opened");
        let path = ObjectPath::from("1/logs/a.parquet");
        let put_and_get = async {
            store.put(&path, "bytes".into()).await.expect("put");
            store.get(&path).await.expect("get").bytes().await.expect("bytes")
        };
        assert_eq!(futures::executor::block_on(put_and_get), "bytes".as_bytes());
    }

    #[tokio::test]
    async fn ranges_are_read_and_what_is_not_there_is_told() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = SyncedDirectory::open(folder.path()).expect("opened");
        let path = ObjectPath::from("3/logs/c.parquet");
        store.put(&path, "0123456789".into()).await.expect("put");
        let read = store.get_ranges(&path, &[2..4, 9..10, 5..5]).await.expect("read");
        assert_eq!(read, ["23", "9", ""]);
        assert!(store.get_ranges(&path, &[0..1, 8..11]).await.is_err());
        let missing = store.get_ranges(&ObjectPath::from("3/logs/d.parquet"), &[0..1, 1..2]).await;
        assert!(matches!(missing, Err(object_store::Error::NotFound { .. })), "{missing:?}");
    }

    #[tokio::test]
    async fn an_upload_in_parts_appears_when_it_is_complete() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = SyncedDirectory::open(folder.path()).expect("opened");
        let path = ObjectPath::from("2/metrics/b.parquet");
        let mut upload = store.put_multipart(&path).await.expect("begun");
        upload.put_part("one".into()).await.expect("part");
        assert!(store.head(&path).await.is_err());
        upload.complete().await.expect("complete");
        assert_eq!(store.head(&path).await.expect("there").size, 3);
    }
}
