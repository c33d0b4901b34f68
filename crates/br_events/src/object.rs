//! The object store, waited for, and with every byte of a file checked as it is read.

use crate::summary::CHECK_BYTES;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use std::ops::Range;
use std::sync::Arc;

/// Waits for what the object store does. Callers are on a pool for blocking work.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

/// What the caller should do about a failed call.
pub(crate) fn store_error(error: object_store::Error) -> br_std::Error {
    let message = error.to_string();
    match error {
        object_store::Error::NotFound { .. } => br_std::Error::not_found(message),
        _ => br_std::Error::retry(message),
    }
    .with_source(error)
}

/// A failed read of a file: either the store was away, or the file is damaged.
pub(crate) fn read_error(error: ParquetError) -> br_std::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<object_store::Error>() {
            Ok(error) => store_error(*error),
            Err(source) => br_std::Error::corrupt(source.to_string()).with_source(source),
        },
        error => br_std::Error::corrupt(error.to_string()).with_source(error),
    }
}

/// Puts a new object; one that is there already is never replaced.
pub(crate) fn put_new(store: &Arc<dyn ObjectStore>, path: &str, bytes: Vec<u8>) -> br_std::Result<()> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    wait(store.put_opts(&Path::from(path), bytes.into(), options)).map_err(store_error)?;
    Ok(())
}

pub(crate) fn get_range(store: &Arc<dyn ObjectStore>, path: &str, range: Range<u64>) -> br_std::Result<Bytes> {
    let path = Path::from(path);
    wait(async {
        match store.get_ranges(&path, std::slice::from_ref(&range)).await {
            Ok(read) => Ok(read.into_iter().next().unwrap_or_default()),
            Err(error) => match size_below(store, &path, range.end).await {
                Some(size) => Err(br_std::Error::corrupt(too_short(size, range.end)).with_source(error)),
                None => Err(store_error(error)),
            },
        }
    })
}

/// The size of a file that ends before `end`. Stores say "wrong range" in words of their own, and as if one could try again.
async fn size_below(store: &Arc<dyn ObjectStore>, path: &Path, end: u64) -> Option<u64> {
    store.head(path).await.ok().map(|found| found.size).filter(|size| *size < end)
}

fn too_short(size: u64, end: u64) -> String {
    format!("the file ends after {size} bytes, before byte {end} that was asked for")
}

/// Reads ranges of the data of a file in whole blocks and compares their checksums.
#[derive(Clone)]
pub(crate) struct CheckedReader {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) path: Path,
    pub(crate) checksums: Arc<[u32]>,
    /// End of the data.
    pub(crate) data_bytes: u64,
    pub(crate) metadata: Arc<ParquetMetaData>,
}

impl CheckedReader {
    pub(crate) async fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ParquetError> {
        let block = CHECK_BYTES as u64;
        let whole: Vec<Range<u64>> = ranges
            .iter()
            .map(|range| range.start / block * block..range.end.next_multiple_of(block).min(self.data_bytes))
            .collect();
        if let Some(range) = ranges.iter().find(|range| range.start > range.end || range.end > self.data_bytes) {
            return Err(ParquetError::General(format!("bytes {range:?} lie outside the data of {} bytes", self.data_bytes)));
        }
        let read = match self.store.get_ranges(&self.path, &whole).await {
            Ok(read) => read,
            Err(error) => {
                let end = whole.iter().map(|range| range.end).max().unwrap_or(0);
                let size = size_below(&self.store, &self.path, end).await;
                return Err(size.map_or_else(
                    || ParquetError::External(Box::new(error)),
                    |size| ParquetError::General(too_short(size, end)),
                ));
            }
        };
        let mut wanted = Vec::with_capacity(ranges.len());
        for ((range, whole), bytes) in ranges.iter().zip(&whole).zip(read) {
            self.check(whole, &bytes)?;
            let from = (range.start - whole.start) as usize;
            wanted.push(bytes.slice(from..from + (range.end - range.start) as usize));
        }
        Ok(wanted)
    }

    fn check(&self, whole: &Range<u64>, bytes: &Bytes) -> Result<(), ParquetError> {
        if bytes.len() as u64 != whole.end - whole.start {
            return Err(ParquetError::General(format!("{} bytes where {whole:?} was asked for", bytes.len())));
        }
        let first = (whole.start / CHECK_BYTES as u64) as usize;
        for (at, block) in bytes.chunks(CHECK_BYTES).enumerate() {
            if self.checksums.get(first + at) != Some(&crc32fast::hash(block)) {
                let place = (first + at) * CHECK_BYTES;
                return Err(ParquetError::General(format!("checksum of the block at byte {place} does not match")));
            }
        }
        Ok(())
    }
}

impl AsyncFileReader for CheckedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            let mut read = self.read(&[range]).await?;
            read.pop().ok_or_else(|| ParquetError::General("the object store gave nothing".into()))
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { self.read(&ranges).await }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let metadata = self.metadata.clone();
        async move { Ok(metadata) }.boxed()
    }
}
