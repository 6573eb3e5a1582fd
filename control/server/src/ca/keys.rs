//! The private keys on disk: one PKCS#8 PEM file per authority, 0600, in a directory of mode 0700.
//!
//! A file is complete or absent: it is written beside its place, synced, and renamed. Nothing else in the
//! directory is touched.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use svidecar_authority::key::PrivateKey;
use svidecar_process::private::{check_directory, check_keys};
use zeroize::Zeroizing;

use super::CaError;

/// Most bytes of a key file that are read; RSA with 4096 bits takes 3300.
const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;

/// The directory of the keys.
#[derive(Debug, Clone)]
pub(super) struct KeyDir(PathBuf);

impl KeyDir {
    /// Makes the directory when it is missing. Blocks.
    pub(super) fn open(path: PathBuf) -> Result<Self, CaError> {
        let fail = failure("make the key directory", &path);
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(fail)?;
        check_directory(&path)?;
        let fail = failure("use the key directory", &path);
        let mode = fs::metadata(&path).map_err(&fail)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(CaError::Keys {
                action: "use the key directory",
                reason: format!("others may enter it (mode {:o}); run `chmod 700` on it", mode & 0o777),
                path,
            });
        }
        Ok(Self(path))
    }

    /// Writes a key. Blocks.
    pub(super) fn save(&self, name: &str, key: &PrivateKey) -> Result<(), CaError> {
        self.write(name, &key.to_pkcs8_pem())
    }

    /// Writes a file of keys, PEM. Blocks.
    pub(super) fn write(&self, name: &str, pem: &str) -> Result<(), CaError> {
        let path = self.file(name);
        let beside = path.with_extension("tmp");
        self.put(&path, &beside, pem).inspect_err(|_| {
            // Half a key is of no use; the error that matters is the one that is returned.
            drop(fs::remove_file(&beside));
        })
    }

    fn put(&self, path: &Path, beside: &Path, pem: &str) -> Result<(), CaError> {
        let fail = failure("write the key file", path);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(beside)
            .map_err(&fail)?;
        file.write_all(pem.as_bytes()).map_err(&fail)?;
        file.sync_all().map_err(&fail)?;
        fs::rename(beside, path).map_err(&fail)?;
        File::open(&self.0).and_then(|directory| directory.sync_all()).map_err(&fail)
    }

    /// Reads a key; `None` when there is no such file. Blocks.
    pub(super) fn load(&self, name: &str) -> Result<Option<PrivateKey>, CaError> {
        let Some(pem) = self.read(name)? else { return Ok(None) };
        PrivateKey::from_pem(&pem).map(Some).map_err(|error| self.unreadable(name, &error))
    }

    /// Reads a file of keys, PEM; `None` when there is no such file. Blocks.
    pub(super) fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, CaError> {
        let path = self.file(name);
        let fail = failure("read the key file", &path);
        check_keys(&path)?;
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error)),
        };
        let mut pem = Zeroizing::new(Vec::with_capacity(8192));
        file.take(MAX_KEY_FILE_BYTES).read_to_end(&mut pem).map_err(&fail)?;
        Ok(Some(pem))
    }

    /// That what is in a file cannot be used.
    pub(super) fn unreadable(&self, name: &str, why: &impl ToString) -> CaError {
        CaError::Keys { action: "read the key file", path: self.file(name), reason: why.to_string() }
    }

    /// The names that begin so, in order. Blocks.
    pub(super) fn names(&self, prefix: &str) -> Result<Vec<String>, CaError> {
        let fail = failure("read the key directory", &self.0);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(&fail)? {
            let name = entry.map_err(&fail)?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".pem"));
            names.extend(name.filter(|name| name.starts_with(prefix)).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// Removes a key that signs no more. Blocks.
    pub(super) fn remove(&self, name: &str) -> Result<(), CaError> {
        let path = self.file(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(failure("remove the key file", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Where a key lies.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.pem"))
    }
}

/// Runs what blocks off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CaError> + Send + 'static,
) -> Result<T, CaError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| CaError::Stopping)?
}

fn failure(action: &'static str, path: &Path) -> impl Fn(std::io::Error) -> CaError + use<> {
    let path = path.to_owned();
    move |error| CaError::Keys { action, path: path.clone(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use svidecar_authority::key::KeyType;

    use super::*;

    #[test]
    fn keys_are_private_and_survive() {
        let home = tempfile::tempdir().unwrap();
        let keys = KeyDir::open(home.path().join("data/keys")).unwrap();
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        keys.save("x509-1", &key).unwrap();
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(home.path().join("data/keys")), 0o700);
        assert_eq!(mode(home.path().join("data/keys/x509-1.pem")), 0o600);
        assert_eq!(keys.load("x509-1").unwrap().unwrap().spki_der(), key.spki_der());
        keys.remove("x509-1").unwrap();
        keys.remove("x509-1").unwrap();
        assert!(keys.load("x509-1").unwrap().is_none());
    }

    #[test]
    fn a_directory_that_others_may_enter_is_refused() {
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let error = KeyDir::open(home.path().to_owned()).unwrap_err();
        assert!(error.to_string().contains("chmod 700"), "{error}");
    }

    #[test]
    fn a_broken_key_file_is_named() {
        let home = tempfile::tempdir().unwrap();
        let keys = KeyDir::open(home.path().join("keys")).unwrap();
        let path = home.path().join("keys/x509-1.pem");
        fs::write(&path, "nonsense").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = keys.load("x509-1").err().unwrap();
        assert!(error.to_string().contains("`chmod 600 "), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = keys.load("x509-1").err().unwrap();
        assert!(error.to_string().contains("x509-1.pem"), "{error}");
    }
}
