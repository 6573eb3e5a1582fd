//! How the last change of settings and policies went.

/// How the last reload went.
#[derive(Clone, Debug, Default)]
pub struct ReloadStatus {
    /// Plans that were taken into force, the first one included.
    pub generation: u64,
    /// When the last one was, in seconds since the epoch.
    pub since: u64,
    /// Why the newest files are not in force, if they are not.
    pub error: Option<String>,
    /// Reloads that failed.
    pub failures: u64,
}
