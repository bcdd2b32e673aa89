//! The files that the back ends serve: incompressible bytes from a seed, so that any byte out of place shows.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// Names and sizes in bytes. `2GiB` is a hole, for measuring only.
const FILES: [(&str, u64); 8] = [
    ("0B", 0),
    ("1KB", 1_000),
    ("1MB", 1_000_000),
    ("10MB", 10_000_000),
    ("20MB", 20_000_000),
    ("100MB", 100_000_000),
    ("64MiB", 64 << 20),
    ("1GiB", 1 << 30),
];
/// Name and size of the file with holes.
pub(crate) const SPARSE: (&str, u64) = ("2GiB", 2 << 30);

/// A file and what must arrive of it.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// The document root that all back ends share.
pub(crate) struct Content {
    root: PathBuf,
    seed: u64,
    made: BTreeMap<String, File>,
}

impl Content {
    /// Makes the directory, with `a`, `b` and `c` leading back to it, and the sparse file.
    ///
    /// # Errors
    /// When files cannot be written.
    pub(crate) fn create(root: PathBuf, seed: u64) -> anyhow::Result<Self> {
        fs::create_dir(&root)?;
        for pool in super::POOLS {
            std::os::unix::fs::symlink(".", root.join(pool))?;
        }
        fs::File::create(root.join(SPARSE.0))?.set_len(SPARSE.1)?;
        Ok(Self {
            root,
            seed,
            made: BTreeMap::new(),
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes all files now.
    ///
    /// # Errors
    /// When files cannot be written.
    pub(crate) fn make_all(&mut self) -> anyhow::Result<()> {
        FILES
            .iter()
            .try_for_each(|(name, _)| self.file(name).map(drop))
    }

    /// Reads the first `bytes` of the sparse file, so that no measurement waits for the page cache to have them.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn cache_sparse(&self, bytes: u64) -> anyhow::Result<()> {
        let file = fs::File::open(self.root.join(SPARSE.0))?;
        io::copy(&mut file.take(bytes), &mut io::sink())?;
        Ok(())
    }

    /// A file by name, made now if it is not there yet.
    ///
    /// # Errors
    /// When there is none of that name or it cannot be written.
    pub(crate) fn file(&mut self, name: &str) -> anyhow::Result<File> {
        if let Some(file) = self.made.get(name) {
            return Ok(file.clone());
        }
        let &(_, bytes) = FILES
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| anyhow!("there is no file {name}"))?;
        let file = generate(&self.root.join(name), bytes, self.seed ^ bytes)?;
        self.made.insert(name.to_owned(), file.clone());
        Ok(file)
    }
}

/// Writes `bytes` bytes that `seed` determines.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn generate(path: &Path, bytes: u64, seed: u64) -> anyhow::Result<File> {
    let context = || format!("cannot write {}", path.display());
    let mut output = fs::File::create(path).with_context(context)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 16];
    let mut left = bytes;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        let block = &mut block[..length];
        random.fill_bytes(block);
        hash.update(&*block);
        output.write_all(block).with_context(context)?;
        left -= length as u64;
    }
    Ok(File {
        path: path.to_owned(),
        bytes,
        sha256: hex(&hash.finalize()),
    })
}

/// Length and SHA-256 of all that can be read.
///
/// # Errors
/// When reading fails.
pub(crate) fn digest(from: &mut (impl Read + ?Sized)) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        match from.read(&mut block) {
            Ok(0) => return Ok((bytes, hex(&hash.finalize()))),
            Ok(length) => {
                hash.update(&block[..length]);
                bytes += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// SHA-256 of bytes at hand.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_what_is_read() {
        let dir = std::env::temp_dir().join(format!("baton-lab-content-{}", std::process::id()));
        let mut content = Content::create(dir.clone(), 1).unwrap();
        let file = content.file("1MB").unwrap();
        let through_pool = digest(&mut fs::File::open(dir.join("b/1MB")).unwrap()).unwrap();
        let empty = content.file("0B").unwrap();
        let unknown = content.file("3MB");
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(through_pool, (file.bytes, file.sha256));
        assert_eq!(
            empty.sha256,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert!(unknown.is_err());
    }

    #[test]
    fn digest_is_sha256() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(&mut &b"abc"[..]).unwrap(), (3, abc.to_owned()));
        assert_eq!(digest_of(b"abc"), abc);
    }
}
