//! Which names, in which directories, lead to a file: its own, and those of the symbolic links on the way.
//!
//! Looks at links, never into a file.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    path::{Component, Path, PathBuf},
};

/// Links that are followed for one file, as many as the kernel follows.
const MOST_LINKS: usize = 40;

/// Names in one directory.
pub type Names = BTreeSet<OsString>;

/// By directory, the names that lead to `files`. A name that is missing counts: it may come.
pub fn of<'a>(files: impl Iterator<Item = &'a Path>) -> BTreeMap<PathBuf, Names> {
    let mut names = BTreeMap::new();
    for file in files {
        let mut path = file.to_owned();
        for _ in 0..MOST_LINKS {
            match follow(&path, &mut names) {
                Some(next) => path = next,
                None => break,
            }
        }
    }
    names
}

/// Notes the names up to the first link on the way, and gives the path that this leads to.
fn follow(path: &Path, names: &mut BTreeMap<PathBuf, Names>) -> Option<PathBuf> {
    let mut walked = PathBuf::new();
    let mut parts = path.components();
    while let Some(part) = parts.next() {
        let directory = walked.clone();
        walked.push(part);
        let Component::Normal(name) = part else { continue };
        let target = fs::read_link(&walked).ok();
        if target.is_some() || parts.as_path().as_os_str().is_empty() {
            let directory =
                if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory.clone() };
            names.entry(directory).or_default().insert(name.to_owned());
        }
        if let Some(target) = target {
            return Some(directory.join(target).join(parts.as_path()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_names_of_all_links_on_the_way_are_known() {
        let directory = tempfile::tempdir().unwrap();
        // The directory itself may be behind a link.
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir(root.join("..v1")).unwrap();
        fs::write(root.join("..v1/a.yaml"), "").unwrap();
        symlink("..v1", root.join("..data")).unwrap();
        symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
        let (linked, missing) = (root.join("a.yaml"), root.join("b.yaml"));
        let names = of([linked.as_path(), &missing].into_iter());
        let names: Vec<(_, Vec<_>)> =
            names.iter().map(|(directory, names)| (directory.clone(), names.iter().collect())).collect();
        let texts: Vec<_> = names
            .iter()
            .map(|(_, names)| names.iter().map(|name| name.to_str().unwrap()).collect())
            .collect::<Vec<Vec<_>>>();
        assert_eq!(
            names.iter().map(|(directory, _)| directory.clone()).collect::<Vec<_>>(),
            [root.clone(), root.join("..v1")]
        );
        assert_eq!(texts, [vec!["..data", "a.yaml", "b.yaml"], vec!["a.yaml"]]);
    }

    #[test]
    fn links_that_lead_in_a_circle_end() {
        let directory = tempfile::tempdir().unwrap();
        symlink("b", directory.path().join("a")).unwrap();
        symlink("a", directory.path().join("b")).unwrap();
        assert!(!of(std::iter::once(directory.path().join("a").as_path())).is_empty());
    }
}
