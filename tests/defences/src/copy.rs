//! A copy of the sources to break things in: the sources themselves are never touched.
//!
//! It stays between runs, and only files that differ are written: cargo goes by their times, and builds again no more
//! than what changed. For the same reason a file that was broken is written back and its time left to be new.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use crate::list::Defence;

/// The copy.
#[derive(Debug)]
pub struct Copy {
    root: PathBuf,
}

impl Copy {
    /// Brings the copy in `to` up to date with what git knows of the sources in `from`, and with files that it would
    /// take in.
    ///
    /// # Errors
    ///
    /// Git cannot list the files, or one cannot be read or written.
    pub fn bring_up_to_date(from: &Path, to: &Path) -> io::Result<Self> {
        let output = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(from)
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        let wanted: BTreeSet<PathBuf> =
            listed.split('\0').filter(|name| from.join(name).is_file()).map(PathBuf::from).collect();
        for name in &wanted {
            let (source, target) = (from.join(name), to.join(name));
            if fs::read(&target).ok().as_deref() != Some(&fs::read(&source)?) {
                fs::create_dir_all(target.parent().expect("a file is in a folder"))?;
                fs::copy(&source, &target)?;
                // A copy has the time of its source, which may be older than what was built of the text before it.
                fs::File::options().append(true).open(&target)?.set_modified(std::time::SystemTime::now())?;
            }
        }
        remove_others(to, to, &wanted)?;
        Ok(Self { root: to.to_owned() })
    }

    /// The root of the copy.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Switches a defence off; returns the text to write back.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written, or its text is not there once.
    pub fn switch_off(&self, defence: &Defence) -> io::Result<String> {
        let file = self.root.join(&defence.file);
        let whole = fs::read_to_string(&file)?;
        if whole.matches(&defence.text).count() != 1 {
            return Err(io::Error::other(format!("{}: the text is not there once", defence.file)));
        }
        fs::write(&file, whole.replacen(&defence.text, &defence.off, 1))?;
        Ok(whole)
    }

    /// Switches it on again.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn switch_on(&self, defence: &Defence, whole: &str) -> io::Result<()> {
        fs::write(self.root.join(&defence.file), whole)
    }
}

/// Removes files that are not wanted: what tests left behind, and what was removed from the sources.
fn remove_others(root: &Path, folder: &Path, wanted: &BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            remove_others(root, &path, wanted)?;
        } else if !wanted.contains(path.strip_prefix(root).expect("it is below the root")) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
