//! Whether directories and files that decide who a program is are its own, and secret.
//!
//! Owns the rules for owner and mode, and the command that mends what is wrong. It must never mend what is there: whoever
//! could write before has written already.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use svidecar_code::Code;

/// Why something cannot be believed, or is no secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Exposed {
    /// Another user owns it.
    #[error(
        "{} belongs to user {owner}, who can put anything in its place; expected user {expected} or root: \
         `chown {expected} {}`, if what is in it is yours", path.display(), path.display()
    )]
    Owner {
        /// The file or directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who we are.
        expected: u32,
    },
    /// Others may do more with it than they should.
    #[error("{} has mode {mode:04o}, so that others may {may} it: `chmod {mend} {}`", path.display(), path.display())]
    Mode {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// `read` or `change`.
        may: &'static str,
        /// What is wrong with the mode, as chmod takes it away.
        mend: &'static str,
    },
}

impl Exposed {
    /// A stable name for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> Code {
        Code::FileExposed
    }
}

/// Makes a directory that is ours alone, where it is missing. Those above it are for all to go through: another program's data
/// may be beside it.
///
/// # Errors
/// What the system says.
pub fn create_directory(path: &Path) -> io::Result<()> {
    let create = |path, mode| fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    path.parent().map_or(Ok(()), |above| create(above, 0o755))?;
    create(path, 0o700)
}

/// Checks a directory: ours or root's, and written by nobody else. One that is not there passes.
///
/// # Errors
/// [`Exposed`] with what mends it.
pub fn check_directory(path: &Path) -> Result<(), Exposed> {
    check(path, &[Rule { bits: 0o022, may: "change", mend: "go-w" }], fs::Metadata::is_dir)
}

/// Checks a file with keys: ours or root's, and read by nobody else. One that is not there passes, and so does what is no
/// file on a disk, such as a pipe.
///
/// # Errors
/// [`Exposed`] with what mends it.
pub fn check_keys(path: &Path) -> Result<(), Exposed> {
    check(path, &[Rule { bits: 0o077, may: "read", mend: "600" }], fs::Metadata::is_file)
}

/// As [`check_keys`], of a secret that was handed to us: its group may read it, for that is how orchestrators hand it.
///
/// # Errors
/// [`Exposed`] with what mends it.
pub fn check_handed(path: &Path) -> Result<(), Exposed> {
    let rules = [
        Rule { bits: 0o022, may: "change", mend: "o-rwx,g-w" },
        Rule { bits: 0o007, may: "read", mend: "o-rwx" },
    ];
    check(path, &rules, fs::Metadata::is_file)
}

struct Rule {
    bits: u32,
    may: &'static str,
    mend: &'static str,
}

fn check(path: &Path, rules: &[Rule], concerns: fn(&fs::Metadata) -> bool) -> Result<(), Exposed> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) if concerns(&metadata) => metadata,
        // What cannot be looked at is told where it is opened.
        Ok(_) | Err(_) => return Ok(()),
    };
    let us = rustix::process::geteuid().as_raw();
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    let path = path.to_owned();
    if owner != us && owner != 0 {
        return Err(Exposed::Owner { path, owner, expected: us });
    }
    match rules.iter().find(|rule| mode & rule.bits != 0) {
        Some(Rule { may, mend, .. }) => Err(Exposed::Mode { path, mode, may, mend }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::*;

    fn with_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A place of our own.
    fn place(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("svidecar-private-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn what_others_may_do_is_told_with_what_mends_it() {
        let dir = place("modes");
        let file = dir.join("key");
        fs::write(&file, "secret").unwrap();
        let keys = |mode| {
            with_mode(&file, mode);
            check_keys(&file).map_err(|error| error.to_string())
        };
        assert!(keys(0o600).is_ok() && keys(0o400).is_ok());
        assert!(
            keys(0o640)
                .unwrap_err()
                .ends_with(&format!("others may read it: `chmod 600 {}`", file.display()))
        );
        let handed = |mode| {
            with_mode(&file, mode);
            check_handed(&file).map_err(|error| error.to_string())
        };
        assert!(handed(0o440).is_ok());
        assert!(handed(0o644).unwrap_err().contains("`chmod o-rwx "));
        assert!(handed(0o664).unwrap_err().contains("`chmod o-rwx,g-w "));
        let directory = |mode| {
            with_mode(&dir, mode);
            check_directory(&dir).map_err(|error| error.to_string())
        };
        assert!(directory(0o755).is_ok());
        assert!(directory(0o775).unwrap_err().contains("`chmod go-w "));
        assert!(directory(0o1777).unwrap_err().contains("has mode 1777"));
        fs::remove_dir_all(&dir).unwrap();
        assert!(check_keys(&file).is_ok() && check_directory(&dir).is_ok());
    }

    #[test]
    fn another_users_file_is_not_believed() {
        let dir = place("owners");
        if chown(&dir, Some(64_001), None).is_ok() {
            let error = check_directory(&dir).unwrap_err();
            assert!(error.to_string().contains("belongs to user 64001"), "{error}");
        } else {
            println!("skipped: another_users_file_is_not_believed needs root");
        }
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn only_the_last_directory_is_closed_to_others() {
        let base = place("created");
        let path = base.join("svidecar/agent");
        create_directory(&path).unwrap();
        create_directory(&base.join("svidecar/server")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(&base.join("svidecar/server"))), (0o700, 0o700));
        assert_eq!(mode(&base.join("svidecar")) & 0o077, 0o055);
        fs::remove_dir_all(base).unwrap();
    }
}
